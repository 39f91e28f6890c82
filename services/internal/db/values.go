package db

import (
	"math/bits"
	"strconv"
	"strings"
)

// Values returns a table of rows, one or more, to stand after FROM, and its
// arguments, numbered from $1. Its columns are column1, column2 and so on, of these
// types: TEXT, BIGINT or BYTEA. As in In their number is filled up to a power of two:
// with rows of NULL, to be left out by WHERE column1 IS NOT NULL.
func (d *DB) Values(types []string, rows [][]any) (table string, args []any) {
	n := 1 << bits.Len(uint(len(rows)-1))
	args = make([]any, n*len(types))
	for i, row := range rows {
		copy(args[i*len(types):], row)
	}
	var b strings.Builder
	b.Grow(7 * len(args))
	b.WriteString("(VALUES ")
	for i := range args {
		switch column := i % len(types); {
		case i == 0:
			b.WriteString("(")
		case column == 0:
			b.WriteString("), (")
		default:
			b.WriteString(", ")
		}
		if i < len(types) { // the types of the first row are those of all
			b.WriteString("CAST(")
		}
		b.WriteString("$" + strconv.Itoa(i+1))
		if i < len(types) {
			b.WriteString(" AS " + d.typeOf(types[i]) + ")")
		}
	}
	b.WriteString(")) AS v")
	return b.String(), args
}

// typeOf returns how a CAST names a type: SQLite takes what it does not know for a number.
func (d *DB) typeOf(name string) string {
	if name == "BYTEA" && !d.remote {
		return "BLOB"
	}
	return name
}

package db

import (
	"math/bits"
	"strconv"
	"strings"
)

// In returns the placeholders, numbered from $1, and the arguments of an IN list of
// one value or more. Their number is filled up to a power of two with the last
// value: a statement for each number would be as many for the database to keep.
func In(values []string) (places string, args []any) {
	n := 1 << bits.Len(uint(len(values)-1))
	marks, args := make([]string, n), make([]any, n)
	for i := range n {
		marks[i], args[i] = "$"+strconv.Itoa(i+1), values[min(i, len(values)-1)]
	}
	return strings.Join(marks, ", "), args
}

package list

import (
	"fmt"
	"strings"

	"go.einride.tech/aip/ordering"

	"github.com/meshmart/meshmart/services/internal/fault"
)

// maxOrder is how long an order_by may be, in bytes.
const maxOrder = 1000

// sortKey is a column that rows are sorted by.
type sortKey struct {
	column string
	kind   Kind
	desc   bool
}

// order returns what orderBy sorts by. The last one is the Key of the Spec, so
// that no two rows are alike; it runs the way of the one before it, so that an
// index over both serves, read forwards or backwards.
func (s *Spec) order(orderBy string) ([]sortKey, error) {
	given := strings.TrimSpace(orderBy) != ""
	if !given {
		orderBy = s.Order
	}
	keys, err := s.sortKeys(strings.TrimSpace(orderBy))
	if err != nil && !given {
		return nil, fmt.Errorf("default order: %s", err)
	}
	if err != nil {
		return nil, err
	}
	desc := false
	for _, k := range keys {
		if k.column == s.Key { // what follows can't matter
			return keys, nil
		}
		desc = k.desc
	}
	return append(keys, sortKey{column: s.Key, kind: String, desc: desc}), nil
}

func (s *Spec) sortKeys(orderBy string) ([]sortKey, error) {
	if len(orderBy) > maxOrder {
		return nil, fault.Invalid("order_by", "must not be longer than %d bytes", maxOrder)
	}
	var parsed ordering.OrderBy
	if err := parsed.UnmarshalString(orderBy); err != nil {
		return nil, fault.Invalid("order_by", `must be fields separated by commas, each with "desc" after it or not`)
	}
	var keys []sortKey
	seen := map[string]bool{}
	for _, p := range parsed.Fields {
		f, ok := s.Fields[p.Path]
		switch {
		case !ok || !f.Sort:
			return nil, fault.Invalid("order_by", "can't sort by %q; there is: %s", p.Path, s.names(func(f Field) bool { return f.Sort }))
		case seen[f.Column]:
			return nil, fault.Invalid("order_by", "names %q twice", p.Path)
		}
		seen[f.Column] = true
		keys = append(keys, sortKey{column: f.Column, kind: f.Kind, desc: p.Desc})
	}
	return keys, nil
}

// clause is a condition in SQL, with "?" for each of its arguments.
type clause struct {
	sql  string
	args []any
}

// afterRow returns the condition that a row comes after the one with these
// values of the keys.
//
// Where all keys run the same way, that is a comparison of rows, for which
// both engines use an index. Else it is written out, one key at a time, with a
// bound on the first that an index can be used for.
func afterRow(keys []sortKey, values []any) clause {
	for _, k := range keys[1:] {
		if k.desc != keys[0].desc {
			c := afterKeys(keys, values)
			return clause{
				sql:  keys[0].column + " " + keys[0].after() + "= ? AND " + c.sql,
				args: append([]any{values[0]}, c.args...),
			}
		}
	}
	if len(keys) == 1 {
		return afterKeys(keys, values)
	}
	marks := strings.Repeat(", ?", len(keys))[2:]
	return clause{sql: "(" + columns(keys) + ") " + keys[0].after() + " (" + marks + ")", args: values}
}

// afterKeys writes a > ? OR a = ? AND (b > ? OR b = ? AND (...)).
func afterKeys(keys []sortKey, values []any) clause {
	k := keys[0]
	first := clause{sql: k.column + " " + k.after() + " ?", args: values[:1:1]}
	if len(keys) == 1 {
		return first
	}
	rest := afterKeys(keys[1:], values[1:])
	return clause{
		sql:  "(" + first.sql + " OR " + k.column + " = ? AND " + rest.sql + ")",
		args: append([]any{values[0], values[0]}, rest.args...),
	}
}

// after returns the comparison that what comes after a value fulfils.
func (k sortKey) after() string {
	if k.desc {
		return "<"
	}
	return ">"
}

// orderBy returns the keys as they stand after ORDER BY.
func orderBy(keys []sortKey) string {
	terms := make([]string, len(keys))
	for i, k := range keys {
		terms[i] = k.column
		if k.desc {
			terms[i] += " DESC"
		}
	}
	return strings.Join(terms, ", ")
}

// columns returns the columns of the keys, as they stand after SELECT.
func columns(keys []sortKey) string {
	names := make([]string, len(keys))
	for i, k := range keys {
		names[i] = k.column
	}
	return strings.Join(names, ", ")
}

package list

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Query is a List request that makes sense.
type Query struct {
	size   int
	filter clause // empty: all rows
	order  []sortKey
	after  clause // empty: from the first row on
	print  string // what a page token must belong to
}

// Limit returns how many items the page may have.
func (q *Query) Limit() int { return q.size }

// Keys returns the columns that [Scan] reads the next page token from. They
// stand last in the SELECT.
func (q *Query) Keys() string { return columns(q.order) }

// Page returns what follows the table in the SELECT of the page, from WHERE to
// LIMIT, and its arguments. The service's own condition comes with arguments
// $1 and following of its own; it may be empty. One row more than the page has
// is read, to know whether there is a next page.
func (q *Query) Page(cond string, args ...any) (string, []any) {
	where, all := where(cond, args, q.filter, q.after)
	all = append(all, q.size+1)
	return where + " ORDER BY " + orderBy(q.order) + " LIMIT $" + strconv.Itoa(len(all)), all
}

// Whole reports whether a page with that next token has all the rows there are, so
// that nobody need count them.
func (q *Query) Whole(next string) bool { return q.after.sql == "" && next == "" }

// Count returns the SELECT that counts the rows of all pages, up to 1,000 of
// them, and its arguments. The condition is that of Page.
func (q *Query) Count(table, cond string, args ...any) (string, []any) {
	where, all := where(cond, args, q.filter)
	return fmt.Sprintf("SELECT COUNT(*) FROM (SELECT 1 FROM %s%s LIMIT %d) AS counted", table, where, maxCount), all
}

// where joins a condition that has its numbered arguments with clauses that
// get theirs after those.
func where(cond string, args []any, more ...clause) (string, []any) {
	var all []string
	if cond != "" {
		all = append(all, "("+cond+")")
	}
	args = slices.Clone(args)
	for _, c := range more {
		if c.sql != "" {
			all = append(all, "("+numbered(c.sql, len(args))+")")
			args = append(args, c.args...)
		}
	}
	if all == nil {
		return "", args
	}
	return " WHERE " + strings.Join(all, " AND "), args
}

// numbered replaces the marks of a clause by $n, counted from after n.
func numbered(sql string, n int) string {
	var b strings.Builder
	for i, part := range strings.Split(sql, "?") {
		if i > 0 {
			b.WriteString("$" + strconv.Itoa(n+i))
		}
		b.WriteString(part)
	}
	return b.String()
}

// Row is a row that can be read, as a *sql.Rows or *sql.Row.
type Row interface {
	Scan(dest ...any) error
}

// Rows are what a SELECT returned, as *sql.Rows.
type Rows interface {
	Row
	Next() bool
	Err() error
	Close() error
}

// Scan reads the rows of a page of q and closes them. It returns the items and
// the next_page_token, which is empty on the last page. scan reads an item from
// the columns before q.Keys().
func Scan[T any](q *Query, rows Rows, scan func(Row) (T, error)) ([]T, string, error) {
	defer rows.Close()
	row := keyed{rows, q.values()}
	items := make([]T, 0, min(q.size, defaultSize))
	next := ""
	for rows.Next() {
		if len(items) == q.size { // the row that only shows that there are more
			next = q.token(row.keys)
			break
		}
		item, err := scan(row)
		if err != nil {
			return nil, "", fmt.Errorf("read row %d: %w", len(items), err)
		}
		items = append(items, item)
	}
	if err := rows.Err(); err != nil {
		return nil, "", fmt.Errorf("read rows: %w", err)
	}
	return items, next, nil
}

// keyed is a row whose last columns are its keys.
type keyed struct {
	row  Row
	keys []any // pointers
}

func (k keyed) Scan(dest ...any) error { return k.row.Scan(slices.Concat(dest, k.keys)...) }

// values returns where to read the keys of a row to.
func (q *Query) values() []any {
	values := make([]any, len(q.order))
	for i, k := range q.order {
		values[i] = new(int64)
		if k.kind == String {
			values[i] = new(string)
		}
	}
	return values
}

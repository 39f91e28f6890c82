// Package list turns the fields of a List request into SQL: filter (AIP-160),
// order_by (AIP-132), page_size and page_token (AIP-158).
//
// A [Spec] says which fields may be filtered and sorted by, and in which columns
// they are. Nothing else of a request becomes SQL text: its values are
// parameters. Pages are found by key, not counted off by OFFSET: the token says
// after which row a page begins, so page 1,000 costs what page 1 does, and rows
// that come or go in between neither repeat others nor hide them.
//
// The SQL is the same for SQLite and PostgreSQL. A service does no more than
//
//	q, err := products.Parse(req)
//	...
//	tail, args := q.Page("deleted = $1", false)
//	rows, err := db.Query(ctx, "SELECT id, name, "+q.Keys()+" FROM products"+tail, args...)
//	...
//	items, next, err := list.Scan(q, rows, func(r list.Row) (p Product, err error) {
//		return p, r.Scan(&p.ID, &p.Name)
//	})
package list

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/meshmart/meshmart/services/internal/fault"
)

const (
	defaultSize = 50   // rows of a page, unless asked for
	maxSize     = 1000 // rows of a page, whatever is asked for
	maxCount    = 1000 // rows of all pages: to count more would cost more than the page
)

// Kind is what a field holds, and so how it compares.
type Kind int

const (
	// String is text in a TEXT column. It compares by bytes or as the
	// database collates; ":" finds a part of it in any case (of ASCII
	// letters; of others where the database knows them).
	String Kind = iota
	// Int is a number in a BIGINT column, which holds it times Scale.
	Int
	// Time is an instant in a BIGINT column, in microseconds since 1970.
	Time
	// Enum is one of Values. It is equal or not, and has no order.
	Enum
)

// Field is something that a List request may name.
type Field struct {
	Column string         // in SQL, NOT NULL
	Kind   Kind           // what it holds
	Scale  int64          // Int only: 1,000,000 for micros of a unit; 0 is 1
	Values map[string]any // Enum only: what is stored for each name
	Filter bool           // may be filtered by
	Sort   bool           // may be sorted by; not an Enum
}

// Named returns the values of an Enum whose names are stored as they are.
func Named(names ...string) map[string]any {
	values := make(map[string]any, len(names))
	for _, n := range names {
		values[n] = n
	}
	return values
}

// Spec says how a kind of resource can be listed. Its zero fields are good for
// a list in the order of the key without filter.
type Spec struct {
	Fields map[string]Field // by their names in the API, such as "price.units"
	Order  string           // the order_by that an empty one stands for; empty: by Key
	Key    string           // a TEXT column that is unique; makes every order total
}

// Request is what every List request has.
type Request interface {
	GetPageSize() int32
	GetPageToken() string
	GetFilter() string
	GetOrderBy() string
}

// Parse returns the query that r asks for, or a fault (INVALID_ARGUMENT) that
// names page_size, filter, order_by or page_token, and in the text what is wrong
// with it. Any other error is a mistake in the Spec.
func (s *Spec) Parse(r Request) (*Query, error) {
	if r.GetPageSize() < 0 {
		return nil, fault.Invalid("page_size", "must not be negative")
	}
	size := int(r.GetPageSize())
	if size == 0 {
		size = defaultSize
	}
	order, err := s.order(r.GetOrderBy())
	if err != nil {
		return nil, err
	}
	filter, err := s.filter(r.GetFilter())
	if err != nil {
		return nil, err
	}
	q := &Query{size: min(size, maxSize), filter: filter, order: order}
	q.print = fingerprint(r.GetFilter(), order)
	if q.after, err = q.begin(r.GetPageToken()); err != nil {
		return nil, err
	}
	return q, nil
}

// Check returns what is wrong with the Spec itself, for the tests of whoever
// wrote it.
func (s *Spec) Check() error {
	if s.Key == "" {
		return fmt.Errorf("no key")
	}
	for _, name := range slices.Sorted(maps.Keys(s.Fields)) {
		f := s.Fields[name]
		switch {
		case f.Column == "":
			return fmt.Errorf("field %s: no column", name)
		case (f.Kind == Enum) != (len(f.Values) > 0):
			return fmt.Errorf("field %s: values are for an enum, and an enum needs them", name)
		case f.Kind == Enum && f.Sort:
			return fmt.Errorf("field %s: an enum has no order", name)
		case f.Scale < 0 || f.Scale > 0 && f.Kind != Int:
			return fmt.Errorf("field %s: scale %d", name, f.Scale)
		}
	}
	_, err := s.order("")
	return err
}

// names lists the fields that may be used so, for those who tried another.
func (s *Spec) names(use func(Field) bool) string {
	var names []string
	for name, f := range s.Fields {
		if use(f) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return "none"
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

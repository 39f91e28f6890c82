package db

import (
	"context"
	"fmt"
	"runtime/debug"
)

// Gatherer has what is to be done in one transaction for several done at once: for who
// must lock rows in an order of their own, or can do for all what costs as much for one.
type Gatherer[T any] struct {
	// Flush does it for all, in the order in which they were added. It is called
	// before the transaction is committed, which its error undoes.
	Flush func(ctx context.Context, tx *DB, all []T) error
}

// gathered is what was added.
type gathered struct {
	by    any
	item  any
	flush func(ctx context.Context, tx *DB, items []any) error
}

// Add has item flushed with the others of the transaction, and not at all if it is
// undone before. Outside of one Flush is called at once, in one of its own.
func (g *Gatherer[T]) Add(ctx context.Context, tx *DB, item T) error {
	if tx.tx == nil {
		return tx.InTx(ctx, func(tx *DB) error { return g.Add(ctx, tx, item) })
	}
	tx.tx.gathered = append(tx.tx.gathered, gathered{by: g, item: item, flush: g.flush})
	return nil
}

// flush turns a panic into an error: whoever has added something has returned, and
// can't.
func (g *Gatherer[T]) flush(ctx context.Context, tx *DB, items []any) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic before the commit: %v\n%s", p, debug.Stack())
		}
	}()
	all := make([]T, len(items))
	for i, item := range items {
		all[i] = item.(T)
	}
	return g.Flush(ctx, tx, all)
}

// flush has done what was gathered.
func (d *DB) flush(ctx context.Context) error {
	for len(d.tx.gathered) > 0 {
		first := d.tx.gathered[0]
		var items []any
		var rest []gathered
		for _, it := range d.tx.gathered {
			if it.by == first.by {
				items = append(items, it.item)
			} else {
				rest = append(rest, it)
			}
		}
		d.tx.gathered = rest
		if err := first.flush(ctx, d, items); err != nil {
			return err
		}
	}
	return nil
}

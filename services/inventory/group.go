package inventory

import (
	"context"

	"github.com/meshmart/meshmart/services/internal/effect"
	"github.com/meshmart/meshmart/services/internal/idem"
)

// verb is what is to be done for an order.
type verb int

const (
	reserving verb = iota
	committing
	releasing
)

// change is something to be done for an order, together with others.
type change struct {
	ctx     context.Context // of who has asked for it
	verb    verb
	orderID string
	items   []Item // to reserve, in their order

	// What became of it.
	err      error // a fault: it was refused
	replayed bool  // it had been made before
}

// done reports whether the change was made, now.
func (c *change) done() bool { return c.err == nil && !c.replayed }

// together makes changes in one transaction, each as if it were made by itself after
// those before it. It returns nil if nothing was done, for a reason that may be that of
// one of them.
func (v *Inventory) together(ctx context.Context, all []*change) []error {
	ctx = effect.Track(ctx)
	err := v.store.inTx(ctx, func(tx *store) error {
		tx.impatient(ctx)
		return v.settle(ctx, tx, all)
	})
	lasts := effect.Noted(ctx)
	if err != nil && !lasts && !isOutage(err) {
		return nil
	}
	errs := make([]error, len(all))
	for i, c := range all {
		if errs[i] = err; err == nil {
			errs[i] = c.tell()
		}
		if lasts && (err != nil || c.done()) {
			effect.Note(c.ctx)
		}
	}
	return errs
}

// change makes a change in tx by itself, of an order that is known.
func (v *Inventory) change(ctx context.Context, tx *store, c *change) error {
	if c.verb == committing {
		return v.commit(ctx, tx, c.orderID)
	}
	return v.release(ctx, tx, c.orderID)
}

// tell returns how the change is answered.
func (c *change) tell() error {
	if c.replayed {
		idem.Replayed(c.ctx)
	}
	return c.err
}

// settle makes changes in tx. All who change stock lock first the orders and then the
// products, each kind in its order, so that no two wait for each other.
func (v *Inventory) settle(ctx context.Context, tx *store, all []*change) error {
	l := &ledger{orders: map[string]*booking{}, stocks: map[string]*shelf{}}
	if err := v.open(ctx, tx, l, all); err != nil {
		return err
	}
	for _, c := range all {
		c.err, c.replayed = nil, false // the transaction may be a repetition
		l.book(c)
	}
	return v.close(ctx, tx, l)
}

// open locks and reads what the changes are about.
func (v *Inventory) open(ctx context.Context, tx *store, l *ledger, all []*change) error {
	claims := map[string]state{}
	for _, c := range all {
		if l.orders[c.orderID] = (&booking{}); claims[c.orderID] == "" {
			claims[c.orderID] = c.claim()
		}
	}
	fresh, err := tx.claim(ctx, claims, v.clock())
	if err != nil {
		return err
	}
	for _, id := range fresh {
		l.orders[id].stored = claims[id]
	}
	if err := l.known(ctx, tx); err != nil {
		return err
	}
	stocks, err := tx.lockStocks(ctx, l.products(all))
	for _, s := range stocks {
		l.stocks[s.ProductID] = &shelf{Stock: s, was: s}
	}
	return err
}

// claim is how an order is recorded that was not heard of, before anything else: of
// two transactions the second waits there for the first. "": a commit does not.
func (c *change) claim() state {
	switch c.verb {
	case reserving:
		return stateReserved
	case releasing:
		return stateReleased
	}
	return ""
}

// known locks and reads the orders that were heard of before.
func (l *ledger) known(ctx context.Context, tx *store) error {
	states, err := tx.lockReservations(ctx, l.where(func(b *booking) bool { return b.stored == "" }))
	if err != nil {
		return err
	}
	for id, st := range states {
		l.orders[id].state, l.orders[id].stored = st, st
	}
	items, err := tx.itemsOf(ctx, l.where(func(b *booking) bool { return b.state != "" && !b.state.over() }))
	for id, its := range items {
		l.orders[id].items = its
	}
	return err
}

// close writes what has changed.
func (v *Inventory) close(ctx context.Context, tx *store, l *ledger) error {
	if err := tx.moveStocks(ctx, l.moved(), v.clock()); err != nil {
		return err
	}
	for _, st := range []state{stateReserved, stateCommitted, stateReleased, stateReturned} {
		ids := l.where(func(b *booking) bool { return b.state == st && b.stored != st })
		if err := tx.setReservations(ctx, ids, st, v.clock()); err != nil {
			return err
		}
	}
	if err := tx.forget(ctx, l.where(func(b *booking) bool { return b.state == "" && b.stored != "" })); err != nil {
		return err
	}
	if err := tx.addAllItems(ctx, l.reserved); err != nil {
		return err
	}
	return v.events.all(ctx, tx, l.news)
}

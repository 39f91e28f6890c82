package inventory

import (
	"context"
	"slices"
	"strconv"

	"github.com/meshmart/meshmart/services/internal/fault"
	"github.com/meshmart/meshmart/services/internal/idem"
)

// Reserve sets every item aside for the order, or none: then the fault says
// which is OUT_OF_STOCK or PRODUCT_UNAVAILABLE. Repeating it changes nothing;
// once the order was released it is refused with ORDER_RELEASED.
func (v *Inventory) Reserve(ctx context.Context, orderID string, items []Item) error {
	items, err := canonical(items)
	if err != nil {
		return err
	}
	alone := func() error {
		err := v.store.inTx(ctx, func(tx *store) error { return v.reserve(ctx, tx, orderID, items) })
		if isDuplicate(err) {
			return reservedBefore(ctx, v.store, orderID, items)
		}
		return err
	}
	return v.writes.Do(ctx, &change{ctx: ctx, verb: reserving, orderID: orderID, items: items}, alone, v.together)
}

func (v *Inventory) reserve(ctx context.Context, tx *store, orderID string, items []Item) error {
	if err := tx.recordReservation(ctx, orderID, v.clock()); err != nil {
		return err
	}
	for _, it := range items {
		if err := v.take(ctx, tx, it); err != nil {
			return err
		}
	}
	if err := tx.addItems(ctx, orderID, items); err != nil {
		return err
	}
	return v.events.one(ctx, tx, reserving, orderID, items)
}

// reservedBefore answers a repetition.
func reservedBefore(ctx context.Context, store *store, orderID string, items []Item) error {
	st, err := store.reservation(ctx, orderID)
	if err != nil {
		return err
	}
	had, err := store.items(ctx, orderID)
	if err == nil {
		err = again(orderID, st, had, items)
	}
	if err == nil {
		idem.Replayed(ctx)
	}
	return err
}

// again decides on a repetition, for an order that had reserved something or was
// released.
func again(orderID string, st state, had, items []Item) error {
	switch {
	case st.over():
		return released(orderID)
	case !slices.Equal(had, items):
		return fault.Violations(fault.Violation{
			Field: "items", Reason: reasonOrderReused, Text: "the order has reserved other items before",
		})
	}
	return nil
}

func released(orderID string) error {
	return fault.Refused(reasonOrderReleased, "order %s has nothing reserved", orderID).With("order_id", orderID)
}

// take moves an item from available to reserved. The statement decides; what
// was read when it did not is only to say why, so if that has changed
// meanwhile the statement is asked again.
func (v *Inventory) take(ctx context.Context, tx *store, it Item) error {
	for {
		ok, err := tx.take(ctx, it, v.clock())
		if err != nil || ok {
			return err
		}
		s, found, err := tx.find(ctx, it.ProductID)
		if err == nil {
			err = refusal(s, found, it)
		}
		if err != nil {
			return err
		}
	}
}

// refusal says why an item can't be had, or nil.
func refusal(s Stock, found bool, it Item) error {
	switch {
	case !found || s.Discontinued:
		return fault.Refused(reasonUnavailable, "product %s can't be ordered", it.ProductID).With("product_id", it.ProductID)
	case s.Available < it.Quantity:
		return fault.Refused(reasonOutOfStock, "only %d of %s are left", s.Available, it.ProductID).
			With("product_id", it.ProductID).With("available", strconv.FormatInt(s.Available, 10))
	}
	return nil
}

// Release makes available again what the order had reserved or bought. An
// order that had neither is remembered as released.
func (v *Inventory) Release(ctx context.Context, orderID string) error {
	alone := func() error {
		return v.store.inTx(ctx, func(tx *store) error { return v.release(ctx, tx, orderID) })
	}
	return v.writes.Do(ctx, &change{ctx: ctx, verb: releasing, orderID: orderID}, alone, v.together)
}

func (v *Inventory) release(ctx context.Context, tx *store, orderID string) error {
	// The tombstone first: of two transactions the second waits here for the
	// first, and then sees what it has done.
	fresh, err := tx.addReservation(ctx, orderID, stateReleased, v.clock())
	if err != nil || fresh {
		return err
	}
	from := reserved
	ok, err := tx.setReservation(ctx, orderID, stateReserved, stateReleased, v.clock())
	if err == nil && !ok {
		from = sold
		ok, err = tx.setReservation(ctx, orderID, stateCommitted, stateReturned, v.clock())
	}
	if err != nil {
		return err
	}
	if !ok { // it was released before
		idem.Replayed(ctx)
		return nil
	}
	items, err := v.moveAll(ctx, tx, orderID, from, available)
	if err != nil {
		return err
	}
	return v.events.one(ctx, tx, releasing, orderID, items)
}

// Commit makes what the order had reserved sold. Repeating it changes nothing;
// without a reservation it is refused with ORDER_RELEASED.
func (v *Inventory) Commit(ctx context.Context, orderID string) error {
	alone := func() error {
		return v.store.inTx(ctx, func(tx *store) error { return v.commit(ctx, tx, orderID) })
	}
	return v.writes.Do(ctx, &change{ctx: ctx, verb: committing, orderID: orderID}, alone, v.together)
}

func (v *Inventory) commit(ctx context.Context, tx *store, orderID string) error {
	ok, err := tx.setReservation(ctx, orderID, stateReserved, stateCommitted, v.clock())
	if err != nil {
		return err
	}
	if !ok {
		st, err := tx.reservation(ctx, orderID)
		if err != nil {
			return err
		}
		if st != stateCommitted {
			return released(orderID)
		}
		idem.Replayed(ctx)
		return nil
	}
	items, err := v.moveAll(ctx, tx, orderID, reserved, sold)
	if err != nil {
		return err
	}
	return v.events.one(ctx, tx, committing, orderID, items)
}

// moveAll moves all items of the order and returns them.
func (v *Inventory) moveAll(ctx context.Context, tx *store, orderID string, from, to place) ([]Item, error) {
	items, err := tx.items(ctx, orderID)
	if err != nil {
		return nil, err
	}
	for _, it := range items {
		if err := tx.move(ctx, it, from, to, v.clock()); err != nil {
			return nil, err
		}
	}
	return items, nil
}

package inventory

import (
	"context"
	"strconv"

	"github.com/meshmart/meshmart/services/internal/fault"
	"github.com/meshmart/meshmart/services/internal/idem"
)

// SetRequest asks for a number of available items.
type SetRequest struct {
	ProductID string
	Available int64  // 0 to maxAvailable
	ETag      string // that the stock must still have; empty: whatever it has
	Key       idem.Key
}

// Set makes so many available. What is reserved or sold stays so, and stocked
// moves by the difference. A product that was not heard of yet is added.
func (v *Inventory) Set(ctx context.Context, req SetRequest) (Stock, error) {
	return v.store.once(ctx, req.Key, func(tx *store) (Stock, error) {
		s, err := v.set(ctx, tx, req)
		if err != nil {
			return Stock{}, err
		}
		return s, v.events.changed(ctx, tx, s)
	})
}

func (v *Inventory) set(ctx context.Context, tx *store, req SetRequest) (Stock, error) {
	if req.ETag == "" {
		return v.count(ctx, tx, req.ProductID, req.Available)
	}
	stale := fault.Aborted(reasonStaleETag, "the stock of %s has changed since it was read", req.ProductID)
	version, err := strconv.ParseInt(req.ETag, 10, 64)
	if err != nil {
		return Stock{}, stale // an etag that was never given out
	}
	s, ok, err := tx.setIf(ctx, req.ProductID, req.Available, version, v.clock())
	if err != nil || ok {
		return s, err
	}
	now, found, err := tx.find(ctx, req.ProductID)
	switch {
	case err != nil:
		return Stock{}, err
	case found && now.Version == version:
		return Stock{}, tooMany("available")
	}
	return Stock{}, stale
}

// count stores that so many are available, whatever was known before.
func (v *Inventory) count(ctx context.Context, tx *store, productID string, n int64) (Stock, error) {
	s, ok, err := tx.set(ctx, productID, n, v.clock())
	if err == nil && !ok {
		err = tooMany("available")
	}
	return s, err
}

func tooMany(field string) error {
	return fault.Invalid(field, "would make more than there can be of a product")
}

// AdjustRequest asks for more or fewer available items.
type AdjustRequest struct {
	ProductID string
	Delta     int64 // not 0
	Key       idem.Key
}

// Adjust adds to what is available, or takes from it: NOT_ENOUGH if there are
// fewer. A product that was not heard of is NOT_FOUND.
func (v *Inventory) Adjust(ctx context.Context, req AdjustRequest) (Stock, error) {
	return v.store.once(ctx, req.Key, func(tx *store) (Stock, error) {
		s, err := v.adjust(ctx, tx, req)
		if err != nil {
			return Stock{}, err
		}
		return s, v.events.changed(ctx, tx, s)
	})
}

// adjust asks the statement and, if that does not, why; see take.
func (v *Inventory) adjust(ctx context.Context, tx *store, req AdjustRequest) (Stock, error) {
	for {
		s, ok, err := tx.adjust(ctx, req.ProductID, req.Delta, v.clock())
		if err != nil || ok {
			return s, err
		}
		s, err = tx.stock(ctx, req.ProductID)
		switch {
		case err != nil:
			return Stock{}, err
		case s.Available+req.Delta < 0:
			return Stock{}, fault.Refused(reasonNotEnough, "only %d of %s are available", s.Available, req.ProductID).
				With("product_id", req.ProductID).With("available", strconv.FormatInt(s.Available, 10))
		case s.Available+req.Delta > maxAvailable || s.Stocked+req.Delta > maxStocked:
			return Stock{}, tooMany("delta")
		}
	}
}

// Count is what a warehouse has counted.
type Count struct {
	Source    string
	Sequence  int64 // rises with each count of the source
	ProductID string
	Available int64 // 0 to maxAvailable
}

// Counted is what became of a Count.
type Counted struct {
	Count
	Applied bool  // false: it had been stored before
	Stock   Stock // after it; zero if it was not applied and the product is not known
}

// Sync stores counts in their order, in one transaction. If one is refused,
// Sync returns what became of those before it, which are stored, and the fault.
func (v *Inventory) Sync(ctx context.Context, counts []Count) ([]Counted, error) {
	var done []Counted
	var refusal error
	err := v.store.inTx(ctx, func(tx *store) error {
		done, refusal = nil, nil // the transaction may be a repetition
		if err := tx.lockCounted(ctx, counts); err != nil {
			return err
		}
		for _, c := range counts {
			r, err := v.sync(ctx, tx, c)
			if fault.As(err) != nil {
				refusal = err
				return nil
			}
			if err != nil {
				return err
			}
			done = append(done, r)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return done, refusal
}

// sync stores one count, or undoes what it has done of it.
func (v *Inventory) sync(ctx context.Context, tx *store, c Count) (Counted, error) {
	r := Counted{Count: c}
	err := tx.inTx(ctx, func(tx *store) error {
		fresh, err := tx.advance(ctx, c.Source, c.Sequence, v.clock())
		if err != nil {
			return err
		}
		if !fresh {
			r.Stock, _, err = tx.find(ctx, c.ProductID)
			return err
		}
		r.Applied = true
		if r.Stock, err = v.count(ctx, tx, c.ProductID, c.Available); err != nil {
			return err
		}
		return v.events.changed(ctx, tx, r.Stock)
	})
	return r, err
}

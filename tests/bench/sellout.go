package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	inventorypb "github.com/meshmart/meshmart/proto/inventory/v1"
	orderpb "github.com/meshmart/meshmart/proto/order/v1"
	"github.com/meshmart/meshmart/tests/bench/rig"
)

// Speed is worth nothing if more is sold than there is: some hundred pieces are
// put on sale, and half as many orders again come at once.
const (
	pieces    = 200
	enough    = 1_000_000 // of a product that is not to be sold out
	wanted    = pieces * 3 / 2
	sellOutBy = 64 // clients
)

// SoldOut is how that ended.
type SoldOut struct {
	On       string `json:"on"`
	Pieces   int64  `json:"pieces"`
	Accepted int64  `json:"accepted"`
	Refused  int64  `json:"refused"` // as there was none left
	Left     int64  `json:"left"`
}

// sellOut does so on each engine.
func (b *bench) sellOut(ctx context.Context) error {
	for _, on := range []where{onPostgres, onSQLite} {
		t := b.targets[on]
		if t == nil {
			continue
		}
		b.say("sellout on %s", on)
		s, err := soldOut(ctx, t, t.products[len(t.products)-1])
		if err != nil {
			return fmt.Errorf("on %s: %w", on, err)
		}
		s.On = string(on)
		b.results.SoldOut = append(b.results.SoldOut, s)
	}
	return nil
}

func soldOut(ctx context.Context, t *target, product string) (SoldOut, error) {
	stocks, shut, err := t.dial("inventory", 1)
	if err != nil {
		return SoldOut{}, err
	}
	defer shut()
	inventory := inventorypb.NewInventoryServiceClient(stocks[0])
	admin, err := t.logIn(ctx, rig.AdminEmail, rig.AdminPassword)
	if err != nil {
		return SoldOut{}, err
	}
	set := func(n int32) error {
		_, err := inventory.SetStock(signed(ctx, admin), &inventorypb.SetStockRequest{ProductId: product, Available: &n})
		if err != nil {
			return fmt.Errorf("set the stock: %w", err)
		}
		return nil
	}
	if err := set(pieces); err != nil {
		return SoldOut{}, err
	}
	s, err := rush(ctx, t, product)
	if err != nil {
		return SoldOut{}, err
	}
	stock, err := inventory.GetStock(ctx, &inventorypb.GetStockRequest{ProductId: product})
	if err != nil {
		return SoldOut{}, fmt.Errorf("get the stock: %w", err)
	}
	s.Pieces, s.Left = pieces, int64(stock.GetStock().GetAvailable())
	return s, set(enough) // for whoever orders next
}

// rush places the orders.
func rush(ctx context.Context, t *target, product string) (SoldOut, error) {
	var s SoldOut
	ccs, shut, err := t.dial("order", sellOutBy)
	if err != nil {
		return s, err
	}
	defer shut()
	var next, accepted, refused atomic.Int64
	ctx = signed(ctx, t.tokens[0])
	err = inParallel(sellOutBy, func(client int) error {
		for next.Add(1) <= wanted {
			_, err := place(ctx, orderpb.NewOrderServiceClient(ccs[client%len(ccs)]), product)
			switch {
			case errors.Is(err, errOutOfStock):
				refused.Add(1)
			case err != nil:
				return err
			default:
				accepted.Add(1)
			}
		}
		return nil
	})
	s.Accepted, s.Refused = accepted.Load(), refused.Load()
	return s, err
}

package inventory

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	orderpb "github.com/meshmart/meshmart/proto/order/v1"
	productpb "github.com/meshmart/meshmart/proto/product/v1"
	"github.com/meshmart/meshmart/services/internal/db"
	"github.com/meshmart/meshmart/services/internal/events"
)

// hear handles an event as the bus does, in a transaction.
func hear(ctx context.Context, inv *Inventory, subject string, m proto.Message) error {
	data, err := proto.Marshal(m)
	if err != nil {
		return err
	}
	l := newListener(inv, slog.New(slog.DiscardHandler))
	return inv.store.db.InTx(ctx, func(tx *db.DB) error {
		return l.handle(ctx, tx, events.Event{ID: "e", Subject: subject, Data: data})
	})
}

func created(n int32) (string, proto.Message) {
	return "product.created", &productpb.ProductCreated{Product: &productpb.Product{Id: hat}, InitialStock: n}
}

func deleted() (string, proto.Message) {
	return "product.deleted", &productpb.ProductDeleted{Product: &productpb.Product{Id: hat}}
}

func TestProductEvents(t *testing.T) {
	set := func(ctx context.Context, inv *Inventory) error {
		_, err := inv.Set(ctx, SetRequest{ProductID: hat, Available: 3})
		return err
	}
	create := func(ctx context.Context, inv *Inventory) error {
		subject, m := created(9)
		return hear(ctx, inv, subject, m)
	}
	remove := func(ctx context.Context, inv *Inventory) error {
		subject, m := deleted()
		return hear(ctx, inv, subject, m)
	}
	// The catalog brings the product back, later than all the others.
	revive := func(ctx context.Context, inv *Inventory) error {
		return hear(ctx, inv, "product.created", &productpb.ProductCreated{
			Product: &productpb.Product{Id: hat, UpdateTime: timestamppb.New(time.Unix(1, 0))}, InitialStock: 7,
		})
	}
	type step = func(context.Context, *Inventory) error
	tests := []struct {
		name  string
		steps []step
		want  Stock
	}{
		{"created", []step{create}, Stock{Available: 9, Version: 1}},
		{"created twice", []step{create, create}, Stock{Available: 9, Version: 1}},
		{"created after it was counted", []step{set, create}, Stock{Available: 3, Version: 1}},
		{"created, then counted", []step{create, set}, Stock{Available: 3, Version: 2}},
		{"deleted", []step{create, remove}, Stock{Available: 9, Version: 2, Discontinued: true}},
		{"deleted twice", []step{create, remove, remove}, Stock{Available: 9, Version: 2, Discontinued: true}},
		{"deleted before it was created", []step{remove, create}, Stock{Version: 1, Discontinued: true}},
		{"brought back", []step{create, remove, revive}, Stock{Available: 7, Version: 3}},
		{"brought back before it was deleted", []step{create, revive, remove}, Stock{Available: 9, Version: 1}},
		{"brought back twice", []step{create, remove, revive, set, revive}, Stock{Available: 3, Version: 4}},
		{"counted after it was deleted", []step{create, remove, set}, Stock{Available: 3, Version: 3, Discontinued: true}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			each(t, func(t *testing.T, inv *Inventory) {
				for _, s := range tt.steps {
					if err := s(t.Context(), inv); err != nil {
						t.Fatal(err)
					}
				}
				got, err := inv.store.stock(t.Context(), hat)
				if err != nil {
					t.Fatal(err)
				}
				tt.want.ProductID, tt.want.Stocked = hat, tt.want.Available
				if diff := cmp.Diff(tt.want, got, ignoreTimes); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}

// An order that took 4 of 10 mugs; its events come in any order, more than once.
func TestOrderEvents(t *testing.T) {
	tests := []struct {
		subjects []string
		want     [3]int64
	}{
		{[]string{"order.confirmed"}, [3]int64{6, 0, 4}},
		{[]string{"order.confirmed", "order.confirmed"}, [3]int64{6, 0, 4}},
		{[]string{"order.rejected"}, [3]int64{10, 0, 0}},
		{[]string{"order.confirmed", "order.cancelled"}, [3]int64{10, 0, 0}},
		{[]string{"order.cancelled", "order.confirmed"}, [3]int64{10, 0, 0}},
		{[]string{"order.cancelled", "order.cancelled", "order.rejected"}, [3]int64{10, 0, 0}},
	}
	each(t, func(t *testing.T, inv *Inventory) {
		for i, tt := range tests {
			o := &orderpb.Order{Id: string(rune('a' + i))}
			if err := inv.Reserve(t.Context(), o.GetId(), []Item{{mug, 4}}); err != nil {
				t.Fatal(err)
			}
			for _, subject := range tt.subjects {
				// The field is the same in all three messages.
				if err := hear(t.Context(), inv, subject, &orderpb.OrderConfirmed{Order: o}); err != nil {
					t.Errorf("%s: %v", subject, err)
				}
			}
			check(t, inv, mug, tt.want)
			if err := inv.Release(t.Context(), o.GetId()); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestEventsOfOrdersThatReservedNothing(t *testing.T) {
	each(t, func(t *testing.T, inv *Inventory) {
		for _, subject := range []string{"order.confirmed", "order.cancelled", "order.rejected"} {
			o := &orderpb.Order{Id: "of " + subject}
			if err := hear(t.Context(), inv, subject, &orderpb.OrderConfirmed{Order: o}); err != nil {
				t.Errorf("%s: %v", subject, err)
			}
		}
		err := inv.Reserve(t.Context(), "of order.rejected", []Item{{mug, 1}})
		if got := outcome(err); got != "FailedPrecondition ORDER_RELEASED" {
			t.Errorf("reservation after the rejection: %s", got)
		}
	})
}

func TestMalformedEventsAreDropped(t *testing.T) {
	each(t, func(t *testing.T, inv *Inventory) {
		tests := map[string]proto.Message{
			"product.created": &productpb.ProductCreated{Product: &productpb.Product{Id: hat}, InitialStock: -1},
			"product.deleted": &productpb.ProductDeleted{},
			"order.rejected":  &orderpb.OrderRejected{},
			"order.cancelled": &orderpb.OrderCancelled{},
			"order.created":   &orderpb.OrderCreated{}, // not asked for
		}
		for subject, m := range tests {
			if err := hear(t.Context(), inv, subject, m); !errors.Is(err, events.ErrMalformed) {
				t.Errorf("%s: %v", subject, err)
			}
		}
		l := newListener(inv, slog.New(slog.DiscardHandler))
		for _, subject := range heard() {
			err := l.handle(t.Context(), inv.store.db, events.Event{Subject: subject, Data: []byte{0xff}})
			if !errors.Is(err, events.ErrMalformed) {
				t.Errorf("%s of noise: %v", subject, err)
			}
		}
	})
}

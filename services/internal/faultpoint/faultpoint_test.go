package faultpoint

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPointsCarryTheNameOfTheirService(t *testing.T) {
	var got []string
	h := Hook(func(p string) { got = append(got, p) })
	h.At("after send of ", "order.created")
	order := h.Named("order")
	order.At("before call of ", "a")
	ctx := order.In(t.Context(), "ledger", " of ", "order.created")
	order.At("after commit of f", Work(ctx))
	order.At("after commit of g", Work(t.Context()))
	want := []string{
		"after send of order.created",
		"order: before call of a",
		"order: after commit of f in ledger of order.created",
		"order: after commit of g",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestWithoutAHookNothingIsDone(t *testing.T) {
	var h Hook
	ctx, subject := t.Context(), "order."+t.Name()
	if h.Named("order") != nil {
		t.Error("a nil hook got a name")
	}
	var inner context.Context
	n := testing.AllocsPerRun(100, func() {
		h.At("after send of ", subject)
		inner = h.In(ctx, "ledger", " of ", subject)
	})
	if n != 0 || inner != ctx {
		t.Errorf("got %v allocations and the ctx %v", n, inner)
	}
}

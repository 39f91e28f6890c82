package fault

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestFaultSurvivesTheWire(t *testing.T) {
	faults := []*Error{
		Invalid("items[1].quantity", "must be at most %d", 1000),
		Violations(Violation{"a", "R", "wrong"}, Violation{"b", "", "missing"}),
		Malformed("not JSON"),
		NotFound("order %s does not exist", "7"),
		Exists("SKU_TAKEN", "taken"),
		Refused("OUT_OF_STOCK", "none left").With("product_id", "7").With("available", "0"),
		Aborted("STALE_ETAG", "somebody was faster"),
		OutOfRange("resume_token", "too old"),
		Unauthenticated("TOKEN_EXPIRED", "sign in again"),
		Denied("ADMIN_REQUIRED", "for administrators"),
		Exhausted(3*time.Second, "slow down"),
	}
	for _, want := range faults {
		got := As(FromStatus(want.GRPCStatus().Err()))
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(Error{})); diff != "" {
			t.Errorf("%v arrives as (-sent +received):\n%s", want, diff)
		}
	}
}

func TestMachineryIsNoFault(t *testing.T) {
	for _, c := range []codes.Code{codes.Unavailable, codes.Internal, codes.Unknown, codes.DeadlineExceeded, codes.Canceled, codes.DataLoss} {
		if f := As(FromStatus(status.Error(c, "x"))); f != nil {
			t.Errorf("%v became the fault %v", c, f)
		}
	}
	if err := errors.New("plain"); FromStatus(err) != err {
		t.Error("an error without a status was changed")
	}
}

func TestWrappedFaultKeepsItsMeaning(t *testing.T) {
	err := fmt.Errorf("order 7: %w", Refused("OUT_OF_STOCK", "none left"))
	if Code(err) != codes.FailedPrecondition || Reason(err) != "OUT_OF_STOCK" {
		t.Errorf("%v: code %v, reason %q", err, Code(err), Reason(err))
	}
	if Code(nil) != codes.OK || Code(errors.New("x")) != codes.Unknown || Reason(errors.New("x")) != "" {
		t.Error("nil or a plain error has a meaning")
	}
}

func TestWithLeavesTheOriginal(t *testing.T) {
	e := Refused("R", "text").With("a", "1")
	if f := e.With("b", "2"); len(e.meta) != 1 || len(f.meta) != 2 {
		t.Errorf("metadata %v and %v", e.meta, f.meta)
	}
}

package payment

import (
	"context"
	"strings"
	"testing"
)

// A caller that leaves while the processor acts has not taken the change back: it
// was recorded before, and a worker sees it through, once.
func TestCallerThatLeavesDoesNotStopAChangeUnderWay(t *testing.T) {
	tests := []struct {
		before, word string
		want         state
		ledger       string
	}{
		{"authorize", "capture", captured, "AUTHORIZE CAPTURE"},
		{"authorize", "void", voided, "AUTHORIZE VOID"},
		{"authorize capture", "refund", refunded, "AUTHORIZE CAPTURE REFUND"},
	}
	each(t, func(t *testing.T, b *bench) {
		b.work(t, b.worker)
		for _, tt := range tests {
			for word := range strings.FieldsSeq(tt.before) {
				if _, err := b.step(t.Context(), word, tt.word); err != nil {
					t.Fatal(err)
				}
			}
			ctx, leave := context.WithCancel(t.Context())
			b.shaky.mu.Lock()
			b.shaky.hold = func(string) { leave() } // it has acted, and its answer is lost
			b.shaky.mu.Unlock()
			if _, err := b.step(ctx, tt.word, tt.word); outcome(err) != "Aborted PROCESSOR_UNAVAILABLE" {
				t.Errorf("%s: got %v", tt.word, err)
			}
			b.shaky.mu.Lock()
			b.shaky.hold = nil
			b.shaky.mu.Unlock()
			eventually(t, string(tt.want), func() bool { return b.get(t, tt.word).State == tt.want })
			if got := b.ledger(t, tt.word); got != tt.ledger {
				t.Errorf("%s: ledger %s, want %s", tt.word, got, tt.ledger)
			}
		}
		b.balanced(t, []string{"capture", "void", "refund"})
	})
}

// A caller that has left before its change was recorded has changed nothing.
func TestCallerThatHasLeftChangesNothing(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		if _, err := b.Authorize(t.Context(), request("o1")); err != nil {
			t.Fatal(err)
		}
		ctx, leave := context.WithCancel(t.Context())
		leave()
		for _, word := range []string{"authorize", "capture", "void"} {
			if _, err := b.step(ctx, word, "o1"); err == nil {
				t.Errorf("%s: no error", word)
			}
		}
		if p := b.get(t, "o1"); p.State != authorized || len(b.shaky.calls) != 1 {
			t.Errorf("the payment is %s after the calls %v", p.State, b.shaky.calls)
		}
	})
}

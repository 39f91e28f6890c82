package payment

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	orderpb "github.com/meshmart/meshmart/proto/order/v1"
	"github.com/meshmart/meshmart/services/internal/db"
	"github.com/meshmart/meshmart/services/internal/events"
	"github.com/meshmart/meshmart/services/internal/traceparent"
)

// confirm handles order.confirmed as the bus does, in a transaction.
func (b *bench) confirm(ctx context.Context, orderID string) error {
	data, err := proto.Marshal(&orderpb.OrderConfirmed{Order: &orderpb.Order{Id: orderID}})
	if err != nil {
		return err
	}
	l := &listener{payments: b.Payments, log: slog.New(slog.DiscardHandler)}
	return b.store.db.InTx(ctx, func(tx *db.DB) error {
		return l.handle(ctx, tx, events.Event{ID: "e", Subject: "order.confirmed", Data: data})
	})
}

func TestConfirmedOrderIsCaptured(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		b.work(t, b.worker)
		if _, err := b.Authorize(t.Context(), request("o1")); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if err := b.confirm(t.Context(), "o1"); err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, "captured", func() bool { return b.get(t, "o1").State == captured })
		if err := b.confirm(t.Context(), "o1"); err != nil {
			t.Error(err)
		}
		if got := b.announced(t); got != "authorized captured" {
			t.Errorf("announced %q", got)
		}
		b.balanced(t, []string{"o1"})
	})
}

func TestConfirmationOfWhatCannotBeCaptured(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		for _, word := range []string{"void", "decline"} {
			if _, err := b.step(t.Context(), word, word); err != nil {
				t.Fatal(err)
			}
			if err := b.confirm(t.Context(), word); err != nil {
				t.Errorf("%s: %v", word, err)
			}
		}
		if err := b.confirm(t.Context(), "nobody's"); err != nil {
			t.Errorf("without a payment: %v", err)
		}
		b.shaky.lose = func(string, int) (bool, bool) { return true, false }
		_, _ = b.Authorize(t.Context(), request("pending"))
		if err := b.confirm(t.Context(), "pending"); err == nil {
			t.Error("a confirmation that overtook the answer is not to come again")
		}
	})
}

// One trace goes from the order through the event and the worker.
func TestCaptureBelongsToTheTraceOfTheOrder(t *testing.T) {
	const trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	each(t, func(t *testing.T, b *bench) {
		if _, err := b.Authorize(t.Context(), request("o1")); err != nil {
			t.Fatal(err)
		}
		if err := b.confirm(traceparent.Restore(t.Context(), trace), "o1"); err != nil {
			t.Fatal(err)
		}
		if len(b.worker.handed) != 1 {
			t.Error("the worker has not got it")
		}
		b.work(t, b.worker)
		eventually(t, "captured", func() bool { return b.get(t, "o1").State == captured })
		if b.shaky.trace != trace {
			t.Errorf("the processor was called in the trace %q", b.shaky.trace)
		}
		headers := b.column(t, `SELECT headers FROM outbox ORDER BY id`)
		if !contains(headers[1], trace) {
			t.Errorf("the event is in the trace %s", headers[1])
		}
	})
}

// The process was killed after the wish was recorded, or after the processor
// had acted: the next one takes it up when the lease has ended.
func TestWorkerTakesUpWhatACrashLeft(t *testing.T) {
	crashes := map[string]func(*bench, Payment) error{
		"before the processor acted": func(*bench, Payment) error { return nil },
		"after the processor acted": func(b *bench, p Payment) error {
			_, err := b.act(context.Background(), p)
			return err
		},
	}
	ways := []struct{ before, during, done state }{
		{authorized, voiding, voided},
		{authorized, capturing, captured},
		{captured, refunding, refunded},
	}
	for name, crash := range crashes {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, b *bench) {
				var orders []string
				for _, way := range ways {
					order := string(way.done)
					if _, err := b.Authorize(t.Context(), request(order)); err != nil {
						t.Fatal(err)
					}
					if way.before == captured {
						if _, err := b.Capture(t.Context(), order); err != nil {
							t.Fatal(err)
						}
					}
					p, err := b.store.begin(t.Context(), b.get(t, order), wish{to: way.during, due: time.Now().Add(100 * time.Millisecond)})
					if err != nil || p.State != way.during {
						t.Fatalf("%s, %v", p.State, err)
					}
					if err := crash(b, p); err != nil {
						t.Fatal(err)
					}
					orders = append(orders, order)
				}
				b.work(t, b.worker)
				for _, way := range ways {
					eventually(t, string(way.done), func() bool { return b.get(t, string(way.done)).State == way.done })
				}
				b.balanced(t, orders)
			})
		})
	}
}

func TestWorkerLeavesAloneWhatIsLeased(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		if _, err := b.Authorize(t.Context(), request("o1")); err != nil {
			t.Fatal(err)
		}
		now := time.Now()
		if _, err := b.store.begin(t.Context(), b.get(t, "o1"), wish{to: capturing, due: now.Add(time.Minute)}); err != nil {
			t.Fatal(err)
		}
		if got, err := b.store.claim(t.Context(), 10, now, now.Add(time.Hour)); len(got) != 0 || err != nil {
			t.Errorf("claimed %v, %v", got, err)
		}
		due, ok, err := b.store.nextDue(t.Context())
		if !ok || err != nil || !due.Equal(now.Add(time.Minute).Truncate(time.Microsecond)) {
			t.Errorf("next due %v, %t, %v", due, ok, err)
		}
		for i, want := range []int{1, 0} { // who claims it has it
			got, err := b.store.claim(t.Context(), 10, now.Add(2*time.Minute), now.Add(time.Hour))
			if len(got) != want || err != nil {
				t.Errorf("claim %d: %v, %v", i, got, err)
			}
		}
	})
}

// What has waited for longer than its lease is whoever's who has found it since.
func TestWorkerLeavesWhatItWasHandedTooLate(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		if _, err := b.Authorize(t.Context(), request("o1")); err != nil {
			t.Fatal(err)
		}
		if err := b.confirm(t.Context(), "o1"); err != nil {
			t.Fatal(err)
		}
		b.clock = func() time.Time { return time.Now().Add(time.Minute) }
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { b.worker.serve(ctx, &wg) })
		eventually(t, "taken", func() bool { return len(b.worker.handed) == 0 })
		cancel()
		wg.Wait()
		b.shaky.mu.Lock()
		defer b.shaky.mu.Unlock()
		if n := b.shaky.counted("capture"); n != 0 {
			t.Errorf("%d captures", n)
		}
	})
}

func TestWorkersShareTheWork(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		orders := names("o", 60)
		together(6, func(i int) {
			for _, o := range orders[i*10 : i*10+10] {
				if _, err := b.Authorize(t.Context(), request(o)); err != nil {
					t.Error(err)
				}
				if err := b.confirm(t.Context(), o); err != nil {
					t.Error(err)
				}
			}
		})
		for range 3 { // replicas
			w := newWorker()
			w.payments = b.Payments
			b.work(t, w)
		}
		eventually(t, "all captured", func() bool {
			return len(b.column(t, `SELECT id FROM payments WHERE state = 'CAPTURED'`)) == len(orders)
		})
		b.shaky.mu.Lock()
		defer b.shaky.mu.Unlock()
		if n := b.shaky.counted("capture"); n != len(orders) {
			t.Errorf("%d calls for %d payments", n, len(orders))
		}
	})
}

func TestWorkerTriesAgainUntilItSucceeds(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		b.shaky.lose = func(op string, n int) (bool, bool) { return op == "capture" && n <= 2, op == "capture" && n == 3 }
		b.work(t, b.worker)
		if _, err := b.Authorize(t.Context(), request("o1")); err != nil {
			t.Fatal(err)
		}
		if err := b.confirm(t.Context(), "o1"); err != nil {
			t.Fatal(err)
		}
		eventually(t, "captured", func() bool { return b.get(t, "o1").State == captured })
		b.balanced(t, []string{"o1"})
	})
}

func TestWorkerWaitsLongerEachTime(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		if _, err := b.Authorize(t.Context(), request("o1")); err != nil {
			t.Fatal(err)
		}
		p, err := b.store.begin(t.Context(), b.get(t, "o1"), wish{to: capturing})
		for _, atLeast := range []time.Duration{firstPause, 2 * firstPause, 4 * firstPause} {
			if err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			if err := b.postpone(t.Context(), p); err != nil {
				t.Fatal(err)
			}
			due, ok, dueErr := b.store.nextDue(t.Context())
			// A half more by chance, and the time that this took.
			if wait := due.Sub(start); !ok || dueErr != nil || wait < atLeast-time.Millisecond || wait > 2*atLeast+5*time.Second {
				t.Errorf("waits %v, want %v and a little more; %v", wait, atLeast, dueErr)
			}
			p, err = b.known(t.Context(), "o1")
		}
		p.attempts = 1 << 40
		if err := b.postpone(t.Context(), p); err != nil {
			t.Error(err)
		}
	})
}

func TestWorkerFinishesWhatItHasBegunWhenItIsStopped(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		acting, goOn := make(chan struct{}), make(chan struct{})
		if _, err := b.Authorize(t.Context(), request("o1")); err != nil {
			t.Fatal(err)
		}
		b.shaky.hold = func(string) { close(acting); <-goOn }
		stop := b.work(t, b.worker)
		if err := b.confirm(t.Context(), "o1"); err != nil {
			t.Fatal(err)
		}
		<-acting
		go func() { time.Sleep(20 * time.Millisecond); close(goOn) }()
		stop()
		b.balanced(t, []string{"o1"})
	})
}

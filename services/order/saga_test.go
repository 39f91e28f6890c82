package order

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/meshmart/meshmart/services/internal/db"
)

func TestOutageDelaysTheDecision(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		w := newWorld()
		failures := map[string]int{"reserve": 1, "authorize": 1, "authorize!": 1}
		w.failing(func(name string) bool { failures[name]--; return failures[name] >= 0 })
		o := place(t, working(t, w.replica(d)))
		w.wants(t, o, Confirmed, "", "reserved", "authorized")
		if o.Version != 2 || w.calls["authorize"] != 3 {
			t.Errorf("version %d after calls %v", o.Version, w.calls)
		}
	})
}

func TestOutageThatLastsIsRejectedAndUndone(t *testing.T) {
	for _, tt := range []struct{ out, reason, stock, money string }{
		{"reserve", "INVENTORY_UNAVAILABLE", "released", ""},
		{"reserve!", "INVENTORY_UNAVAILABLE", "released", ""},
		{"authorize", "PAYMENT_UNAVAILABLE", "released", "void"},
		{"authorize!", "PAYMENT_UNAVAILABLE", "released", "void"},
	} {
		t.Run(tt.out, func(t *testing.T) {
			each(t, func(t *testing.T, d *db.DB) {
				w := newWorld()
				undo := map[string]int{"void": 1, "void!": 1, "release": 1} // these fail too, at first
				w.failing(func(name string) bool { undo[name]--; return name == tt.out || undo[name] >= 0 })
				s := w.replica(d)
				s.decideWithin = 100 * time.Millisecond
				w.wants(t, place(t, working(t, s)), Rejected, tt.reason, tt.stock, tt.money)
			})
		})
	}
}

// crashing ends the saga's goroutine dead at the n-th time that it comes to the
// point.
func (w *world) crashing(point string, n int32) {
	var seen atomic.Int32
	w.mu.Lock()
	defer w.mu.Unlock()
	w.at = func(_ context.Context, name string) error {
		if name == point && seen.Add(1) == n {
			runtime.Goexit()
		}
		return nil
	}
}

// TestCrashAnywhereIsFinishedByAnother ends a process at every point of the saga
// and has another one find what it left.
func TestCrashAnywhereIsFinishedByAnother(t *testing.T) {
	good := func(*world) {}
	declined := func(w *world) { w.decline = "CARD_DECLINED" }
	soldOut := func(w *world) { w.soldOut = true }
	for _, tt := range []struct {
		name          string
		with          func(*world)
		cancel        bool // once it is confirmed, and captured
		points        []string
		state         State
		reason        string
		stock, money  string
		wantAnnounced []State
	}{
		{"good", good, false, []string{"reserve", "reserve!", "authorize", "authorize!"},
			Confirmed, "", "reserved", "authorized", []State{Pending, Confirmed}},
		{"declined", declined, false, []string{"reserve!", "authorize", "release", "release!"},
			Rejected, "CARD_DECLINED", "released", "declined", []State{Pending, Rejected}},
		{"sold out", soldOut, false, []string{"reserve", "release", "release!"},
			Rejected, "OUT_OF_STOCK", "released", "", []State{Pending, Rejected}},
		{"cancel", good, true, []string{"void", "refund", "refund!", "release", "release!"},
			Cancelled, "CANCELLED_BY_USER", "released", "refunded", []State{Pending, Confirmed, Cancelling, Cancelled}},
	} {
		for _, point := range tt.points {
			t.Run(tt.name+"/"+point, func(t *testing.T) {
				each(t, func(t *testing.T, d *db.DB) {
					w := newWorld()
					tt.with(w)
					w.crashing(point, 1)
					dead := w.replica(d)
					ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
					defer cancel()
					if tt.cancel {
						ctx = within(t)
					}
					o, err := dead.Place(ctx, request())
					if err != nil {
						t.Fatal(err)
					}
					if tt.cancel {
						w.capture(o.ID)
						ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
						defer cancel()
						if _, err := dead.Cancel(ctx, o.ID, "CANCELLED_BY_USER", ""); err != nil {
							t.Fatal(err)
						}
					}
					if o, _ := dead.store.order(t.Context(), o.ID); o.step == stepDone {
						t.Fatalf("it did not crash: order is %s, calls %v", o.State, w.calls)
					}
					heir := working(t, w.heir(d))
					w.wants(t, settled(t, heir, o.ID), tt.state, tt.reason, tt.stock, tt.money)
					w.told(t, o.ID, tt.wantAnnounced...)
				})
			})
		}
	}
}

// held blocks the first call at the point until the result is closed.
func (w *world) held(point string) (reached, release chan struct{}) {
	reached, release = make(chan struct{}), make(chan struct{})
	var seen atomic.Bool
	w.mu.Lock()
	defer w.mu.Unlock()
	w.at = func(_ context.Context, name string) error {
		if name == point && !seen.Swap(true) {
			close(reached)
			<-release
		}
		return nil
	}
	return reached, release
}

// A process is paused in the middle of a call, another takes its order over and
// ends it, and then the first goes on.
func TestPausedSagaDoesNoHarm(t *testing.T) {
	for _, point := range []string{"reserve", "reserve!", "authorize", "authorize!"} {
		t.Run(point, func(t *testing.T) {
			each(t, func(t *testing.T, d *db.DB) {
				w := newWorld()
				reached, release := w.held(point)
				paused := w.replica(d)
				o := unstarted(t, paused)
				paused.start(t.Context(), o)
				<-reached
				heir := working(t, w.heir(d))
				want := settled(t, heir, o.ID)
				w.wants(t, want, Confirmed, "", "reserved", "authorized")
				close(release)
				paused.close()
				got := settled(t, heir, o.ID)
				if diff := cmp.Diff(got.revision, want.revision); diff != "" {
					t.Errorf("the one that was paused has written: %s", diff)
				}
				w.wants(t, got, Confirmed, "", "reserved", "authorized")
			})
		})
	}
}

func TestCancelInEachState(t *testing.T) {
	cancel := func(t *testing.T, s *Orders, id string) (Order, error) {
		t.Helper()
		return s.Cancel(within(t), id, "CANCELLED_BY_USER", "")
	}
	each(t, func(t *testing.T, d *db.DB) {
		w := newWorld()
		s := w.replica(d)
		confirmed := place(t, s)
		o, err := cancel(t, s, confirmed.ID)
		if err != nil {
			t.Fatal(err)
		}
		w.wants(t, o, Cancelled, "CANCELLED_BY_USER", "released", "void")
		again, err := cancel(t, s, o.ID)
		if err != nil || again.Version != o.Version {
			t.Errorf("cancelled again: version %d, %v", again.Version, err)
		}

		completed := place(t, s)
		w.capture(completed.ID)
		hear(t, s, completed.ID)
		o, err = cancel(t, s, completed.ID)
		if err != nil {
			t.Fatal(err)
		}
		w.wants(t, o, Cancelled, "CANCELLED_BY_USER", "released", "refunded")
		hear(t, s, o.ID) // too late
		w.wants(t, settled(t, s, o.ID), Cancelled, "CANCELLED_BY_USER", "released", "refunded")

		w.soldOut = true
		if _, err := cancel(t, s, place(t, s).ID); reasonOf(err) != "ORDER_REJECTED" {
			t.Errorf("rejected: %v", err)
		}
	})
}

// hear has the service hear that the order's stock is sold and its payment
// captured.
func hear(t *testing.T, s *Orders, id string) {
	t.Helper()
	for _, note := range []func(context.Context, *store, string) error{s.noteCommitted, s.noteCaptured} {
		if err := s.store.inTx(t.Context(), func(tx *store) error { return note(t.Context(), tx, id) }); err != nil {
			t.Error(err)
		}
	}
}

// An order is cancelled while its saga is in the middle of a call, which takes
// effect only after the cancellation is through: what was undone refuses it.
func TestCancelWhilePending(t *testing.T) {
	for _, tt := range []struct{ point, money string }{
		{"reserve", ""}, {"reserve!", ""}, {"authorize", "void"}, {"authorize!", "void"},
	} {
		t.Run(tt.point, func(t *testing.T) {
			each(t, func(t *testing.T, d *db.DB) {
				w := newWorld()
				reached, release := w.held(tt.point)
				s := w.replica(d)
				o := unstarted(t, s)
				s.start(t.Context(), o)
				<-reached
				o, err := s.Cancel(within(t), o.ID, "CANCELLED_BY_USER", "")
				if err != nil {
					t.Fatal(err)
				}
				w.wants(t, o, Cancelled, "CANCELLED_BY_USER", "released", tt.money)
				close(release)
				s.close()
				w.wants(t, settled(t, s, o.ID), Cancelled, "CANCELLED_BY_USER", "released", tt.money)
			})
		})
	}
}

func TestCancelRacesWithCompletion(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		w := newWorld()
		s := working(t, w.replica(d))
		for range 25 {
			o := place(t, s)
			var wg sync.WaitGroup
			wg.Go(func() {
				if w.capture(o.ID) {
					hear(t, s, o.ID)
				}
			})
			for range 2 {
				wg.Go(func() {
					if _, err := s.Cancel(within(t), o.ID, "CANCELLED_BY_USER", ""); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			got := settled(t, s, o.ID)
			money := "void"
			if w.money[o.ID] == "refunded" {
				money = "refunded"
			}
			w.wants(t, got, Cancelled, "CANCELLED_BY_USER", "released", money)
		}
	})
}

func TestCaptureRefusedTakesTheOrderBack(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		w := newWorld()
		s := working(t, w.replica(d))
		o := place(t, s)
		for range 2 {
			err := s.store.inTx(t.Context(), func(tx *store) error { return s.captureRefused(t.Context(), tx, o.ID, "no funds") })
			if err != nil {
				t.Fatal(err)
			}
		}
		got := until(t, s, o.ID, func(o Order) bool { return o.State == Cancelled })
		w.wants(t, got, Cancelled, "PAYMENT_FAILED", "released", "void")
	})
}

func TestWorkersShareWhatACrashLeft(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		w := newWorld()
		var ids []string
		for range 60 {
			ids = append(ids, unstarted(t, w.replica(d)).ID)
		}
		var perReplica [2]atomic.Int32
		var heirs []*Orders
		for i := range perReplica {
			s := w.heir(d)
			s.stock = counting{w, &perReplica[i]}
			heirs = append(heirs, working(t, s))
		}
		for _, id := range ids {
			w.wants(t, settled(t, heirs[0], id), Confirmed, "", "reserved", "authorized")
		}
		if w.overlaps != 0 || w.calls["reserve"] != len(ids) || w.calls["authorize"] != len(ids) {
			t.Errorf("%d overlaps, calls %v", w.overlaps, w.calls)
		}
		t.Logf("one replica has done %d, the other %d", perReplica[0].Load(), perReplica[1].Load())
	})
}

type counting struct {
	stock
	n *atomic.Int32
}

func (c counting) Reserve(ctx context.Context, id string, items []Item) error {
	c.n.Add(1)
	return c.stock.Reserve(ctx, id, items)
}

// A replica that shuts down hands over what it is at, at once.
func TestCloseHandsOver(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		w := newWorld()
		reached, release := w.held("reserve!")
		leaving := w.replica(d)
		o := unstarted(t, leaving)
		leaving.start(t.Context(), o)
		<-reached
		leaving.closing.Store(true)
		close(release)
		leaving.close()
		got, err := leaving.store.order(t.Context(), o.ID)
		if err != nil || got.step != stepAuthorize || got.due.After(time.Now()) {
			t.Errorf("at %s, due in %v, %v", got.step, time.Until(got.due), err)
		}
		w.wants(t, settled(t, working(t, w.replica(d)), o.ID), Confirmed, "", "reserved", "authorized")
	})
}

func TestPanicLeavesTheOrderToAnother(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		w := newWorld()
		panics := atomic.Bool{}
		panics.Store(true)
		w.failing(func(string) bool {
			if panics.Swap(false) {
				panic("a bug")
			}
			return false
		})
		s := w.replica(d)
		o := unstarted(t, s)
		s.start(t.Context(), o)
		s.close()
		w.wants(t, settled(t, working(t, w.heir(d)), o.ID), Confirmed, "", "reserved", "authorized")
	})
}

func TestScheduleGrowsAndIsBounded(t *testing.T) {
	s := newWorld().replica(nil)
	now := time.Now()
	s.clock = func() time.Time { return now }
	var waits []time.Duration
	for _, attempts := range []int{1, 2, 3, 100} {
		o := Order{progress: progress{step: stepReserve, attempts: attempts}}
		next, goOn := s.schedule(o, o)
		if goOn {
			t.Error("goes on without an outcome")
		}
		waits = append(waits, next.due.Sub(s.now()))
	}
	if !slices.IsSorted(waits) || waits[0] < firstWait/2 || waits[3] > 2*mostWait {
		t.Error(fmt.Sprint(waits))
	}
}

// No call outlives the lease that it is made under, even if the service called
// never answers.
func TestCallEndsBeforeTheLease(t *testing.T) {
	w := newWorld()
	w.at = func(ctx context.Context, _ string) error { <-ctx.Done(); return ctx.Err() }
	s := w.replica(nil)
	due := s.now().Add(leaseRest + 50*time.Millisecond)
	_, err := s.try(t.Context(), Order{progress: progress{step: stepReserve, due: due}})
	if err == nil || s.now().After(due) {
		t.Errorf("it ended %v after the lease: %v", s.now().Sub(due), err)
	}
}

func TestResumedSagaContinuesTheTrace(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		w := newWorld()
		spans := tracetest.NewSpanRecorder()
		tracer := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)).Tracer("")
		dead := w.replica(d)
		ctx, span := tracer.Start(t.Context(), "CreateOrder")
		o, err := dead.draft(ctx, request())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := dead.add(ctx, o, request()); err != nil {
			t.Fatal(err)
		}
		heir := w.heir(d)
		heir.tracer = tracer
		working(t, heir)
		o = settled(t, heir, o.ID)
		if want := span.SpanContext().TraceID().String(); o.TraceID() != want {
			t.Errorf("the order's trace is %s, want %s", o.TraceID(), want)
		}
		var names []string
		for _, s := range spans.Ended() {
			if s.SpanContext().TraceID() != span.SpanContext().TraceID() {
				t.Errorf("span %s is in another trace", s.Name())
			}
			names = append(names, s.Name())
		}
		for _, want := range []string{"saga reserve", "saga authorize"} {
			if !slices.Contains(names, want) {
				t.Errorf("no span %q in %v", want, names)
			}
		}
	})
}

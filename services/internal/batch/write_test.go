package batch

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/meshmart/meshmart/services/internal/effect"
)

// desk is where changes are written, each time for a while.
type desk struct {
	Writer[string]
	mu      sync.Mutex
	alone   []string
	groups  [][]string
	ctxs    []context.Context // of the groups
	refuses bool              // to write for several
}

func (d *desk) do(ctx context.Context, change string) error {
	return d.Do(ctx, change, func() error {
		d.mu.Lock()
		d.alone = append(d.alone, change)
		d.mu.Unlock()
		return d.write(ctx, change)
	}, d.together)
}

func (d *desk) write(ctx context.Context, change string) error {
	select {
	case <-time.After(takes):
	case <-ctx.Done():
		return ctx.Err()
	}
	if change == "bad" {
		return errBad
	}
	return nil
}

var errBad = errors.New("bad")

func (d *desk) together(ctx context.Context, all []string) []error {
	d.mu.Lock()
	d.groups, d.ctxs = append(d.groups, all), append(d.ctxs, ctx)
	d.mu.Unlock()
	if slices.Contains(all, "boom") {
		panic("boom")
	}
	_ = d.write(ctx, "")
	if d.refuses {
		return nil
	}
	errs := make([]error, len(all))
	for i, c := range all {
		if c == "bad" {
			errs[i] = errBad
		}
	}
	return errs
}

// busy has somebody write, and returns what waits for them.
func (d *desk) busy(t *testing.T) (wait func()) {
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := d.do(context.Background(), "first"); err != nil {
			t.Error(err)
		}
	})
	synctest.Wait()
	return wg.Wait
}

// each has those changes made at once, in their order, and returns what became of them.
func (d *desk) each(ctx context.Context, changes ...string) []error {
	errs := make([]error, len(changes))
	var wg sync.WaitGroup
	for i, c := range changes {
		wg.Go(func() { errs[i] = d.do(ctx, c) })
		synctest.Wait()
	}
	wg.Wait()
	return errs
}

func TestThoseWhoWaitAreWrittenForTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &desk{}
		wait := d.busy(t)
		got := d.each(t.Context(), "a", "bad", "c")
		if want := []error{nil, errBad, nil}; !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		if want := []string{"a", "bad", "c"}; len(d.groups) != 1 || !slices.Equal(d.groups[0], want) {
			t.Errorf("groups %v, want %v", d.groups, want)
		}
		wait()
		if !slices.Equal(d.alone, []string{"first"}) {
			t.Errorf("alone: %v", d.alone)
		}
	})
}

func TestNobodyWaitsWhereSoManyMayRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &desk{Writer: Writer[string]{Parallel: 3}}
		begin := time.Now()
		d.each(t.Context(), "a", "b", "c")
		if took := time.Since(begin); took != takes || len(d.groups) != 0 {
			t.Errorf("took %v, in groups %v", took, d.groups)
		}
	})
}

func TestOneWhoWaitsWritesAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &desk{}
		defer d.busy(t)()
		if got := d.each(t.Context(), "bad"); got[0] != errBad {
			t.Errorf("got %v", got)
		}
		if d.each(t.Context(), "b"); len(d.groups) != 0 || len(d.alone) != 3 {
			t.Errorf("groups %v, alone %v", d.groups, d.alone)
		}
	})
}

func TestAGroupHasItsMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &desk{}
		defer d.busy(t)()
		d.each(t.Context(), slices.Repeat([]string{"a"}, Most+3)...)
		if len(d.groups) != 2 || len(d.groups[0]) != Most || len(d.groups[1]) != 3 {
			t.Errorf("%d groups", len(d.groups))
		}
	})
}

func TestWhenNothingWasDoneEachWritesAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &desk{refuses: true}
		defer d.busy(t)()
		got := d.each(t.Context(), "a", "bad", "c")
		if want := []error{nil, errBad, nil}; !slices.Equal(got, want) || len(d.alone) != 4 {
			t.Errorf("got %v, alone %v", got, d.alone)
		}
	})
}

func TestAPanicIsToldToAllAndHoldsNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &desk{}
		defer d.busy(t)()
		for _, err := range d.each(t.Context(), "a", "boom") {
			if err == nil || !strings.Contains(err.Error(), "boom") {
				t.Errorf("got %v", err)
			}
		}
		if got := d.each(t.Context(), "c"); got[0] != nil {
			t.Errorf("after it: %v", got)
		}
	})
}

// Who leaves does not hold the others up, and knows whether anything may be done.
func TestWhoLeaves(t *testing.T) {
	for _, tt := range []struct {
		name  string
		after time.Duration // that they leave
		with  int           // others
		noted bool
		want  string // that is written together
	}{
		{"before its turn", takes / 2, 2, false, "b b"},
		{"before its turn, the only one", takes / 2, 0, false, ""},
		{"under way", takes + takes/2, 2, true, "a b b"},
		{"alone, under way", takes + takes/2, 0, false, ""}, // what is under way notes it
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &desk{}
				wait := d.busy(t)
				ctx, cancel := context.WithTimeout(effect.Track(t.Context()), tt.after)
				defer cancel()
				var wg sync.WaitGroup
				wg.Go(func() {
					if err := d.do(ctx, "a"); !errors.Is(err, context.DeadlineExceeded) {
						t.Errorf("who left got %v", err)
					}
				})
				synctest.Wait()
				for range tt.with {
					wg.Go(func() {
						if err := d.do(t.Context(), "b"); err != nil {
							t.Errorf("who stayed got %v", err)
						}
					})
				}
				wg.Wait()
				wait()
				if got := effect.Noted(ctx); got != tt.noted {
					t.Errorf("something may have been done: %v", got)
				}
				var got string
				for _, g := range d.groups {
					got += strings.Join(g, " ")
				}
				if got != tt.want {
					t.Errorf("together: %q, want %q", got, tt.want)
				}
				if err := d.do(t.Context(), "c"); err != nil || d.running != 0 {
					t.Errorf("after it: %v, %d running", err, d.running)
				}
			})
		})
	}
}

func TestWhatNobodyWaitsForEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &desk{}
		defer d.busy(t)()
		ctx, cancel := context.WithTimeout(t.Context(), takes+takes/2)
		defer cancel()
		d.each(ctx, "a", "b")
		synctest.Wait()
		if len(d.ctxs) != 1 || d.ctxs[0].Err() == nil {
			t.Error("it goes on")
		}
	})
}

func TestACallWhoseTraceIsKeptWritesAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &desk{}
		defer d.busy(t)()
		begin := time.Now()
		ctx := trace.ContextWithSpanContext(t.Context(), trace.NewSpanContext(trace.SpanContextConfig{
			TraceID: trace.TraceID{1}, SpanID: trace.SpanID{1}, TraceFlags: trace.FlagsSampled,
		}))
		d.each(ctx, "a", "b")
		if took := time.Since(begin); took != takes || len(d.groups) != 0 {
			t.Errorf("took %v, in groups %v", took, d.groups)
		}
	})
}

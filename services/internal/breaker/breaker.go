// Package breaker makes the circuit breakers of the shop, so that all open on
// the same signs and show their state alike. A breaker stops calls to a target
// that is out: it answers at once in place of waiting, and gives the target
// time to come back.
//
// gobreaker counts the calls and judges the probes. How long a breaker stays
// open is decided here: gobreaker knows one time for all outages, and that is
// too long for a target that is just being started, or too short for one that
// is down.
package breaker

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/sony/gobreaker/v2"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
)

// When a breaker opens.
const (
	Row    = 5                // outages in a row
	minAll = 20               // or of at least so many calls in the window
	share  = 0.5              // this share
	window = 10 * time.Second // counted over
)

// How a breaker closes again. It stays open for firstOpen, and twice as long
// each time that a probe fails, up to mostOpen: so a target that is back is not
// kept out for longer than it was away, nor for longer than mostOpen.
const (
	Probes    = 3 // calls let through at once when it has been open; as many must succeed
	firstOpen = 250 * time.Millisecond
	mostOpen  = 2 * time.Second
)

// State is what a breaker does with calls.
type State = gobreaker.State

// The states.
const (
	Closed   = gobreaker.StateClosed   // lets them through
	HalfOpen = gobreaker.StateHalfOpen // lets a few through, to probe the target
	Open     = gobreaker.StateOpen     // lets none through
)

// ErrPanicked is the outcome of a call that did not return.
var ErrPanicked = errors.New("the call panicked")

// Config says what a breaker guards.
type Config struct {
	// Target is what is called, in logs, metrics and health.
	Target string
	// Outage reports whether an error says that the target does not work. A
	// refusal is an answer, and no outage.
	Outage func(error) bool
	// Abandoned reports whether a call was given up by its caller, which says
	// nothing of the target.
	Abandoned func(error) bool
	// Changed is told each state that the breaker comes to, one after the other.
	// It must not ask the breaker. Nil: nobody is told.
	Changed func(target string, to State)
	Log     *slog.Logger
	Meters  metric.MeterProvider
	Clock   func() time.Time // nil: time.Now
}

// Breaker is asked before a call, and told how it ended.
type Breaker struct {
	cfg    Config
	counts *gobreaker.TwoStepCircuitBreaker[any] // calls back while it is locked: never call it with mu held

	ends sync.Mutex // held while gobreaker is told of the end of a call

	mu    sync.Mutex
	state State
	opens int           // how often it has opened
	wait  time.Duration // that it stays open for when it opens next
	until time.Time     // that it is open
}

// New returns a closed breaker. Its state is the gauge circuit_breaker.state.
func New(cfg Config) *Breaker {
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Changed == nil {
		cfg.Changed = func(string, State) {}
	}
	b := &Breaker{cfg: cfg, wait: firstOpen}
	b.counts = gobreaker.NewTwoStepCircuitBreaker[any](gobreaker.Settings{
		Name:        cfg.Target,
		MaxRequests: Probes,
		Interval:    window,
		Timeout:     1, // ns: it is half-open whenever we let it be asked again
		ReadyToTrip: func(c gobreaker.Counts) bool {
			return c.ConsecutiveFailures >= Row || c.Requests >= minAll && float64(c.TotalFailures) >= share*float64(c.Requests)
		},
		OnStateChange: func(_ string, _, to State) { b.judged(to) },
		IsSuccessful:  func(err error) bool { return err == nil || !cfg.Outage(err) },
		IsExcluded:    func(err error) bool { return err != nil && cfg.Abandoned(err) },
	})
	cfg.Changed(cfg.Target, Closed)
	b.observe()
	return b
}

// Target returns what the breaker guards.
func (b *Breaker) Target() string { return b.cfg.Target }

// State returns what the breaker does with calls now.
func (b *Breaker) State() State {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.state == Open && !b.cfg.Clock().Before(b.until) {
		b.change(HalfOpen)
	}
	return b.state
}

// Allow returns done, which must be called with the outcome of the call, nil
// for success; or why the call may not be made. The span of ctx, which is that of
// the caller, gets an event if the call is refused, is a probe, or by its outcome
// opens the breaker.
func (b *Breaker) Allow(ctx context.Context) (done func(error), err error) {
	state := b.State()
	if state == Open {
		Refused(ctx, b.cfg.Target, state)
		return nil, gobreaker.ErrOpenState
	}
	ended, err := b.counts.Allow()
	if err != nil {
		Refused(ctx, b.cfg.Target, state)
		return nil, err
	}
	if !trace.SpanFromContext(ctx).IsRecording() {
		return ended, nil // nobody would hear of it
	}
	if state == HalfOpen {
		tell(ctx, eventProbe, b.cfg.Target, state)
	}
	return func(err error) {
		if b.end(ended, err) {
			tell(ctx, eventOpened, b.cfg.Target, Open)
		}
	}, nil
}

// end tells gobreaker how a call ended, and reports whether that has opened the
// breaker.
func (b *Breaker) end(ended func(error), err error) (opened bool) {
	b.ends.Lock() // or it could be the end of another call with a span that did
	defer b.ends.Unlock()
	before := b.opened()
	ended(err)
	return b.opened() != before
}

func (b *Breaker) opened() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.opens
}

// Do makes a call, unless it may not be made. However fn ends, the breaker is
// told, by a panic with ErrPanicked. For ctx see Allow.
func (b *Breaker) Do(ctx context.Context, fn func() error) (err error) {
	done, err := b.Allow(ctx)
	if err != nil {
		return err
	}
	err = ErrPanicked
	defer func() { done(err) }()
	return fn()
}

// judged takes over what the counts say. That gobreaker is half-open, 1 ns after
// it has opened, says nothing.
func (b *Breaker) judged(to State) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch to {
	case Open:
		b.until = b.cfg.Clock().Add(b.wait)
		time.AfterFunc(b.wait, func() { b.State() }) // tells of HalfOpen if nobody calls
		b.wait = min(2*b.wait, mostOpen)
		b.opens++
		b.change(Open)
	case Closed:
		b.wait = firstOpen
		b.change(Closed)
	}
}

// change is called with mu held.
func (b *Breaker) change(to State) {
	b.cfg.Log.Warn("circuit breaker", "target", b.cfg.Target, "from", b.state.String(), "to", to.String())
	b.state = to
	b.cfg.Changed(b.cfg.Target, to)
}

// observe adds the breaker to the gauge, which all breakers of a process share:
// a callback given to the gauge itself would be that of the first one alone.
func (b *Breaker) observe() {
	target := metric.WithAttributes(attribute.String("target", b.cfg.Target))
	meter := b.cfg.Meters.Meter("github.com/meshmart/meshmart/services/internal/breaker")
	gauge, err := meter.Int64ObservableGauge("circuit_breaker.state",
		metric.WithDescription("State of the circuit breaker: 0 closed, 1 half-open, 2 open."))
	if err == nil {
		_, err = meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
			o.ObserveInt64(gauge, int64(b.State()), target)
			return nil
		}, gauge)
	}
	if err != nil {
		b.cfg.Log.Warn("the state of a circuit breaker is not measured", "target", b.cfg.Target, "err", err.Error())
	}
}

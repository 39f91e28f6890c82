// Package breaker makes the circuit breakers of the shop, so that all open on
// the same signs and show their state alike. A breaker stops calls to a target
// that is out: it answers at once in place of waiting, and gives the target
// time to come back.
package breaker

import (
	"context"
	"log/slog"
	"time"

	"github.com/sony/gobreaker/v2"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// When a breaker opens. How long it stays open is its Config's.
const (
	Row    = 5                // outages in a row
	minAll = 20               // or of at least so many calls in the window
	share  = 0.5              // this share
	window = 10 * time.Second // counted over
	probes = 3                // calls let through when it has been open
)

// Breaker is asked before a call, and told how it ended.
type Breaker = gobreaker.TwoStepCircuitBreaker[any]

// Config says what a breaker guards.
type Config struct {
	// Target is what is called, in logs and metrics.
	Target string
	// Open is how long it stays open before it probes.
	Open time.Duration
	// Outage reports whether an error says that the target does not work. A
	// refusal is an answer, and no outage.
	Outage func(error) bool
	// Abandoned reports whether a call was given up by its caller, which says
	// nothing of the target.
	Abandoned func(error) bool
	Log       *slog.Logger
	Meters    metric.MeterProvider
}

// New returns a closed breaker. Its state is the gauge circuit_breaker.state.
func New(cfg Config) *Breaker {
	b := gobreaker.NewTwoStepCircuitBreaker[any](gobreaker.Settings{
		Name:        cfg.Target,
		MaxRequests: probes,
		Interval:    window,
		Timeout:     cfg.Open,
		ReadyToTrip: func(c gobreaker.Counts) bool {
			return c.ConsecutiveFailures >= Row || c.Requests >= minAll && float64(c.TotalFailures) >= share*float64(c.Requests)
		},
		OnStateChange: func(target string, from, to gobreaker.State) {
			cfg.Log.Warn("circuit breaker", "target", target, "from", from.String(), "to", to.String())
		},
		IsSuccessful: func(err error) bool { return err == nil || !cfg.Outage(err) },
		IsExcluded:   func(err error) bool { return err != nil && cfg.Abandoned(err) },
	})
	observe(b, cfg)
	return b
}

func observe(b *Breaker, cfg Config) {
	target := metric.WithAttributes(attribute.String("target", cfg.Target))
	_, err := cfg.Meters.Meter("github.com/meshmart/meshmart/services/internal/breaker").Int64ObservableGauge(
		"circuit_breaker.state",
		metric.WithDescription("State of the circuit breaker: 0 closed, 1 half-open, 2 open."),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			o.Observe(int64(b.State()), target)
			return nil
		}))
	if err != nil {
		cfg.Log.Warn("the state of a circuit breaker is not measured", "target", cfg.Target, "err", err.Error())
	}
}

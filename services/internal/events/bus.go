// Package events carries what one service announces to those that care, over
// NATS JetStream.
//
// An event leaves through an Outbox, in the transaction that makes it true, and
// enters through Consume, in the transaction that records it in the inbox. The
// broker may deliver it any number of times: between the two tables it takes
// effect once. Tail is for those that only watch.
//
// Subjects are "order.created": the stream ORDER keeps all of "order.>" for
// Retention. Whoever needs a stream first makes it.
package events

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/meshmart/meshmart/services/internal/faultpoint"
)

const (
	requestTimeout = 5 * time.Second // of a request to JetStream
	readyTimeout   = time.Second
	maxReconnect   = 2 * time.Second // between two attempts to reconnect
)

// Config says where the broker is. URL or Conn is needed; the rest may be zero.
type Config struct {
	// URL is that of the broker, "nats://host:4222", or several with commas.
	URL string
	// Conn is an embedded server, used in place of URL.
	Conn nats.InProcessConnProvider
	// Name is who connects, as the broker shows it.
	Name string
	// Replicas is on how many brokers a stream is kept; 0 means 1.
	Replicas int
	// MaxBytes bounds each stream, its oldest events go first; 0 means 1 GiB.
	MaxBytes int64

	Log    *slog.Logger         // nil discards
	Traces trace.TracerProvider // nil records nothing
	Meters metric.MeterProvider // nil measures nothing
	Clock  func() time.Time     // nil is time.Now

	// Point is for tests: it is told when the outbox and the consumers come to
	// a point at which a crash leaves the broker and the database apart.
	Point faultpoint.Hook
}

// Bus is a connection to the broker. It is safe for concurrent use.
type Bus struct {
	cfg    Config
	nc     *nats.Conn
	js     jetstream.JetStream
	tracer trace.Tracer
	// duplicates counts the deliveries of what the inbox knew already.
	duplicates metric.Int64Counter
	// ackWait is that of its consumers: a test that must not pass by waiting for
	// it makes it longer.
	ackWait time.Duration

	mu     sync.Mutex
	known  map[string]bool // streams made since the last connect
	online chan struct{}   // closed at the next connect, then replaced
}

// Connect returns a Bus that connects in the background and never gives up, so
// it does not wait for a broker that is down. Only a malformed Config fails.
func Connect(cfg Config) (*Bus, error) {
	b := &Bus{cfg: cfg.withDefaults(), ackWait: ackWait, known: map[string]bool{}, online: make(chan struct{})}
	b.tracer = b.cfg.Traces.Tracer(scope)
	if err := b.measure(); err != nil {
		return nil, fmt.Errorf("measure events: %w", err)
	}
	nc, err := nats.Connect(b.cfg.URL, b.options()...)
	if err != nil {
		return nil, fmt.Errorf("connect to the broker: %w", err)
	}
	b.nc = nc
	b.js, err = jetstream.New(nc,
		jetstream.WithDefaultTimeout(requestTimeout),
		jetstream.WithPublishAsyncTimeout(ackTimeout))
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("use jetstream: %w", err)
	}
	return b, nil
}

func (c Config) withDefaults() Config {
	if c.Replicas == 0 {
		c.Replicas = 1
	}
	if c.MaxBytes == 0 {
		c.MaxBytes = 1 << 30
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Traces == nil {
		c.Traces = noop.NewTracerProvider()
	}
	if c.Meters == nil {
		c.Meters = metricnoop.NewMeterProvider()
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	return c
}

func (b *Bus) options() []nats.Option {
	log := b.cfg.Log
	opts := []nats.Option{
		nats.Name(b.cfg.Name),
		nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1),
		nats.CustomReconnectDelay(func(n int) time.Duration { return backoff(n, 20*time.Millisecond, maxReconnect) }),
		// A silent broker is noticed within 9 s, a network that swallows packets too:
		// until then nothing is heard from the others, which have gone on.
		nats.PingInterval(3 * time.Second),
		// While the broker is away a publish fails at once, rather than being kept
		// in memory and sent when the outbox has given up on it.
		nats.ReconnectBufSize(-1),
		nats.NoCallbacksAfterClientClose(),
		nats.ConnectHandler(func(*nats.Conn) { b.connected() }),
		nats.ReconnectHandler(func(*nats.Conn) { log.Info("broker is back"); b.connected() }),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) { log.Warn("broker is away", "err", text(err)) }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			log.Warn("broker complains", "err", text(err))
		}),
	}
	if b.cfg.Conn != nil {
		opts = append(opts, nats.InProcessServer(b.cfg.Conn))
	}
	return opts
}

// connected forgets which streams exist, as the broker that is back may have
// lost its disk, and wakes everybody who waits for it.
func (b *Bus) connected() {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.known)
	close(b.online)
	b.online = make(chan struct{})
}

// nextConnect returns a channel that is closed at the next connect.
func (b *Bus) nextConnect() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.online
}

// Ready reports whether the broker is connected and JetStream answers.
func (b *Bus) Ready(ctx context.Context) error {
	if !b.nc.IsConnected() {
		return fmt.Errorf("broker: %s", b.nc.Status())
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	if _, err := b.js.AccountInfo(ctx); err != nil {
		return fmt.Errorf("jetstream: %w", err)
	}
	return nil
}

// Close ends the connection. Consumers, tails and outboxes are stopped before.
func (b *Bus) Close() error {
	if b.nc.IsConnected() {
		// The last acknowledgements are on their way; without them the events
		// would only come once more.
		_ = b.nc.FlushTimeout(time.Second)
	}
	b.nc.Close()
	return nil
}

// backoff returns how long to wait before attempt n+1: lo, doubled each time,
// at most hi, and a fifth more or less so that replicas don't move in step.
func backoff(n int, lo, hi time.Duration) time.Duration {
	d := hi
	if n = max(n, 1); n < 32 && lo<<(n-1) < hi {
		d = lo << (n - 1)
	}
	return d + time.Duration((rand.Float64()-0.5)*0.4*float64(d))
}

// pause waits for d, less if ctx is done or one of the channels is ready.
func pause(ctx context.Context, d time.Duration, wake ...<-chan struct{}) {
	wake = append(wake, nil, nil) // nil is never ready
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	case <-wake[0]:
	case <-wake[1]:
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

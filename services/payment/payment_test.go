package payment

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/metric/noop"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/meshmart/meshmart/services/internal/app/apptest"
	"github.com/meshmart/meshmart/services/internal/breaker"
	"github.com/meshmart/meshmart/services/internal/db"
	"github.com/meshmart/meshmart/services/internal/db/dbtest"
	"github.com/meshmart/meshmart/services/internal/events"
	"github.com/meshmart/meshmart/services/internal/fault"
	"github.com/meshmart/meshmart/services/internal/money"
	"github.com/meshmart/meshmart/services/internal/traceparent"
)

func TestMain(m *testing.M) { apptest.Main(m) }

// shaky is the simulator behind a network that loses what the test says.
type shaky struct {
	Processor

	mu    sync.Mutex
	calls []string // "capture KEY" and the like
	trace string   // of the last call
	// lose is asked for each call, by its name and its number from 1.
	lose func(op string, n int) (request, answer bool)
	// hold, if not nil, is called after the effect and before the answer, which
	// is lost if the caller is gone then; told is called after that.
	hold, told func(op string)
}

func (s *shaky) call(ctx context.Context, op, key string, fn func() error) error {
	s.mu.Lock()
	s.calls = append(s.calls, op+" "+key)
	s.trace = traceparent.Save(ctx)
	request, answer := false, false
	if s.lose != nil {
		request, answer = s.lose(op, s.counted(op))
	}
	hold, told := s.hold, s.told
	s.mu.Unlock()
	if request {
		return errOutage
	}
	err := fn()
	if hold != nil {
		hold(op)
	}
	if answer || ctx.Err() != nil {
		return errors.Join(errOutage, ctx.Err())
	}
	if told != nil {
		told(op)
	}
	return err
}

// counted returns how many calls of op there were; mu is held.
func (s *shaky) counted(op string) int {
	n := 0
	for _, c := range s.calls {
		if strings.HasPrefix(c, op+" ") {
			n++
		}
	}
	return n
}

func (s *shaky) Authorize(ctx context.Context, in AuthorizeInput) (ref string, err error) {
	err = s.call(ctx, "authorize", in.Key, func() error { ref, err = s.Processor.Authorize(ctx, in); return err })
	return ref, err
}

func (s *shaky) Capture(ctx context.Context, c Charge) error {
	return s.call(ctx, "capture", c.Key, func() error { return s.Processor.Capture(ctx, c) })
}

func (s *shaky) Void(ctx context.Context, c Charge) error {
	return s.call(ctx, "void", c.Key, func() error { return s.Processor.Void(ctx, c) })
}

func (s *shaky) Refund(ctx context.Context, c Charge) error {
	return s.call(ctx, "refund", c.Key, func() error { return s.Processor.Refund(ctx, c) })
}

// bench is a payment service without its server, its worker not running.
type bench struct {
	*Payments
	shaky  *shaky
	book   *book
	worker *worker

	metrics      *sdkmetric.ManualReader
	breakerClock func() time.Time
}

func newBench(t *testing.T, d *db.DB) *bench {
	t.Helper()
	bus, err := events.Connect(events.Config{URL: "nats://127.0.0.1:1"}) // nobody there: the outbox keeps all
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { bus.Close() })
	log := slog.New(slog.DiscardHandler)
	b := &bench{book: &book{d}, worker: newWorker(), breakerClock: time.Now}
	b.shaky = &shaky{Processor: newSimulator(b.book, &config{}, time.Now)}
	b.Payments = &Payments{
		store: &store{d}, events: &announcer{events.NewOutbox(d, bus)}, log: log, clock: time.Now,
		processor: newGuard(b.shaky, guardConfig{
			timeout: 3 * time.Second, traces: tracenoop.NewTracerProvider(),
			breaker: func(cfg breaker.Config) *breaker.Breaker {
				cfg.Log, cfg.Meters, cfg.Clock = log, noop.NewMeterProvider(), func() time.Time { return b.breakerClock() }
				return breaker.New(cfg)
			},
		}),
		lease: 4 * time.Second,
		wake:  b.worker.wake,
		hand:  b.worker.hand,
	}
	b.worker.payments = b.Payments
	b.metrics = sdkmetric.NewManualReader()
	if err := b.measure(sdkmetric.NewMeterProvider(sdkmetric.WithReader(b.metrics))); err != nil {
		t.Fatal(err)
	}
	return b
}

// each runs a test on both engines.
func each(t *testing.T, fn func(t *testing.T, b *bench)) {
	t.Helper()
	dbtest.Each(t, func(t *testing.T, d *db.DB) { fn(t, newBench(t, d)) },
		events.Schema, db.Schema{Name: "payment", FS: schema})
}

// work runs a worker until stop is called or the test ends.
func (b *bench) work(t *testing.T, w *worker) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return stop
}

const user = "01890000-0000-7000-8000-000000000001"

func price() money.Amount { return money.Amount{Currency: "EUR", Micros: 12_500_000} }

func request(orderID string) AuthorizeRequest {
	return AuthorizeRequest{OrderID: orderID, UserID: user, Amount: price(), Token: "tok_visa"}
}

// get returns the payment of an order, which has one.
func (b *bench) get(t *testing.T, orderID string) Payment {
	t.Helper()
	p, err := b.known(t.Context(), orderID)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// column returns the texts that a query for one column has.
func (b *bench) column(t *testing.T, query string, args ...any) []string {
	t.Helper()
	rows, err := b.store.db.Query(t.Context(), query, args...)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var all []string
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// ledger returns what was moved for an order, such as "AUTHORIZE CAPTURE".
func (b *bench) ledger(t *testing.T, orderID string) string {
	t.Helper()
	return strings.Join(b.column(t, `SELECT kind FROM ledger JOIN payments ON payments.id = payment_id
		WHERE order_id = $1 ORDER BY ledger.id`, orderID), " ")
}

// announced returns what is in the outbox, such as "authorized captured".
func (b *bench) announced(t *testing.T) string {
	t.Helper()
	return strings.ReplaceAll(strings.Join(b.column(t, `SELECT subject FROM outbox ORDER BY id`), " "), "payment.", "")
}

// charged returns the state of the processor's charge for an order, "" for none.
func (b *bench) charged(t *testing.T, orderID string) state {
	t.Helper()
	c, err := b.book.charge(t.Context(), b.get(t, orderID).ID)
	if err != nil {
		t.Fatal(err)
	}
	return c.State
}

// balanced checks that no change is under way, and that the payments, the
// ledger and the processor's book say the same of every order.
func (b *bench) balanced(t *testing.T, orders []string) {
	t.Helper()
	ledgers := map[state][]string{
		authorized: {"AUTHORIZE"},
		declined:   {"", "AUTHORIZE"},
		captured:   {"AUTHORIZE CAPTURE"},
		voided:     {"", "AUTHORIZE VOID"},
		refunded:   {"AUTHORIZE CAPTURE REFUND"},
	}
	for _, o := range orders {
		p, ledger := b.get(t, o), b.ledger(t, o)
		if want, ok := ledgers[p.State]; !ok || !slices.Contains(want, ledger) {
			t.Errorf("order %s is %s with the ledger %q", o, p.State, ledger)
		}
		if p.tombstone() {
			continue
		}
		charge := b.charged(t, o)
		// A declined charge that is then voided stays declined at the processor.
		if charge != p.State && !(p.State == voided && charge == declined) {
			t.Errorf("order %s is %s here and %q at the processor", o, p.State, charge)
		}
	}
	if n := b.column(t, `SELECT order_id FROM payments WHERE due_time IS NOT NULL`); len(n) > 0 {
		t.Errorf("under way: %v", n)
	}
}

// outcome is a fault's code and reason, such as "Aborted PROCESSOR_UNAVAILABLE".
func outcome(err error) string {
	if f := fault.As(err); f != nil {
		return f.Code().String() + " " + f.Reason()
	}
	if err != nil {
		return err.Error()
	}
	return "OK"
}

// together calls fn n times at once.
func together(n int, fn func(i int)) {
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		wg.Go(func() { <-start; fn(i) })
	}
	close(start)
	wg.Wait()
}

// eventually waits for a condition that somebody else brings about.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not after 20 s: %s", what)
		}
	}
}

func names(prefix string, n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("%s%d", prefix, i)
	}
	return all
}

package events

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/meshmart/meshmart/services/internal/db"
	"github.com/meshmart/meshmart/services/internal/db/dbtest"
	"github.com/meshmart/meshmart/services/internal/events/embedded"
)

// broker is an embedded broker that a test can stop and start again.
type broker struct {
	t   *testing.T
	dir string

	mu   sync.Mutex
	conn nats.InProcessConnProvider // nil while stopped
	halt func()
}

// newBroker returns a broker that is stopped at the end of the test, and fails
// the test if anything that was started after it is still running then.
func newBroker(t *testing.T) *broker {
	t.Helper()
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) })
	b := &broker{t: t, dir: t.TempDir()}
	t.Cleanup(b.stop)
	return b
}

func (b *broker) start() *broker {
	b.t.Helper()
	conn, stop, err := embedded.Start(embedded.Config{Dir: b.dir, NoSync: true})
	if err != nil {
		b.t.Fatal(err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.conn, b.halt = conn, stop
	return b
}

func (b *broker) stop() {
	b.mu.Lock()
	halt := b.halt
	b.conn, b.halt = nil, nil
	b.mu.Unlock()
	if halt != nil {
		halt()
	}
}

func (b *broker) InProcessConn() (net.Conn, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.conn == nil {
		return nil, errors.New("the broker is stopped")
	}
	return b.conn.InProcessConn()
}

// bus connects to the broker until the end of the test.
func (b *broker) bus(with ...func(*Config)) *Bus {
	b.t.Helper()
	cfg := Config{Conn: b, Name: b.t.Name()}
	for _, w := range with {
		w(&cfg)
	}
	bus, err := Connect(cfg)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { bus.Close() })
	return bus
}

// background runs fn until the returned stop, or else the end of the test; fn
// must then return want.
func background(t *testing.T, want error, fn func(ctx context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- fn(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := receive(t, done); !errors.Is(err, want) {
			t.Errorf("got %v when stopped, want %v", err, want)
		}
	})
	t.Cleanup(stop)
	return stop
}

// receive returns the next of c, which must come before all patience is lost.
func receive[T any](t *testing.T, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(20 * time.Second):
		t.Error("nothing comes")
		var none T
		return none
	}
}

// announce writes an event for each text, in one transaction each.
func announce(t *testing.T, o *Outbox, subject string, texts ...string) {
	t.Helper()
	for _, text := range texts {
		err := o.db.InTx(t.Context(), func(tx *db.DB) error {
			return o.Add(t.Context(), tx, subject, wrapperspb.String(text))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func flush(t *testing.T, o *Outbox) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := o.Flush(ctx); err != nil {
		t.Fatal(err)
	}
}

// read returns the text of an event from announce.
func read(e Event) (string, error) {
	var m wrapperspb.StringValue
	err := e.Unmarshal(&m)
	return m.GetValue(), err
}

// logSchema is the table that the handlers of these tests change.
var logSchema = db.Schema{Name: "log", FS: fstest.MapFS{
	"schema/001_log.sql": {Data: []byte("-- +goose Up\nCREATE TABLE log (text TEXT NOT NULL);\n")},
}}

// each runs fn on each engine, with the tables of events and log.
func each(t *testing.T, fn func(t *testing.T, d *db.DB)) {
	t.Helper()
	dbtest.Each(t, fn, Schema, logSchema)
}

// lite is for a test that is not about the database.
func lite(t *testing.T) *db.DB {
	t.Helper()
	return dbtest.Open(t, dbtest.SQLite(t), Schema, logSchema)
}

func add(ctx context.Context, tx *db.DB, text string) error {
	_, err := tx.Exec(ctx, `INSERT INTO log (text) VALUES ($1)`, text)
	return err
}

func logged(t *testing.T, d *db.DB) string {
	t.Helper()
	rows, err := d.Query(t.Context(), `SELECT text FROM log ORDER BY text`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var all []string
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			t.Fatal(err)
		}
		all = append(all, text)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return strings.Join(all, " ")
}

func same(t *testing.T, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

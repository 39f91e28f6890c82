package shop

import (
	"context"
	"database/sql"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/meshmart/meshmart/services/internal/events/embedded"
	"github.com/meshmart/meshmart/tests/audit"
)

// ledger opens the database of a service to read it: that in the folder of its
// shop, or the one that the environment names. On SQLite no connection is kept, so
// that the files of a process that is killed are nobody's, as after any crash.
func ledger(t *testing.T, name, dir string, environ map[string]string) *sql.DB {
	t.Helper()
	driver, source := "pgx", environ[strings.ToUpper(name)+"_DATABASE_URL"]
	if source == "" {
		file := url.URL{Scheme: "file", OmitHost: true, Path: filepath.Join(dir, strings.ToLower(name)+".db"), RawQuery: "mode=ro&_busy_timeout=5000"}
		driver, source = "sqlite", file.String()
	}
	pool, err := sql.Open(driver, source)
	if err != nil {
		t.Fatal(err)
	}
	if driver == "sqlite" {
		pool.SetMaxIdleConns(-1)
	} else {
		pool.SetMaxOpenConns(2)
	}
	t.Cleanup(func() { pool.Close() })
	return pool
}

// ledgers opens what an audit reads.
func ledgers(t *testing.T, dir string, environ map[string]string) audit.Books {
	t.Helper()
	return audit.Books{
		Order:     ledger(t, "order", dir, environ),
		Payment:   ledger(t, "payment", dir, environ),
		Inventory: ledger(t, "inventory", dir, environ),
	}
}

// waitForOutboxes waits until the services of a shop have announced everything.
func waitForOutboxes(t *testing.T, dir string, environ map[string]string) {
	t.Helper()
	for _, name := range owners {
		db, left := ledger(t, name, dir, environ), -1
		for deadline := time.Now().Add(time.Minute); left != 0; time.Sleep(5 * time.Millisecond) {
			err := db.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM outbox`).Scan(&left)
			if time.Now().After(deadline) {
				t.Fatalf("%s has %d events to announce after a minute: %v", name, left, err)
			}
		}
	}
}

// withStreams calls fn with the broker that was embedded in a shop which has ended.
func withStreams(t *testing.T, dir string, fn func(jetstream.JetStream)) {
	t.Helper()
	conn, stop, err := embedded.Start(embedded.Config{Dir: filepath.Join(dir, "nats"), NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	nc, err := nats.Connect("", nats.InProcessServer(conn))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	fn(js)
}

// wantBooks audits a shop that is at rest and has ended.
func wantBooks(t *testing.T, dir string, books audit.Books) (sum audit.Summary) {
	t.Helper()
	withStreams(t, dir, func(js jetstream.JetStream) {
		books.Broker = js
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var wrong []string
		var err error
		if sum, wrong, err = books.Check(ctx); err != nil {
			t.Fatal(err)
		}
		for _, violation := range wrong {
			t.Error(violation)
		}
	})
	return sum
}

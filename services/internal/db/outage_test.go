package db_test

import (
	"context"
	"database/sql"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/meshmart/meshmart/services/internal/db"
	"github.com/meshmart/meshmart/services/internal/db/dbtest"
	"github.com/meshmart/meshmart/services/internal/effect"
)

func TestServerThatIsAwayIsWaitedFor(t *testing.T) {
	way, url := newDoor(t, dbtest.Postgres(t))
	var log strings.Builder
	d, err := db.Open(t.Context(), db.Config{URL: url, Schemas: []db.Schema{stock()}, Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	_, exec := d.Exec(t.Context(), `SELECT 1`)
	_, query := d.Query(t.Context(), `SELECT 1`)
	row := d.Row(t.Context(), `SELECT 1`).Scan(new(int))
	tx := d.InTx(t.Context(), func(*db.DB) error { t.Error("in a transaction"); return nil })
	for _, err := range []error{exec, query, row, tx, d.Ready(t.Context())} {
		if !db.IsUnavailable(err) {
			t.Errorf("got %v", err)
		}
	}
	way.open()
	eventually(t, d.Ready)
	if got := available(t, d, "tea"); got != 50 {
		t.Errorf("%d, want 50", got)
	}

	way.shut() // now the tables are there, and the server is not
	ready := d.Ready(t.Context())
	_, exec = d.Exec(t.Context(), `UPDATE stock SET available = 1`)
	tx = d.InTx(t.Context(), func(tx *db.DB) error { return add(tx, "a") })
	for _, err := range []error{ready, exec, tx} {
		if !db.IsUnavailable(err) {
			t.Errorf("got %v", err)
		}
	}
	way.open()
	eventually(t, d.Ready)
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if got := strings.Count(log.String(), "\n"); got != 2 { // away, and there
		t.Errorf("%d lines:\n%s", got, log.String())
	}
}

func TestUnknownUserIsRefused(t *testing.T) {
	u, err := url.Parse(dbtest.Postgres(t))
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.User("mallory")
	if d, err := db.Open(t.Context(), db.Config{URL: u.String(), Schemas: []db.Schema{stock()}}); err == nil {
		t.Error("opened", d.Close())
	}
}

func TestDatabaseThatIsMadeLaterIsWaitedFor(t *testing.T) {
	there := dbtest.Postgres(t)
	u, err := url.Parse(there)
	if err != nil {
		t.Fatal(err)
	}
	admin := dbtest.Open(t, there)
	name := u.Path[1:] + "_later"
	u.Path += "_later"
	t.Cleanup(func() { // once d is closed
		if _, err := admin.Exec(context.Background(), "DROP DATABASE IF EXISTS "+name); err != nil {
			t.Error(err)
		}
	})
	d := dbtest.Open(t, u.String(), stock())
	if err := d.Ready(t.Context()); !db.IsUnavailable(err) {
		t.Errorf("got %v", err)
	}
	if _, err := admin.Exec(t.Context(), "CREATE DATABASE "+name); err != nil {
		t.Fatal(err)
	}
	eventually(t, d.Ready)
}

func TestConnectionLostInTransaction(t *testing.T) {
	way, url := newDoor(t, dbtest.Postgres(t))
	way.open()
	d := dbtest.Open(t, url, stock())
	ctx := effect.Track(t.Context())
	err := d.InTx(ctx, func(tx *db.DB) error {
		way.shut()
		return add(tx, "a")
	})
	if !db.IsUnavailable(err) || effect.Noted(ctx) {
		t.Errorf("in a statement: %v, an effect: %v", err, effect.Noted(ctx))
	}
}

// A server that has done what it was told, of which the answer is lost: that
// must not be repeated, and not be called an outage in which nothing was done.
func TestLostAnswerLeavesTheOutcomeOpen(t *testing.T) {
	const change = `UPDATE stock SET available = available + 1`
	tests := map[string]func(ctx context.Context, way *door, d *db.DB) error{
		"statement": func(ctx context.Context, way *door, d *db.DB) error {
			way.swallow.Store(true)
			_, err := d.Exec(ctx, change)
			return err
		},
		"statement with arguments": func(ctx context.Context, way *door, d *db.DB) error {
			const again = change + ` WHERE available >= $1`
			if _, err := d.Exec(ctx, again, 51); err != nil { // prepared, and changes nothing
				t.Error(err)
			}
			way.swallow.Store(true)
			_, err := d.Exec(ctx, again, 0)
			return err
		},
		"query": func(ctx context.Context, way *door, d *db.DB) error {
			const again = change + ` WHERE available >= $1 RETURNING available`
			if err := d.Row(ctx, again, 51).Scan(new(int)); !errors.Is(err, sql.ErrNoRows) {
				t.Error(err)
			}
			way.swallow.Store(true)
			return d.Row(ctx, again, 0).Scan(new(int))
		},
		"commit": func(ctx context.Context, way *door, d *db.DB) error {
			again := func(then func()) error {
				return d.InTx(ctx, func(tx *db.DB) error {
					_, err := tx.Exec(ctx, change+` WHERE available >= $1`, 50)
					then()
					return err
				})
			}
			if err := again(func() {}); err != nil { // prepared
				t.Error(err)
			}
			if _, err := d.Exec(ctx, `UPDATE stock SET available = 50`); err != nil {
				t.Error(err)
			}
			return again(func() { way.swallow.Store(true) })
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			way, url := newDoor(t, dbtest.Postgres(t))
			way.open()
			d := dbtest.Open(t, url, stock())
			ctx := effect.Track(t.Context())
			if err := test(ctx, way, d); err == nil || db.IsUnavailable(err) || !effect.Noted(ctx) {
				t.Errorf("got %v, an effect: %v", err, effect.Noted(ctx))
			}
			if got := available(t, d, "tea"); got != 51 {
				t.Errorf("%d, want 51", got)
			}
		})
	}
}

func TestOpenDoesNotWaitForSilence(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	d, err := db.Open(t.Context(), db.Config{URL: "postgres://u@" + silent.Addr().String() + "/x", Schemas: []db.Schema{stock()}})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Ready(t.Context()); !db.IsUnavailable(err) {
		t.Errorf("got %v", err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

func TestOpenEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	dbtest.EachURL(t, func(t *testing.T, url string) {
		_, err := db.Open(ctx, db.Config{URL: url, Schemas: []db.Schema{stock()}})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
}

// door is an address that refuses connections while it is shut, and leads to
// a PostgreSQL server while it is open.
type door struct {
	t               *testing.T
	network, server string
	addr            string
	mu              sync.Mutex
	listener        net.Listener // nil while shut
	conns           []net.Conn
	swallow         atomic.Bool // the next answer, and cut its connection
	work            sync.WaitGroup
}

// newDoor returns a door that is shut, and the URL through it.
func newDoor(t *testing.T, target string) (*door, string) {
	t.Helper()
	cfg, err := pgconn.ParseConfig(target)
	if err != nil {
		t.Fatal(err)
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &door{t: t, addr: free.Addr().String()}
	d.network, d.server = pgconn.NetworkAddress(cfg.Host, cfg.Port)
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.shut)
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	q.Del("host")
	u.Host, u.RawQuery = d.addr, q.Encode()
	return d, u.String()
}

func (d *door) open() {
	d.t.Helper()
	l, err := net.Listen("tcp", d.addr)
	if err != nil {
		d.t.Fatal(err)
	}
	d.listener = l
	d.work.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial(d.network, d.server)
			if err != nil {
				d.t.Error(err)
				return
			}
			d.mu.Lock()
			d.conns = append(d.conns, in, out)
			d.mu.Unlock()
			d.work.Go(func() { d.answer(in, out) })
			d.work.Go(func() { io.Copy(out, in); out.Close() })
		}
	})
}

// answer brings the client what the server says.
func (d *door) answer(client, server net.Conn) {
	defer client.Close()
	buf := make([]byte, 4096)
	for {
		n, err := server.Read(buf)
		if err != nil || d.swallow.CompareAndSwap(true, false) {
			return
		}
		if _, err := client.Write(buf[:n]); err != nil {
			return
		}
	}
}

// shut also cuts all connections.
func (d *door) shut() {
	if d.listener == nil {
		return
	}
	d.listener.Close()
	d.listener = nil
	d.mu.Lock()
	for _, c := range d.conns {
		c.Close()
	}
	d.conns = nil
	d.mu.Unlock()
	d.work.Wait()
}

// eventually asks until the answer is nil.
func eventually(t *testing.T, ask func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for {
		err := ask(ctx)
		if err == nil {
			return
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			t.Fatal(err)
		}
	}
}

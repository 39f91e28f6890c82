// Package db keeps a service's data in SQLite or in PostgreSQL.
//
// A statement is written once, in the SQL that both engines read: $1
// placeholders, upsert, RETURNING, the condition in the UPDATE instead of a
// lock held by FOR UPDATE, BIGINT for instants (see Micros) and for money,
// TEXT for ids, BYTEA for bytes. All that differs between the engines is in
// dialect.go and sqlite.go; -tags nosqlite leaves SQLite out.
//
// SQLite is served in the process and is there or not there. PostgreSQL can be
// away, at the start as at any other time: operations then fail with an error
// that IsUnavailable recognizes, and Ready says why.
//
// What costs there is not the statements: on PostgreSQL it is the ways to the
// server and back, so a transaction sends at once what it need not wait for (see
// Later), and those on rows of their own share the rest of it (see Of); on SQLite it
// is the way to the disk, so transactions that come at the same time are committed
// together.
package db

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshmart/meshmart/services/internal/faultpoint"
)

// Schema is a set of tables with a history of its own.
type Schema struct {
	Name string // an SQL name; the history is in the table <Name>_version
	FS   fs.FS  // goose migrations in schema/*.sql
}

// Config says which database to open.
type Config struct {
	// URL is postgres://... or the path of a SQLite file, whose folder is made
	// if need be.
	URL string
	// Schemas are brought up to date in this order before the first operation.
	Schemas []Schema
	// Log hears of migrations and of a database that is away; nil is silence.
	Log *slog.Logger
	// Exclusive is the caller's word that no other process uses the database, as
	// it holds a lock on it: what an earlier process has leased is free again.
	Exclusive bool
	// MaxConns bounds the connections to PostgreSQL (two at least) or the
	// parallel reads of SQLite; 0 means 10.
	MaxConns int
	// Point is for tests: it is told of each change that lasts, "before commit
	// of (*Orders).add in ...", "after commit of ..." and, for a statement
	// outside of a transaction, "after write of ...". What turns out to change
	// no row is not told of.
	Point faultpoint.Hook
	// Traces has a span for each statement and commit whose context belongs to a
	// trace that is sampled; nil: none.
	Traces trace.TracerProvider
	// Meters has the use of the connections; nil: not measured.
	Meters metric.MeterProvider
}

// DB runs statements: each on its own, or inside InTx as one transaction. It
// may be used by many goroutines at once, except inside InTx.
type DB struct {
	*core
	tx  *txn   // nil outside a transaction
	key string // of the rows that it is used for (see Of); "": any
}

// core is what a DB shares with those of its transactions.
type core struct {
	*engine
	schemas []Schema
	alone   bool
	log     *slog.Logger
	point   faultpoint.Hook
	tracer  trace.Tracer           // nil: no spans
	unmeter func() error           // ends the metrics
	down    atomic.Pointer[outage] // why nothing can be done; nil while open and migrated
	stop    context.CancelFunc     // ends work
	work    sync.WaitGroup
}

// patience is how long Open lets a PostgreSQL server answer before it goes on
// without. A refused connection is noticed at once; this is for lost packets.
const patience = time.Second

// Open opens the database and migrates it. It fails on a configuration that no
// waiting will mend: an address that can't be read, a password that is
// refused, a migration that is wrong. A PostgreSQL server that can't be
// reached is no such error: Open returns and migrates later, when it can.
func Open(ctx context.Context, cfg Config) (*DB, error) {
	e, err := openEngine(cfg)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	c := &core{engine: e, schemas: cfg.Schemas, alone: cfg.Exclusive, log: cfg.Log, point: cfg.Point}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	if cfg.Traces != nil {
		c.tracer = cfg.Traces.Tracer(scope)
	}
	if c.unmeter, err = c.measure(cfg.Meters); err != nil {
		return nil, errors.Join(fmt.Errorf("measure database: %w", err), c.shut())
	}
	c.down.Store(&outage{errNotMigrated})
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	c.stop = stop
	d := &DB{core: c}
	if err := c.start(ctx, background); err != nil {
		return nil, errors.Join(fmt.Errorf("open database: %w", err), d.Close())
	}
	return d, nil
}

// Close ends the work in the background and closes the connections, after the
// statements that run have ended.
func (d *DB) Close() error {
	d.stop()
	d.work.Wait()
	d.down.Store(&outage{errClosed})
	return errors.Join(d.unmeter(), d.shut())
}

// shut closes the connections.
func (e *engine) shut() error {
	var err error
	if e.writer != nil {
		err = e.writer.close()
	}
	err = errors.Join(err, e.reads.Close())
	if e.writes != e.reads {
		err = errors.Join(err, e.writes.Close())
	}
	return err
}

// Exclusive reports whether no other process uses the database. A lease that
// this process has not taken is then that of one that has died.
func (d *DB) Exclusive() bool { return d.alone }

// Ready returns nil if the database is migrated and answers.
func (d *DB) Ready(ctx context.Context) error {
	if out := d.down.Load(); out != nil {
		return out
	}
	if err := d.reads.PingContext(ctx); err != nil {
		return fmt.Errorf("ping database: %w", lost(err))
	}
	return nil
}

// Exec runs a statement and returns how many rows it changed.
func (d *DB) Exec(ctx context.Context, query string, args ...any) (int64, error) {
	n, err := d.exec(ctx, query, args...)
	if n > 0 {
		d.changing(ctx).done()
	}
	return n, err
}

// exec is Exec for statements that change no row, too.
func (d *DB) exec(ctx context.Context, query string, args ...any) (n int64, err error) {
	if span := d.span(ctx, query); span != nil {
		defer func() { endSpan(span, err) }()
	}
	if d.tx != nil {
		n, err = d.tx.Exec(ctx, query, args...)
		return n, d.wrote(ctx, err)
	}
	if d.writer != nil {
		n, err = d.writeOne(ctx, query, args)
		return n, d.wrote(ctx, err)
	}
	n, err = d.execRemote(ctx, query, args)
	return n, d.wrote(ctx, err)
}

// execRemote is exec on PostgreSQL, outside a transaction.
func (d *DB) execRemote(ctx context.Context, query string, args []any) (n int64, err error) {
	done, leave, err := d.together(ctx, func(s session) (err error) {
		n, err = s.Exec(ctx, query, args...)
		return err
	})
	if done {
		return n, err
	}
	defer leave()
	conn, err := d.conn(ctx)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	return changes(conn.ExecContext(ctx, query, args...))
}

// writeOne is exec on SQLite, outside a transaction.
func (d *DB) writeOne(ctx context.Context, query string, args []any) (n int64, err error) {
	if out := d.down.Load(); out != nil {
		return 0, out
	}
	err = d.writer.once(ctx, func(s session) (err error) {
		n, err = s.Exec(ctx, query, args...)
		return err
	})
	return n, err
}

// wrote returns what the error of a change means, and notes a change that may
// have been made.
func (d *DB) wrote(ctx context.Context, err error) error {
	if err != nil {
		err = d.explain(ctx, err, false)
		d.failed(ctx, err)
	}
	return err
}

// Query runs a statement that returns rows. The caller closes them; inside a
// transaction, before the next statement.
func (d *DB) Query(ctx context.Context, query string, args ...any) (*Rows, error) {
	reads, span := onlyReads(query), d.span(ctx, query)
	rows, err := d.query(ctx, reads, query, args)
	if err != nil {
		endSpan(span, err)
		return nil, err
	}
	if reads {
		return &Rows{cursor: rows, span: span}, nil
	}
	return &Rows{cursor: rows, span: span, change: d.changing(ctx)}, nil
}

func (d *DB) query(ctx context.Context, reads bool, query string, args []any) (rows cursor, err error) {
	out := d.down.Load()
	switch {
	case d.tx != nil:
		rows, err = d.tx.Query(ctx, query, args...)
	case out != nil:
		return nil, out
	case d.remote:
		rows, err = d.reads.QueryContext(ctx, query, args...)
	case reads:
		rows, err = d.reader.query(ctx, query, args)
	default:
		rows, err = d.writer.rows(ctx, query, args)
	}
	switch {
	case err == nil:
		return rows, nil
	case reads:
		return nil, d.explain(ctx, err, true)
	}
	return nil, d.wrote(ctx, err)
}

// Row is the answer to a query for one row.
type Row struct {
	read   func(dest []any) error
	db     *DB
	ctx    context.Context
	span   trace.Span // nil if it has none
	change *change    // nil for a query that only reads
	err    error      // why there is no row
}

// Row runs a statement that returns at most one row that matters. Scan must be
// called: it also gives the connection back.
func (d *DB) Row(ctx context.Context, query string, args ...any) *Row {
	reads, span := onlyReads(query), d.span(ctx, query)
	r := &Row{db: d, ctx: ctx, span: span}
	if !reads {
		r.change = d.changing(ctx)
	}
	if !reads && d.tx == nil && (d.writer != nil || d.key != "") {
		r.read = d.rowLater(ctx, query, args)
		return r
	}
	rows, err := d.query(ctx, reads, query, args)
	if err != nil {
		endSpan(span, err)
		return &Row{err: err}
	}
	r.read = func(dest []any) error { return first(rows, dest) }
	return r
}

// rowLater has a change outside a transaction made when its row is read: others
// may be committed with it.
func (d *DB) rowLater(ctx context.Context, query string, args []any) func(dest []any) error {
	return func(dest []any) error {
		if out := d.down.Load(); out != nil {
			return out
		}
		change := func(s session) error {
			rows, err := s.Query(ctx, query, args...)
			if err != nil {
				return err
			}
			return first(rows, dest)
		}
		if d.writer != nil {
			return d.writer.once(ctx, change)
		}
		return d.rowRemote(ctx, change, query, args, dest)
	}
}

// rowRemote is rowLater on PostgreSQL.
func (d *DB) rowRemote(ctx context.Context, change func(session) error, query string, args, dest []any) error {
	done, leave, err := d.together(ctx, change)
	if done {
		return err
	}
	defer leave()
	rows, err := d.reads.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	return first(rows, dest)
}

// Scan copies the columns of the row into dest; sql.ErrNoRows if there is none.
func (r *Row) Scan(dest ...any) error {
	if r.err != nil {
		return r.err
	}
	err := r.read(dest)
	if err != nil {
		err = r.db.explain(r.ctx, err, r.change == nil)
	}
	endSpan(r.span, err)
	switch {
	case r.change == nil:
	case err == nil:
		r.change.done()
	default:
		r.db.failed(r.ctx, err)
	}
	return err
}

// conn returns a connection for one statement. A pool would repeat the
// statement if pgx says that it was not sent, and pgx 5.12 says so of any
// without arguments whose answer was lost.
func (d *DB) conn(ctx context.Context) (*sql.Conn, error) {
	if out := d.down.Load(); out != nil {
		return nil, out
	}
	conn, err := d.writes.Conn(ctx)
	return conn, lost(err)
}

// explain tells by the kind of statement what its failure means. A connection
// that breaks is an outage, in which nothing was done, unless the statement
// was a change on its own: that may have been made all the same.
func (d *DB) explain(ctx context.Context, err error, reads bool) error {
	switch {
	case errors.Is(err, sql.ErrTxDone) && ctx.Err() != nil:
		return ctx.Err() // database/sql has rolled back, for this reason
	case reads || d.tx != nil:
		return lost(err)
	case broken(err):
		return &uncertain{err}
	}
	return err
}

// Micros returns t as it is kept in a BIGINT: microseconds since 1970, UTC.
func Micros(t time.Time) int64 { return t.UnixMicro() }

// Time returns the instant that Micros made us of, in UTC.
func Time(us int64) time.Time { return time.UnixMicro(us).UTC() }

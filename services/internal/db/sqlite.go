//go:build !nosqlite

package db

import (
	"context"
	"database/sql"
	"errors"
	"net/url"
	"os"
	"path/filepath"

	"github.com/pressly/goose/v3"
	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// errNoSQLite is nil: there is one.
var errNoSQLite error

// openSQLite returns one pool that reads in parallel and one with the single
// connection that writes, as SQLite has one writer at a time: who waits for
// the connection does not poll a locked file. A transaction takes the lock of
// other processes as it begins, for it could not get it later without a
// conflict. Commits reach the disk (synchronous=FULL): an order that was
// confirmed outlives a power cut.
func openSQLite(path string, conns int) (*engine, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	// The file is nobody else's to read, whatever folder it is in; SQLite gives
	// those that it puts beside it the same mode.
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	const both = "_busy_timeout=5000&_journal_mode=WAL&_synchronous=FULL&_foreign_keys=1&_dqs=0&_error_rc=1"
	reads, err := sqlitePool(path, both+"&_query_only=1", conns)
	if err != nil {
		return nil, err
	}
	writes, err := sqlitePool(path, both+"&_txlock=immediate", 1)
	if err != nil {
		return nil, err
	}
	return &engine{
		reads:  reads,
		writes: writes,
		reader: &reader{pool: reads, prepared: map[string]*sql.Stmt{}},
		writer: newWriter(writes),
		goose:  goose.DialectSQLite3,
		place:  []attribute.KeyValue{semconv.DBSystemNameSQLite, semconv.DBNamespace(filepath.Base(path))},
		lock:   func(ctx context.Context) (func(), error) { return lockSQLite(ctx, path+"-migrate") },
	}, nil
}

func sqlitePool(path, params string, conns int) (*sql.DB, error) {
	file := url.URL{Scheme: "file", OmitHost: true, Path: path, RawQuery: params}
	pool, err := sql.Open("sqlite", file.String())
	if err != nil {
		return nil, err
	}
	pool.SetMaxOpenConns(conns)
	pool.SetMaxIdleConns(conns)
	return pool, nil
}

// lockSQLite takes the lock of an empty SQLite file beside the database, as
// that of the database itself is what the migrations need. The file stays: to
// remove it would part those who wait for it from those who come later.
func lockSQLite(ctx context.Context, path string) (unlock func(), err error) {
	pool, err := sqlitePool(path, "_busy_timeout=60000&_txlock=exclusive", 1)
	if err != nil {
		return nil, err
	}
	tx, err := pool.BeginTx(ctx, nil)
	if err != nil {
		return nil, errors.Join(err, pool.Close())
	}
	return func() { _, _ = tx.Rollback(), pool.Close() }, nil
}

func sqliteDuplicate(err error) bool {
	switch sqliteCode(err) {
	case sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY, sqlite3.SQLITE_CONSTRAINT_UNIQUE:
		return true
	}
	return false
}

func sqliteBusy(err error) bool {
	switch sqliteCode(err) & 0xff { // the primary code
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return true
	}
	return false
}

// sqliteCode returns the extended result code in err, or 0.
func sqliteCode(err error) int {
	var e *sqlite.Error
	if errors.As(err, &e) {
		return e.Code()
	}
	return 0
}

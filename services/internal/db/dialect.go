package db

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
)

// engine is SQLite or PostgreSQL, as far as the rest of the package must know.
type engine struct {
	reads, writes *sql.DB // the same pool on PostgreSQL
	reader        *reader // of reads, and
	writer        *writer // of writes; both nil on PostgreSQL
	queue         *queue  // of work by keys; nil on SQLite, which shares all commits
	remote        bool    // can be away while this process runs
	goose         goose.Dialect
	place         []attribute.KeyValue // of its statements, in spans
	// lock keeps other processes from migrating until unlock is called.
	lock func(ctx context.Context) (unlock func(), err error)
}

// Supported returns why this binary can open no database at a URL (see Config), or
// nil: one that was built with -tags nosqlite has no SQLite.
func Supported(url string) error {
	if strings.Contains(url, "://") {
		return nil
	}
	return errNoSQLite
}

func openEngine(cfg Config) (*engine, error) {
	conns := cfg.MaxConns
	if conns <= 0 {
		conns = 10
	}
	scheme, _, isURL := strings.Cut(cfg.URL, "://")
	switch {
	case !isURL && (strings.HasPrefix(cfg.URL, "postgres:") || strings.HasPrefix(cfg.URL, "postgresql:")):
		return nil, errors.New("a PostgreSQL URL begins with postgres://")
	case cfg.URL == "":
		return nil, errors.New("neither a PostgreSQL URL nor the path of a SQLite file is given")
	case !isURL:
		return openSQLite(cfg.URL, conns)
	case scheme == "postgres" || scheme == "postgresql":
		return openPostgres(cfg.URL, conns)
	}
	return nil, fmt.Errorf("%s:// is no PostgreSQL URL", scheme)
}

// errUntyped: what type a Go value has in PostgreSQL, binaries built with -tags
// nopgxregisterdefaulttypes know from the statement's parameters alone.
var errUntyped = errors.New("default_query_exec_mode: with exec and simple_protocol the server does not tell the types of parameters; leave it out, or set cache_describe")

// openPostgres connects when the first connection is needed.
func openPostgres(address string, conns int) (*engine, error) {
	cfg, err := pgx.ParseConfig(address)
	if err != nil {
		return nil, err
	}
	if m := cfg.DefaultQueryExecMode; m == pgx.QueryExecModeExec || m == pgx.QueryExecModeSimpleProtocol {
		return nil, errUntyped
	}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = 5 * time.Second
	}
	pool := stdlib.OpenDB(*cfg)
	conns = max(conns, 2) // a migration needs one beside that of its lock
	pool.SetMaxOpenConns(conns)
	pool.SetMaxIdleConns(conns)
	pool.SetConnMaxIdleTime(5 * time.Minute)
	pool.SetConnMaxLifetime(time.Hour) // so that a new primary, or a larger cluster, is found
	return &engine{
		reads:  pool,
		writes: pool,
		queue:  newQueue(),
		remote: true,
		goose:  goose.DialectPostgres,
		place: []attribute.KeyValue{
			semconv.DBSystemNamePostgreSQL, semconv.DBNamespace(cfg.Database),
			semconv.ServerAddress(cfg.Host), semconv.ServerPort(int(cfg.Port)),
		},
		lock: func(ctx context.Context) (func(), error) { return lockPostgres(ctx, pool) },
	}, nil
}

// migrationLock names the advisory lock, of which each database has its own.
const migrationLock = 0x6d6573686d617274 // "meshmart"

// lockPostgres waits for the advisory lock on a connection of its own. Goose's
// locker asks once a second instead, and looks for its tables before it has
// the lock.
func lockPostgres(ctx context.Context, pool *sql.DB) (unlock func(), err error) {
	conn, err := pool.Conn(ctx)
	if err != nil {
		return nil, err
	}
	// The lock ends with its session, even if the server can't be asked.
	discard := func() {
		_ = conn.Raw(func(any) error { return driver.ErrBadConn })
		_ = conn.Close()
	}
	if _, err := conn.ExecContext(ctx, `SELECT pg_advisory_lock($1)`, int64(migrationLock)); err != nil {
		discard()
		return nil, err
	}
	return discard, nil
}

// onlyReads reports whether a statement can run where nothing may be written.
// WITH may begin a change, and counts as one.
func onlyReads(query string) bool {
	const word = "SELECT"
	query = strings.TrimSpace(query)
	return len(query) > len(word) && strings.EqualFold(query[:len(word)], word)
}

// outage is a failure before which nothing was done.
type outage struct{ err error }

func (o *outage) Error() string { return "database is unavailable: " + o.err.Error() }
func (o *outage) Unwrap() error { return o.err }

// uncertain is a failure to learn whether something was done.
type uncertain struct{ err error }

func (u *uncertain) Error() string { return "outcome unknown: " + u.err.Error() }
func (u *uncertain) Unwrap() error { return u.err }

var (
	errNotMigrated = errors.New("not migrated yet")
	errClosed      = errors.New("closed")
)

// broken reports whether err is that of a connection in use.
func broken(err error) bool {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) ||
		errors.As(err, new(*pgconn.ConnectError)) {
		return false
	}
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, driver.ErrBadConn) ||
		errors.As(err, new(net.Error)) || pgconn.SafeToRetry(err)
}

// lost marks err as an outage if it is that of a broken connection. The caller
// knows that nothing was done, which the error alone can't tell.
func lost(err error) error {
	if broken(err) {
		return &outage{err}
	}
	return err
}

// IsDuplicate reports whether err is the violation of a unique key.
func IsDuplicate(err error) bool {
	return sqliteDuplicate(err) || postgresCode(err) == "23505" // unique_violation
}

// IsUnavailable reports whether the engine could not be reached, is shutting
// down or was too busy, and nothing was done: the same operation may succeed
// later. It is false where something may have been done, as when the answer to
// a commit is lost, and for a caller that went away.
func IsUnavailable(err error) bool {
	if err == nil || errors.As(err, new(*uncertain)) || errors.Is(err, context.Canceled) {
		return false
	}
	if errors.As(err, new(*outage)) || errors.As(err, new(*pgconn.ConnectError)) || isConflict(err) {
		return true
	}
	switch code := postgresCode(err); code {
	case "57P01", "57P02", "57P03", "53300": // shutdown, crash, starting up; too many connections
		return true
	default:
		return strings.HasPrefix(code, "08") && code != "08007" // connection exceptions, but "resolution unknown"
	}
}

// isConflict reports whether a transaction lost against another one and was
// undone for that reason alone.
func isConflict(err error) bool {
	switch postgresCode(err) {
	case "40001", "40P01": // serialization_failure, deadlock_detected
		return true
	}
	return sqliteBusy(err)
}

// isRefused reports whether the server does not accept the user or password.
func isRefused(err error) bool {
	switch postgresCode(err) {
	case "28000", "28P01":
		return true
	}
	return false
}

// postgresCode returns the SQLSTATE in err, or "".
func postgresCode(err error) string {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

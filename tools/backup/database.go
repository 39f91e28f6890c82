package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/gofrs/flock"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	_ "modernc.org/sqlite"             // the driver "sqlite"
)

// database is that of one service.
type database struct {
	service string
	at      string // a PostgreSQL URL or the path of a SQLite file
}

func (c *config) database(service string) database {
	d := database{service, filepath.Join(c.data, service+".db")}
	if c.url != "" {
		d.at = strings.ReplaceAll(c.url, "%s", service)
	}
	if own := os.Getenv(strings.ToUpper(service) + "_DATABASE_URL"); own != "" {
		d.at = own
	}
	return d
}

func (d database) postgres() bool { return strings.Contains(d.at, "://") }

// program returns one of PostgreSQL's, for the database. A password is not among
// its arguments, which other users can see.
func (c *config) program(ctx context.Context, d database, args ...string) (*exec.Cmd, error) {
	at, err := url.Parse(d.at)
	if err != nil {
		return nil, fmt.Errorf("database of %s: the URL can't be read", d.service) // it may have a password
	}
	env := os.Environ()
	if password, ok := at.User.Password(); ok {
		at.User = url.User(at.User.Username())
		env = append(env, "PGPASSWORD="+password)
	}
	args = append(strings.Fields(c.exec), args...)
	cmd := exec.CommandContext(ctx, args[0], append(args[1:], "--dbname="+at.String())...)
	cmd.Env, cmd.Stderr = env, os.Stderr
	return cmd, nil
}

// sqlite opens a database that has to be there.
func (d database) sqlite() (*sql.DB, error) {
	if _, err := os.Stat(d.at); err != nil {
		return nil, fmt.Errorf("database of %s: %w", d.service, err)
	}
	path, err := filepath.Abs(d.at)
	if err != nil {
		return nil, err
	}
	file := url.URL{Scheme: "file", OmitHost: true, Path: path, RawQuery: "_pragma=busy_timeout(5000)&_pragma=foreign_keys(1)&_txlock=immediate"}
	return sql.Open("sqlite", file.String())
}

// alone opens the database and sees that no service uses it: on PostgreSQL, as
// whom it connects itself. The caller calls done, which ends that.
func (d database) alone(ctx context.Context) (db *sql.DB, done func() error, err error) {
	if !d.postgres() {
		unlock, err := d.lock()
		if err != nil {
			return nil, nil, err
		}
		db, err := d.sqlite()
		if err != nil {
			return nil, nil, errors.Join(err, unlock())
		}
		return db, func() error { return errors.Join(db.Close(), unlock()) }, nil
	}
	db, err = sql.Open("pgx", d.at)
	if err != nil {
		return nil, nil, fmt.Errorf("database of %s: %w", d.service, err)
	}
	db.SetMaxOpenConns(1) // so that no other one here is taken for a service
	var others int
	err = db.QueryRowContext(ctx, `SELECT COUNT(*) FROM pg_stat_activity
		WHERE datname = current_database() AND usename = session_user AND pid <> pg_backend_pid()`).Scan(&others)
	if err == nil && others > 0 {
		err = fmt.Errorf("%d are connected: stop the services first", others)
	}
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("database of %s: %w", d.service, err), db.Close())
	}
	return db, db.Close, nil
}

// lock takes the lock that a service has on its SQLite database.
func (d database) lock() (unlock func() error, err error) {
	f := flock.New(d.at + ".lock")
	ok, err := f.TryLock()
	if err == nil && !ok {
		err = errors.New("in use: stop the services first")
	}
	if err != nil {
		return nil, fmt.Errorf("database of %s: %w", d.service, err)
	}
	return f.Close, nil
}

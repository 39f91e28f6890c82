// Package dbtest runs a test on each database engine: on SQLite always, on
// PostgreSQL where there is one. TEST_POSTGRES_URL names a server on which the
// user may create databases; without it, a private server is started if its
// programs are installed, one for each test binary, which does not outlive it.
package dbtest

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"net/url"
	"path/filepath"
	"testing"

	"github.com/meshmart/meshmart/services/internal/db"
)

// Each calls fn, as subtests sqlite and postgres, with an empty database that
// has the schemas.
func Each(t *testing.T, fn func(t *testing.T, d *db.DB), schemas ...db.Schema) {
	t.Helper()
	EachURL(t, func(t *testing.T, url string) { fn(t, Open(t, url, schemas...)) })
}

// EachURL is Each for a test that opens the empty database itself.
func EachURL(t *testing.T, fn func(t *testing.T, url string)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { fn(t, SQLite(t)) })
	t.Run("postgres", func(t *testing.T) { fn(t, Postgres(t)) })
}

// Open opens a database until the end of the test.
func Open(t testing.TB, url string, schemas ...db.Schema) *db.DB {
	t.Helper()
	d, err := db.Open(t.Context(), db.Config{URL: url, Schemas: schemas})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// SQLite returns the path of a file that is not there yet.
func SQLite(t testing.TB) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "data", "test.db")
}

// Postgres returns the URL of an empty PostgreSQL database, which is dropped
// after the test, or skips the test if there is no server.
func Postgres(t testing.TB) string {
	t.Helper()
	base, err := server()
	if err != nil {
		t.Fatal(err)
	}
	if base == "" {
		t.Skip("PostgreSQL: set TEST_POSTGRES_URL or install Debian's postgresql")
	}
	name := fmt.Sprintf("test_%016x", rand.Uint64())
	admin(t, base, "CREATE DATABASE "+name)
	t.Cleanup(func() { admin(t, base, "DROP DATABASE "+name+" WITH (FORCE)") })
	u, err := url.Parse(base)
	if err != nil {
		t.Fatal("TEST_POSTGRES_URL is no URL") // its text may hold a password
	}
	u.Path = "/" + name
	return u.String()
}

// admin runs one statement on the server's own database.
func admin(t testing.TB, base, statement string) {
	t.Helper()
	pool, err := sql.Open("pgx", base)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	if _, err := pool.ExecContext(context.Background(), statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

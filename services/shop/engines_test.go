package shop

import (
	"testing"

	"github.com/meshmart/meshmart/services/internal/db/dbtest"
)

// owners are the services that have a database.
var owners = []string{"PRODUCT", "USER", "INVENTORY", "ORDER", "PAYMENT"}

// eachEngine calls fn, as subtests sqlite and postgres, with the environment of
// a shop whose services keep their data there, each in a database of its own.
func eachEngine(t *testing.T, fn func(t *testing.T, databases map[string]string)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { fn(t, nil) }) // in DATA_DIR, as by default
	t.Run("postgres", func(t *testing.T) { fn(t, onPostgres(t)) })
}

// onPostgres skips the test where there is no server.
func onPostgres(t *testing.T) map[string]string {
	t.Helper()
	databases := map[string]string{}
	for _, name := range owners {
		databases[name+"_DATABASE_URL"] = dbtest.Postgres(t)
	}
	return databases
}

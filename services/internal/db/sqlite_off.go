//go:build nosqlite

package db

import "errors"

// errNoSQLite: where PostgreSQL keeps the data, SQLite would be a seventh of the
// binary.
var errNoSQLite = errors.New("this binary has no SQLite: set DATABASE_URL to postgres://..., or build it without -tags nosqlite")

func openSQLite(string, int) (*engine, error) { return nil, errNoSQLite }

func sqliteDuplicate(error) bool { return false }
func sqliteBusy(error) bool      { return false }
func sqliteCode(error) int       { return 0 }

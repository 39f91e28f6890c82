package db

import (
	"context"
	"database/sql"
)

// session is the connection of one transaction, from its beginning to its end.
type session interface {
	// Exec runs a statement and returns how many rows it changed.
	Exec(ctx context.Context, query string, args ...any) (int64, error)
	// Later runs a statement at some time before Commit, and calls done then.
	Later(ctx context.Context, query string, args []any, done func(n int64, err error))
	// Query runs a statement; its rows are closed before the next one.
	Query(ctx context.Context, query string, args ...any) (cursor, error)
	// Commit ends the transaction. After an error it is unknown whether it was
	// committed, or it was undone.
	Commit(ctx context.Context) (unknown bool, err error)
	// Rollback undoes the transaction, whatever has become of its connection.
	Rollback(ctx context.Context) error
}

// cursor is rows of either engine.
type cursor interface {
	Next() bool
	Scan(dest ...any) error
	Err() error
	Close() error
}

// changes is how many rows a statement has changed.
func changes(res sql.Result, err error) (int64, error) {
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// first copies the columns of the first row, and closes the rows.
func first(rows cursor, dest []any) error {
	defer rows.Close()
	if !rows.Next() {
		if err := rows.Err(); err != nil {
			return err
		}
		return sql.ErrNoRows
	}
	if err := rows.Scan(dest...); err != nil {
		return err
	}
	return rows.Close()
}

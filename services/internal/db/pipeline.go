package db

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
)

// pipeline is a transaction on a PostgreSQL server. What costs there is less the
// statements than the ways to the server and back, so BEGIN, and what nobody waits
// for, goes with the next statement whose answer is needed; at last with COMMIT.
type pipeline struct {
	held    *sql.Conn
	conn    *pgx.Conn // of held
	begun   bool
	waiting []later
}

// later is a statement that was not sent yet.
type later struct {
	query string
	args  []any
	rows  *kept // of a statement that returns some; nil: none
	done  func(n int64, err error)
}

// read reads the answer to the statement.
func (s later) read(answers pgx.BatchResults) (int64, error) {
	if s.rows != nil {
		rows, err := answers.Query()
		if err != nil {
			return 0, err
		}
		return 0, s.rows.keep(rows)
	}
	tag, err := answers.Exec()
	return tag.RowsAffected(), err
}

// newPipeline takes a connection of the pool, until Commit or Rollback.
func newPipeline(ctx context.Context, pool *sql.DB) (*pipeline, error) {
	held, err := pool.Conn(ctx)
	if err != nil {
		return nil, err
	}
	p := &pipeline{held: held}
	err = held.Raw(func(c any) error {
		p.conn = c.(*stdlib.Conn).Conn() // nobody else uses it while it is held
		return nil
	})
	if err != nil {
		_ = held.Close()
		return nil, err
	}
	return p, nil
}

func (p *pipeline) Later(_ context.Context, query string, args []any, done func(int64, error)) {
	p.waiting = append(p.waiting, later{query: query, args: args, done: done})
}

func (p *pipeline) Exec(ctx context.Context, query string, args ...any) (int64, error) {
	answers, err := p.send(ctx, query, args)
	if err != nil {
		return 0, err
	}
	tag, err := answers.Exec()
	if shut := answers.Close(); err == nil {
		err = shut
	}
	return tag.RowsAffected(), err
}

func (p *pipeline) Query(ctx context.Context, query string, args ...any) (cursor, error) {
	answers, err := p.send(ctx, query, args)
	if err != nil {
		return nil, err
	}
	rows, err := answers.Query()
	if err != nil {
		_ = answers.Close()
		return nil, err
	}
	return &remoteRows{Rows: rows, answers: answers}, nil
}

// send sends what waits and the statement, all at once, and returns the answers
// from that of the statement on. The server does nothing after a failure.
func (p *pipeline) send(ctx context.Context, query string, args []any) (pgx.BatchResults, error) {
	waiting, begun := p.waiting, p.begun
	p.waiting, p.begun = nil, true
	batch := &pgx.Batch{}
	if !begun {
		batch.Queue("BEGIN")
	}
	for _, s := range waiting {
		batch.Queue(s.query, s.args...)
	}
	batch.Queue(query, args...)
	answers := p.conn.SendBatch(ctx, batch)
	var failed error
	if !begun {
		_, failed = answers.Exec()
	}
	for _, s := range waiting {
		var n int64
		if failed == nil {
			if n, failed = s.read(answers); failed != nil {
				failed = fmt.Errorf("%s: %w", summarize(s.query).text, failed)
			}
		}
		s.done(n, failed)
	}
	if failed != nil {
		_ = answers.Close()
		return nil, failed
	}
	return answers, nil
}

// flush sends what waits, of which there is something.
func (p *pipeline) flush(ctx context.Context) error {
	end := len(p.waiting) - 1
	last := p.waiting[end]
	p.waiting = p.waiting[:end]
	answers, err := p.send(ctx, last.query, last.args)
	var n int64
	if err == nil {
		n, err = last.read(answers)
		if shut := answers.Close(); err == nil {
			err = shut
		}
	}
	last.done(n, err)
	return err
}

// Commit sends nothing if nothing was to be done.
func (p *pipeline) Commit(ctx context.Context) (open bool, err error) {
	if ctx.Err() != nil {
		return false, errors.Join(ctx.Err(), p.Rollback(ctx))
	}
	if !p.begun && p.waiting == nil {
		return false, p.held.Close()
	}
	answers, err := p.send(ctx, "COMMIT", nil)
	if err != nil {
		// What the server says to an earlier statement, it says before it commits.
		undone := postgresCode(err) != "" || pgconn.SafeToRetry(err)
		_ = p.Rollback(ctx)
		if undone { // so a broken connection is an outage, and no more
			err = lost(err)
		}
		return !undone, err
	}
	tag, err := answers.Exec()
	if shut := answers.Close(); err == nil {
		err = shut
	}
	if err == nil && tag.String() != "COMMIT" {
		open, err = false, errors.New("a statement had failed")
	} else {
		open = err != nil && !isConflict(err)
	}
	_ = p.held.Close()
	return open, err
}

// rollbackTimeout bounds the wait for a server that is told to undo what it would
// undo by itself when the connection ends.
const rollbackTimeout = time.Second

// Rollback is made though ctx may be done. A connection on which it fails is
// closed, and so is the transaction.
func (p *pipeline) Rollback(ctx context.Context) error {
	for _, s := range p.waiting {
		s.done(0, context.Canceled)
	}
	var err error
	if p.begun && !p.conn.IsClosed() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
		defer cancel()
		if _, err = p.conn.Exec(ctx, "ROLLBACK"); err != nil {
			_ = p.conn.Close(ctx)
		}
	}
	_ = p.held.Close()
	return err
}

// remoteRows are the rows of the last answer.
type remoteRows struct {
	pgx.Rows
	answers pgx.BatchResults
}

func (r *remoteRows) Close() error {
	r.Rows.Close()
	err := r.Rows.Err()
	if shut := r.answers.Close(); err == nil {
		err = shut
	}
	return err
}

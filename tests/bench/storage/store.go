package storage

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	_ "modernc.org/sqlite" // the driver "sqlite"
)

// Store is a database with the services' tables, and some products.
type Store struct {
	one   func(context.Context, transaction) error   // commits one
	many  func(context.Context, []transaction) error // commits all together
	queue chan waiting
	stop  func()
	user  string
	stock []string // products
}

// waiting is a transaction, and who waits for it.
type waiting struct {
	transaction
	done chan<- error
}

// Conns is how many connections to PostgreSQL are open: as many as a service has.
const Conns = 16

// Postgres opens an empty database, and puts the tables of root's services there.
func Postgres(ctx context.Context, url, root string, products int) (*Store, error) {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, errors.New("the database has no URL") // its text may hold a password
	}
	cfg.MaxConns = Conns
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, err
	}
	s := &Store{
		one:  func(ctx context.Context, t transaction) error { return pgx.BeginFunc(ctx, pool, t.onPostgres(ctx)) },
		many: func(ctx context.Context, ts []transaction) error { return together(ctx, pool, ts) },
	}
	exec := func(text string, args ...any) error {
		_, err := pool.Exec(ctx, text, args...)
		return err
	}
	return s, s.fill(exec, root, products, 2, pool.Close)
}

func (t transaction) onPostgres(ctx context.Context) func(pgx.Tx) error {
	return func(tx pgx.Tx) error {
		for _, s := range t.statements {
			if _, err := tx.Exec(ctx, s.text, s.args...); err != nil {
				return fmt.Errorf("%.40s: %w", s.text, err)
			}
		}
		return nil
	}
}

// together sends everything at once: a batch is a transaction.
func together(ctx context.Context, pool *pgxpool.Pool, ts []transaction) error {
	var b pgx.Batch
	for _, t := range ts {
		for _, s := range t.statements {
			b.Queue(s.text, s.args...)
		}
	}
	return pool.SendBatch(ctx, &b).Close()
}

// SQLite makes a file, as durable as the services have theirs.
func SQLite(ctx context.Context, path, root string, products int) (*Store, error) {
	pool, err := sql.Open("sqlite", "file:"+path+"?_busy_timeout=5000&_journal_mode=WAL&_synchronous=FULL&_foreign_keys=1&_txlock=immediate")
	if err != nil {
		return nil, err
	}
	pool.SetMaxOpenConns(1)
	var turn sync.Mutex                // of the one writer there can be
	prepared := map[string]*sql.Stmt{} // by their text
	many := func(ctx context.Context, ts []transaction) error {
		turn.Lock()
		defer turn.Unlock()
		if err := prepare(ctx, pool, prepared, ts); err != nil {
			return err
		}
		tx, err := pool.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		for _, t := range ts {
			if err := t.onSQLite(ctx, tx, prepared); err != nil {
				return errors.Join(err, tx.Rollback())
			}
		}
		return tx.Commit()
	}
	s := &Store{many: many, one: func(ctx context.Context, t transaction) error { return many(ctx, []transaction{t}) }}
	exec := func(text string, args ...any) error {
		_, err := pool.ExecContext(ctx, text, args...)
		return err
	}
	return s, s.fill(exec, root, products, 1, func() { _ = pool.Close() })
}

// prepare parses statements that are used for the first time. One at a time does so.
func prepare(ctx context.Context, pool *sql.DB, prepared map[string]*sql.Stmt, ts []transaction) error {
	for _, t := range ts {
		for _, s := range t.statements {
			if prepared[s.text] != nil {
				continue
			}
			stmt, err := pool.PrepareContext(ctx, s.text)
			if err != nil {
				return fmt.Errorf("%.40s: %w", s.text, err)
			}
			prepared[s.text] = stmt
		}
	}
	return nil
}

func (t transaction) onSQLite(ctx context.Context, tx *sql.Tx, prepared map[string]*sql.Stmt) error {
	for _, s := range t.statements {
		if _, err := tx.StmtContext(ctx, prepared[s.text]).ExecContext(ctx, s.args...); err != nil {
			return fmt.Errorf("%.40s: %w", s.text, err)
		}
	}
	return nil
}

// fill makes the tables and starts groups that are committed at the same time.
func (s *Store) fill(exec func(string, ...any) error, root string, products, groups int, shut func()) error {
	tables, err := schema(root)
	if err != nil {
		shut()
		return err
	}
	for _, text := range tables {
		if err := exec(text); err != nil {
			shut()
			return fmt.Errorf("make the tables: %w", err)
		}
	}
	s.user = newID()
	for range products {
		s.stock = append(s.stock, newID())
		if err := exec(addStock, s.stock[len(s.stock)-1]); err != nil {
			shut()
			return fmt.Errorf("add a product: %w", err)
		}
	}
	s.queue = make(chan waiting, 1024)
	var wg sync.WaitGroup
	for range groups {
		wg.Go(s.group)
	}
	s.stop = func() { close(s.queue); wg.Wait(); shut() }
	return nil
}

// Close ends everything. Nobody may wait for an order.
func (s *Store) Close() { s.stop() }

// Alone carries out an order, each transaction by itself.
func (s *Store) Alone(ctx context.Context) error {
	return s.order(ctx, s.one)
}

// Grouped carries out an order, each transaction together with those that others
// wait for at the same time.
func (s *Store) Grouped(ctx context.Context) error {
	return s.order(ctx, func(_ context.Context, t transaction) error {
		done := make(chan error, 1)
		s.queue <- waiting{t, done}
		return <-done
	})
}

func (s *Store) order(ctx context.Context, do func(context.Context, transaction) error) error {
	for _, t := range order(s.user, s.stock[rand.IntN(len(s.stock))]) {
		if err := do(ctx, t); err != nil {
			return err
		}
	}
	return nil
}

// mostTogether bounds a group.
const mostTogether = 256

// group commits whatever waits, again and again.
func (s *Store) group() {
	for first := range s.queue {
		all := []waiting{first}
		for len(all) < mostTogether && len(s.queue) > 0 {
			next, ok := <-s.queue
			if !ok {
				break
			}
			all = append(all, next)
		}
		slices.SortStableFunc(all, func(a, b waiting) int { return strings.Compare(a.key, b.key) })
		ts := make([]transaction, len(all))
		for i, w := range all {
			ts[i] = w.transaction
		}
		err := s.many(context.Background(), ts)
		for _, w := range all {
			w.done <- err
		}
	}
}

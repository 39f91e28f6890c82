package db

import (
	"context"
	"database/sql"
	"errors"
	"sync"
)

// writer is the one connection that writes to a SQLite file. Transactions that
// come while another is under way are committed together with it, as most of what
// a commit costs is the way to the disk: each runs by itself, when it is its turn,
// and then stands in line once more. Whoever comes first to its second turn
// commits for all that have run by then. Without others that is at once.
//
// What the transactions of a group do they do one after the other, and each can be
// undone by itself. They last together, or not.
type writer struct {
	pool *sql.DB
	line line // who is first has the turn, and so all that follows here

	conn     *sql.Conn // nil until it is needed
	prepared map[string]*sql.Stmt
	open     *group // that is not committed; nil: none
}

// group is transactions that are committed together.
type group struct {
	done chan struct{} // closed when the rest is known
	lost bool          // SQLite has undone it
	// What has become of the commit.
	unknown bool
	err     error
}

// maxPrepared bounds the statements that are kept. Those of lists vary with what
// callers ask for.
const maxPrepared = 256

// begin waits for the turn, and opens a group or joins the one that is open.
func (w *writer) begin(ctx context.Context) (session, error) {
	leave, err := w.line.enter(ctx)
	if err != nil {
		return nil, err
	}
	m := &member{writer: w, first: w.open == nil, leave: leave}
	if m.first {
		_, err = w.exec(ctx, "BEGIN IMMEDIATE")
		w.open = &group{done: make(chan struct{})}
	} else {
		_, err = w.exec(ctx, "SAVEPOINT member")
	}
	if m.group = w.open; err != nil {
		if m.first {
			w.open = nil
		}
		leave()
		return nil, err
	}
	return m, nil
}

// once runs fn as a transaction.
func (w *writer) once(ctx context.Context, fn func(session) error) error {
	s, err := w.begin(ctx)
	if err != nil {
		return err
	}
	if err := fn(s); err != nil {
		return cause(err, s.Rollback(ctx))
	}
	unknown, err := s.Commit(ctx)
	if unknown {
		return &uncertain{err}
	}
	return err
}

// rows runs a statement by itself, and ends its turn with its rows.
func (w *writer) rows(ctx context.Context, query string, args []any) (cursor, error) {
	leave, err := w.alone(ctx)
	if err != nil {
		return nil, err
	}
	rows, err := w.query(ctx, query, args...)
	if err != nil {
		leave()
		return nil, err
	}
	return &turn{cursor: rows, leave: sync.OnceFunc(leave)}, nil
}

// turn is rows that are read in it.
type turn struct {
	cursor
	leave func()
}

func (t *turn) Next() bool {
	if t.cursor.Next() {
		return true
	}
	_ = t.Close()
	return false
}

func (t *turn) Close() error {
	defer t.leave()
	return t.cursor.Close()
}

// alone waits for the turn of a statement that is no part of a group.
func (w *writer) alone(ctx context.Context) (leave func(), err error) {
	if leave, err = w.line.enter(ctx); err != nil {
		return nil, err
	}
	w.commit(w.open)
	return leave, nil
}

// commit ends the group, if it is still open. The caller has the turn.
func (w *writer) commit(g *group) {
	if g == nil || w.open != g {
		return
	}
	w.open = nil
	defer close(g.done)
	if g.lost {
		_, _ = w.exec(context.Background(), "ROLLBACK") // of what may have begun since
		g.err = &outage{errors.New("the engine has undone the transaction")}
		return
	}
	if _, g.err = w.exec(context.Background(), "COMMIT"); g.err != nil {
		g.unknown = !isConflict(g.err)
		_, _ = w.exec(context.Background(), "ROLLBACK")
	}
}

// close commits what is open, and gives the connection back for good.
func (w *writer) close() error {
	leave, err := w.alone(context.Background())
	if err != nil {
		return err
	}
	defer leave()
	if w.conn == nil {
		return nil
	}
	for _, s := range w.prepared {
		err = errors.Join(err, s.Close())
	}
	err = errors.Join(err, w.conn.Close())
	w.conn, w.prepared = nil, nil
	return err
}

// statement returns the statement prepared, or nil if it is none to keep. The
// connection is made if there is none.
func (w *writer) statement(ctx context.Context, query string) (*sql.Stmt, error) {
	if w.conn == nil {
		conn, err := w.pool.Conn(ctx)
		if err != nil {
			return nil, err
		}
		w.conn, w.prepared = conn, map[string]*sql.Stmt{}
	}
	s := w.prepared[query]
	if s != nil || len(w.prepared) == maxPrepared {
		return s, nil
	}
	s, err := w.conn.PrepareContext(ctx, query)
	if err == nil {
		w.prepared[query] = s
	}
	return s, err
}

// exec runs a statement to its end, whoever leaves meanwhile: SQLite undoes the
// whole group with one that is interrupted.
func (w *writer) exec(ctx context.Context, query string, args ...any) (int64, error) {
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	ctx = context.WithoutCancel(ctx)
	s, err := w.statement(ctx, query)
	switch {
	case err != nil:
		return 0, err
	case s == nil:
		return changes(w.conn.ExecContext(ctx, query, args...))
	}
	return changes(s.ExecContext(ctx, args...))
}

func (w *writer) query(ctx context.Context, query string, args ...any) (cursor, error) {
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	ctx = context.WithoutCancel(ctx)
	s, err := w.statement(ctx, query)
	switch {
	case err != nil:
		return nil, err
	case s == nil:
		return w.conn.QueryContext(ctx, query, args...)
	}
	return s.QueryContext(ctx, args...)
}

// member is a transaction of a group.
type member struct {
	*writer
	group *group
	first bool
	leave func() // ends the turn
}

func (m *member) Exec(ctx context.Context, query string, args ...any) (int64, error) {
	return m.exec(ctx, query, args...)
}

func (m *member) Later(ctx context.Context, query string, args []any, done func(int64, error)) {
	done(m.exec(ctx, query, args...))
}

func (m *member) Query(ctx context.Context, query string, args ...any) (cursor, error) {
	return m.query(ctx, query, args...)
}

// Commit ends the turn, and waits for the commit of the group.
func (m *member) Commit(ctx context.Context) (unknown bool, err error) {
	if ctx.Err() != nil {
		_ = m.Rollback(ctx)
		return false, ctx.Err()
	}
	if !m.first {
		if _, err := m.exec(context.Background(), "RELEASE SAVEPOINT member"); err != nil {
			m.lost()
		}
	}
	m.wait()
	return m.group.unknown, m.group.err
}

// wait ends the turn, and returns when the group is committed.
func (m *member) wait() {
	m.leave()
	if leave := m.line.enterUnless(m.group.done); leave != nil {
		m.commit(m.group)
		leave()
	}
	<-m.group.done
}

// Rollback undoes this transaction, and ends the turn. What it has seen of others
// may be why it failed, so it waits until that lasts; a *baseless error says that it
// does not.
func (m *member) Rollback(context.Context) error {
	ctx := context.Background()
	if m.first {
		defer m.leave()
		m.open = nil
		_, err := m.exec(ctx, "ROLLBACK")
		return err
	}
	_, undo := m.exec(ctx, "ROLLBACK TO SAVEPOINT member")
	_, release := m.exec(ctx, "RELEASE SAVEPOINT member")
	if undo != nil || release != nil {
		m.lost()
	}
	m.wait()
	if m.group.err != nil {
		return &baseless{&outage{m.group.err}}
	}
	return errors.Join(undo, release)
}

// baseless is why a transaction that was undone can't say why: what it has seen
// was not committed. Nothing was done.
type baseless struct{ err error }

func (b *baseless) Error() string { return b.err.Error() }
func (b *baseless) Unwrap() error { return b.err }

// cause is why a transaction has failed that fn has failed in, and that was undone.
func cause(fn, undone error) error {
	if errors.As(undone, new(*baseless)) {
		return undone
	}
	return fn
}

// lost ends a group that SQLite has undone, as it does when the disk is full.
func (m *member) lost() {
	m.group.lost = true
	m.commit(m.group)
}

// newWriter returns the writer of a pool of one connection.
func newWriter(pool *sql.DB) *writer { return &writer{pool: pool, line: make(line, 1)} }

// use is how many connections are in use, and how many are idle.
func (w *writer) use() (used, idle int) {
	if open := w.pool.Stats().OpenConnections; open == 0 {
		return 0, 0
	}
	return len(w.line), 1 - len(w.line)
}

// reader is the pool that reads a SQLite file, with the statements it has prepared.
type reader struct {
	pool     *sql.DB
	mu       sync.RWMutex
	prepared map[string]*sql.Stmt
}

// query runs a statement that it has prepared, or prepares it.
func (r *reader) query(ctx context.Context, query string, args []any) (*sql.Rows, error) {
	r.mu.RLock()
	s, n := r.prepared[query], len(r.prepared)
	r.mu.RUnlock()
	if s == nil && n < maxPrepared {
		made, err := r.pool.PrepareContext(ctx, query)
		if err != nil {
			return nil, err
		}
		s = r.keep(query, made)
	}
	if s == nil {
		return r.pool.QueryContext(ctx, query, args...)
	}
	return s.QueryContext(ctx, args...)
}

// keep returns the statement that is kept: another may have been faster.
func (r *reader) keep(query string, s *sql.Stmt) *sql.Stmt {
	r.mu.Lock()
	defer r.mu.Unlock()
	if before := r.prepared[query]; before != nil {
		_ = s.Close()
		return before
	}
	r.prepared[query] = s
	return s
}

package db

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

const (
	// jointTime bounds each way to the server of a shared transaction. A server that
	// hangs holds nobody for much longer than its own context would.
	jointTime = 2 * time.Second
	// jointLeast is what the ways to the server have, however little time one of
	// those who share has left.
	jointLeast = 250 * time.Millisecond
	// jointLock bounds the wait for a row that another replica has locked. Two
	// replicas could wait for each other: whoever gives up first goes on alone. And the
	// server does not keep the rows for long of a replica that the network has cut off.
	jointLock = "SELECT set_config('lock_timeout', '250', true), set_config('idle_in_transaction_session_timeout', '5000', true)"
)

// errUndone says that a shared transaction was undone, for a reason that may be
// another's: each has to be tried alone.
var errUndone = &baseless{errors.New("undone together with another")}

// joint is a transaction on PostgreSQL that several share, each with rows of its
// own (see DB.Of). They run side by side until each waits for an answer or has
// ended; what they ask for by then goes to the server all at once, and at last the
// commit. So a round costs one way to the server, and all of them one commit.
//
// There are no savepoints. When one fails that has changed something, or any
// statement does, nothing is committed, and each is tried again alone. Nobody is told
// anything before the commit.
type joint struct {
	begin func(context.Context) (*pipeline, error)
	until time.Time // the end of who has the least time
	over  func()    // is called at the end

	mu     sync.Mutex
	busy   int // that neither wait for an answer nor have ended
	undone bool

	// Of whoever was the last to be busy.
	parts []*part // in the order of their keys, so that all lock in the same order
	p     *pipeline
	scan  sync.Mutex // keeps those apart who read rows: they share their codecs

	done chan struct{} // closed when the rest is known
	// What has become of the commit.
	unknown bool
	err     error
}

// part is the session of one who shares.
type part struct {
	*joint
	waiting []later       // of this round
	answer  chan struct{} // gets one when it is there; nil: nobody waits for it
	failed  error         // of the round
	changed bool          // it has changed something, or may have
	ended   bool
}

// newJoint returns a transaction for who came with these contexts, and the
// session of each.
func newJoint(ctxs []context.Context, begin func(context.Context) (*pipeline, error), over func()) *joint {
	j := &joint{begin: begin, over: over, busy: len(ctxs), done: make(chan struct{})}
	for _, ctx := range ctxs {
		if end, ok := ctx.Deadline(); ok && (j.until.IsZero() || end.Before(j.until)) {
			j.until = end
		}
		j.parts = append(j.parts, &part{joint: j})
	}
	return j
}

func (m *part) Later(_ context.Context, query string, args []any, done func(int64, error)) {
	m.waiting = append(m.waiting, later{query: query, args: args, done: done})
}

func (m *part) Exec(ctx context.Context, query string, args ...any) (n int64, err error) {
	err = m.ask(ctx, later{query: query, args: args, done: func(changed int64, _ error) { n = changed }})
	m.changed = m.changed || n > 0
	return n, err
}

func (m *part) Query(ctx context.Context, query string, args ...any) (cursor, error) {
	rows := &kept{lock: &m.scan}
	err := m.ask(ctx, later{query: query, args: args, rows: rows, done: func(int64, error) {}})
	if err != nil {
		return nil, err
	}
	m.changed = m.changed || len(rows.rows) > 0 && !onlyReads(query)
	return rows, nil
}

// ask waits for the answer to a statement, and to those that were to go with it.
// Once something was asked for, a context that ends is not heeded: to undo the rest
// would cost all the others more than to go on for a moment.
func (m *part) ask(ctx context.Context, s later) error {
	if !m.changed && ctx.Err() != nil {
		return ctx.Err()
	}
	m.changed = m.changed || len(m.waiting) > 0
	m.waiting = append(m.waiting, s)
	m.answer = make(chan struct{}, 1)
	m.rest()
	<-m.answer
	m.answer = nil
	return m.failed
}

// rest is called by who is not busy any more. The last one carries on for all.
func (m *part) rest() {
	m.mu.Lock()
	m.busy--
	last := m.busy == 0
	m.mu.Unlock()
	switch {
	case !last:
	case slices.ContainsFunc(m.parts, func(m *part) bool { return !m.ended }):
		m.round()
	default:
		m.commit()
	}
}

// round sends what was asked for, and wakes those who did.
func (j *joint) round() {
	err := error(errUndone)
	if !j.undone {
		if failed := j.flush(); failed != nil {
			j.undone = true
		} else {
			err = nil
		}
	}
	var woken []*part
	for _, m := range j.parts {
		m.drop(errUndone)
		if m.answer != nil {
			m.failed = err
			woken = append(woken, m)
		}
	}
	j.busy = len(woken)
	for _, m := range woken {
		m.answer <- struct{}{}
	}
}

// flush sends what was asked for. A panic is an error: it is not of who carries on,
// and all the others wait.
func (j *joint) flush() (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic in a shared transaction: %v\n%s", p, debug.Stack())
		}
	}()
	ctx, cancel := j.bounded()
	defer cancel()
	if err := j.collect(ctx); err != nil || len(j.p.waiting) == 0 {
		return err
	}
	return j.p.flush(ctx)
}

// bounded returns the context of one way to the server.
func (j *joint) bounded() (context.Context, context.CancelFunc) {
	now := time.Now()
	end := now.Add(jointTime)
	if !j.until.IsZero() && j.until.Before(end) {
		end = j.until
	}
	if least := now.Add(jointLeast); end.Before(least) {
		end = least
	}
	return context.WithDeadline(context.Background(), end)
}

// collect puts what was asked for into the pipeline, which is opened if need be.
func (j *joint) collect(ctx context.Context) (err error) {
	first := j.p == nil
	if first {
		if j.p, err = j.begin(ctx); err != nil {
			return err
		}
		j.p.Later(ctx, jointLock, nil, func(int64, error) {})
	}
	for _, m := range j.parts {
		for _, s := range m.waiting {
			if s.rows != nil {
				s.rows.types = j.p.conn.TypeMap()
			}
			j.p.waiting = append(j.p.waiting, s)
		}
		m.waiting = nil
	}
	return nil
}

// commit ends the transaction. All have ended. The commit itself has its time even if
// one of them has hardly any left: cut short, its outcome would be unknown to all.
func (j *joint) commit() {
	defer j.over()
	defer close(j.done)
	ctx, cancel := context.WithTimeout(context.Background(), jointTime)
	defer cancel()
	empty := !j.undone && !j.something()
	if !empty {
		j.err = errUndone // unless it comes to a commit
	}
	if empty || j.undone || j.collect(ctx) != nil {
		for _, m := range j.parts {
			m.drop(errUndone)
		}
		if j.p != nil {
			_ = j.p.Rollback(ctx)
		}
		return
	}
	j.unknown, j.err = true, errors.New("the commit was interrupted") // a panic must tell nobody of a success
	if j.unknown, j.err = j.p.Commit(ctx); j.err != nil && !j.unknown {
		j.err = errUndone
	}
}

// drop leaves what was asked for unsent.
func (m *part) drop(why error) {
	for _, s := range m.waiting {
		s.done(0, why)
	}
	m.waiting = nil
}

// something reports whether anything was asked for.
func (j *joint) something() bool {
	return j.p != nil || slices.ContainsFunc(j.parts, func(m *part) bool { return len(m.waiting) > 0 })
}

// Commit waits for all the others, and for the commit.
func (m *part) Commit(ctx context.Context) (unknown bool, err error) {
	if !m.changed && ctx.Err() != nil {
		return false, cause(ctx.Err(), m.Rollback(ctx))
	}
	m.end()
	return m.unknown, m.err
}

// Rollback undoes what all have done if this one has done anything.
func (m *part) Rollback(context.Context) error {
	if m.ended { // and then it panicked
		return m.err
	}
	m.drop(context.Canceled)
	if m.changed {
		m.undo()
	}
	m.end()
	return m.err
}

// undo has each try alone.
func (m *part) undo() {
	m.mu.Lock()
	m.undone = true
	m.mu.Unlock()
}

func (m *part) end() {
	m.ended = true
	m.rest()
	<-m.done
}

// kept is rows that were read for somebody who waits for them.
type kept struct {
	fields []pgconn.FieldDescription
	rows   [][][]byte
	at     int // of the next row
	types  *pgtype.Map
	lock   *sync.Mutex // of types
}

// keep reads the rows to their end.
func (k *kept) keep(rows pgx.Rows) error {
	defer rows.Close()
	for rows.Next() {
		row := slices.Clone(rows.RawValues())
		for i, value := range row {
			row[i] = slices.Clone(value) // nil stays nil, which is NULL
		}
		k.rows = append(k.rows, row)
	}
	k.fields = slices.Clone(rows.FieldDescriptions()) // the connection uses them again for the next answer
	return rows.Err()
}

func (k *kept) Next() bool {
	if k.at == len(k.rows) {
		return false
	}
	k.at++
	return true
}

func (k *kept) Scan(dest ...any) error {
	k.lock.Lock()
	defer k.lock.Unlock()
	row := k.rows[k.at-1]
	if len(row) != len(dest) {
		return errors.New("a row has another number of columns")
	}
	for i, f := range k.fields {
		if err := k.types.Scan(f.DataTypeOID, f.Format, row[i], dest[i]); err != nil {
			return err
		}
	}
	return nil
}

func (k *kept) Err() error   { return nil }
func (k *kept) Close() error { return nil }

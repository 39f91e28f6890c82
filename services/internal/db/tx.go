package db

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/meshmart/meshmart/services/internal/effect"
)

// A transaction that lost against another is tried this often, with pauses
// that grow from the first to some ten times that.
const (
	attempts   = 5
	firstPause = 5 * time.Millisecond
)

// txn is a transaction; only the goroutine that runs it touches it.
type txn struct {
	session
	depth    int        // of savepoints
	gathered []gathered // to be done before the commit
	after    []func()
	changed  bool // it has changed a row, or may have, and was not undone since
}

// InTx calls fn with a DB bound to one transaction, which is committed if fn
// returns nil and undone if it returns an error or panics. Until then fn must
// use no other DB: on SQLite it would wait for itself.
//
// Where the engine says that the transaction lost against another one, fn is
// called again, a few times; it must have no effect but on tx. On PostgreSQL
// the isolation is READ COMMITTED, so a decision belongs in the statement that
// acts upon it.
//
// Inside a transaction InTx joins it: the effects of fn last if the outer one
// does, but an error undoes those of fn alone, and the outer one may go on.
func (d *DB) InTx(ctx context.Context, fn func(tx *DB) error) error {
	if d.tx != nil {
		return d.join(ctx, fn)
	}
	for n := 0; ; n++ {
		err := d.attempt(ctx, fn)
		if errors.Is(err, errUndone) {
			d = &DB{core: d.core}
			err = d.attempt(ctx, fn)
		}
		if err == nil || !isConflict(err) || n+1 == attempts {
			return err
		}
		if pause(ctx, n, firstPause, time.Second) != nil {
			return err
		}
	}
}

// AfterCommit has fn called once what the transaction did can be seen by
// others, and not at all if it is undone. Outside a transaction it calls fn.
func (d *DB) AfterCommit(fn func()) {
	if d.tx == nil {
		fn()
		return
	}
	d.tx.after = append(d.tx.after, fn)
}

// Later is Exec for a statement whose answer is of no interest now: on PostgreSQL
// it waits for the next one that is, or for the commit, and saves a way to the
// server. If it fails, whichever statement it went with does, or the commit; if
// it finds no row, nobody is told.
func (d *DB) Later(ctx context.Context, query string, args ...any) error {
	return d.Count(ctx, new(int64), query, args...)
}

// Count is Later, and sets n to how many rows the statement has changed, by the time
// that the transaction is committed.
func (d *DB) Count(ctx context.Context, n *int64, query string, args ...any) (err error) {
	if d.tx == nil {
		*n, err = d.Exec(ctx, query, args...)
		return err
	}
	d.tx.changed = true
	span := d.span(ctx, query)
	var failed error
	d.tx.Later(ctx, query, args, func(changed int64, err error) {
		endSpan(span, err)
		*n, failed = changed, err
	})
	return d.explain(ctx, failed, false)
}

// local reports whether SET LOCAL is for d's own transaction alone, on PostgreSQL.
func (d *DB) local() bool {
	if !d.remote || d.tx == nil {
		return false
	}
	_, shared := d.tx.session.(*part)
	return !shared
}

// Forgettable says of a transaction that nothing is lost with it: its commit does not
// wait for the disk, and a PostgreSQL server that crashes in the next moment may have
// undone it. It is for what only saves work, and would be done again.
func (d *DB) Forgettable(ctx context.Context) {
	if d.local() {
		d.tx.Later(ctx, "SET LOCAL synchronous_commit = off", nil, func(int64, error) {})
	}
}

// attempt runs fn in a new transaction, once.
func (d *DB) attempt(ctx context.Context, fn func(tx *DB) error) error {
	session, err := d.begin(ctx)
	if err != nil {
		return err
	}
	t := &txn{session: session}
	decided := false
	defer func() {
		if !decided { // a panic
			_ = d.undo(ctx, t)
		}
	}()
	tx := &DB{core: d.core, tx: t}
	if err = fn(tx); err == nil {
		err = tx.flush(ctx)
	}
	if err != nil {
		decided = true
		return cause(err, d.undo(ctx, t))
	}
	err = d.commit(ctx, t)
	decided = true
	if err != nil {
		return err
	}
	for _, f := range t.after {
		f()
	}
	return nil
}

func (d *DB) begin(ctx context.Context) (session, error) {
	if out := d.down.Load(); out != nil {
		return nil, out
	}
	if d.remote {
		return d.beginRemote(ctx)
	}
	s, err := d.writer.begin(ctx)
	if err != nil && ctx.Err() == nil {
		err = fmt.Errorf("begin: %w", err)
	}
	return s, err
}

// beginRemote begins a transaction on PostgreSQL; one by a key, when it is its turn.
func (d *DB) beginRemote(ctx context.Context) (session, error) {
	if d.key == "" {
		p, err := newPipeline(ctx, d.writes)
		if err != nil {
			return nil, fmt.Errorf("begin: %w", lost(err))
		}
		return p, nil
	}
	m, leave, err := d.enter(ctx, d.key)
	switch {
	case err != nil:
		return nil, err
	case m != nil:
		return m, nil
	}
	p, err := newPipeline(ctx, d.writes)
	if err != nil {
		leave()
		return nil, fmt.Errorf("begin: %w", lost(err))
	}
	return &lone{p, leave}, nil
}

// commit ends the transaction, and notes it if that may have had an effect.
func (d *DB) commit(ctx context.Context, t *txn) error {
	if !t.changed {
		return d.end(ctx, t)
	}
	caller := d.caller(ctx)
	d.point.At("before commit of ", caller)
	err := d.end(ctx, t)
	if err == nil || errors.As(err, new(*uncertain)) {
		effect.Note(ctx)
	}
	if err == nil {
		d.point.At("after commit of ", caller)
	}
	return err
}

// undo ends a transaction that was not to be committed. What the engine says to
// it is for the span, and for cause: a transaction that it loses is undone as well.
func (d *DB) undo(ctx context.Context, t *txn) error {
	span := d.span(ctx, "ROLLBACK")
	err := t.Rollback(ctx)
	failed := err
	if ctx.Err() != nil { // the connection may have been dropped with it
		failed = nil
	}
	endSpan(span, failed)
	return err
}

// end is commit with its span.
func (d *DB) end(ctx context.Context, t *txn) error {
	span := d.span(ctx, "COMMIT")
	open, err := t.Commit(ctx)
	switch {
	case open:
		err = fmt.Errorf("commit: %w", &uncertain{err})
	case err != nil && ctx.Err() == nil:
		err = fmt.Errorf("commit: %w", err)
	}
	endSpan(span, err)
	return err
}

// join runs fn between savepoints. PostgreSQL refuses all that follows a
// failed statement and SQLite does not; with the savepoint both go on from
// where fn began.
func (d *DB) join(ctx context.Context, fn func(tx *DB) error) error {
	t := d.tx
	if m, ok := t.session.(*part); ok { // others have statements between the savepoints
		m.undo()
		return errUndone
	}
	t.depth++
	defer func() { t.depth-- }()
	name, hooks, items, changed := fmt.Sprintf("s%d", t.depth), len(t.after), len(t.gathered), t.changed
	if _, err := d.exec(ctx, "SAVEPOINT "+name); err != nil {
		return fmt.Errorf("savepoint: %w", err)
	}
	if err := fn(d); err != nil {
		t.after, t.gathered, t.changed = t.after[:hooks], t.gathered[:items], changed
		// The refusal that err may hold must not outlive effects that could
		// not be undone, so it is kept as text only.
		if _, undo := d.exec(context.WithoutCancel(ctx), "ROLLBACK TO SAVEPOINT "+name); undo != nil && !isConflict(err) {
			return fmt.Errorf("undo after %q: %w", err.Error(), d.explain(ctx, undo, false))
		}
		return err
	}
	if _, err := d.exec(ctx, "RELEASE SAVEPOINT "+name); err != nil {
		return fmt.Errorf("release savepoint: %w", err)
	}
	return nil
}

// pause waits before attempt n+1: twice as long each time from first up to
// limit, of which up to a half is left to chance so that rivals part.
func pause(ctx context.Context, n int, first, limit time.Duration) error {
	d := min(first<<min(n, 20), limit)
	timer := time.NewTimer(d - rand.N(d/2+1))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

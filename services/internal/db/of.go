package db

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// jointWriters is how many transactions of DB.Of run at once, be they alone or
	// shared: while one is on its way to the disk the other can run.
	jointWriters = 2
	// mostJoint bounds how many share one.
	mostJoint = 64
)

// Of returns d for work on the rows of one key, such as an order's id, and on no
// others that work of another key might touch. On PostgreSQL what is so done in
// InTx, or as a change by itself, while other such work is under way, shares its
// transaction and its commit with those that wait as well. It may then run twice,
// once with others and once alone. Work of one key is begun in the order of its coming;
// what is tried again alone may be overtaken.
//
// With nobody else there it is as without: nothing waits to be joined.
func (d *DB) Of(key string) *DB {
	if !d.remote || d.tx != nil || key == "" {
		return d
	}
	return &DB{core: d.core, key: key}
}

// queue is where work by keys waits for a writer.
type queue struct {
	mu   sync.Mutex
	free int                 // writers
	keys map[string]struct{} // under way
	line []*place
}

// place is that of one who waits.
type place struct {
	key   string
	ctx   context.Context
	start chan *part // gets one when it is its turn; nil: alone
}

func newQueue() *queue { return &queue{free: jointWriters, keys: map[string]struct{}{}} }

// enter waits for the caller's turn. It returns the session that it has with
// others; without others nil, and then leave must be called.
func (c *core) enter(ctx context.Context, key string) (m *part, leave func(), err error) {
	q := c.queue
	q.mu.Lock()
	_, taken := q.keys[key]
	if q.free > 0 && !taken {
		q.free--
		q.keys[key] = struct{}{}
		q.mu.Unlock()
		return nil, c.lend(key), nil
	}
	p := &place{key: key, ctx: ctx, start: make(chan *part, 1)}
	q.line = append(q.line, p)
	q.mu.Unlock()
	select {
	case m = <-p.start:
	case <-ctx.Done():
		if q.withdraw(p) {
			return nil, nil, ctx.Err()
		}
		m = <-p.start // others count on it
	}
	if m != nil {
		return m, nil, nil
	}
	return nil, c.lend(key), nil
}

// lend returns what gives a writer back. Who is alone may wait for a server that is
// silent for as long as his own context lets him: the others do not wait for him.
func (c *core) lend(key string) (leave func()) {
	once := sync.OnceFunc(func() { c.leave(key) })
	timer := time.AfterFunc(jointTime, once)
	return func() {
		timer.Stop()
		once()
	}
}

// withdraw reports whether p was still in the line, which it has left.
func (q *queue) withdraw(p *place) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	i := slices.Index(q.line, p)
	if i >= 0 {
		q.line = slices.Delete(q.line, i, i+1)
	}
	return i >= 0
}

// leave ends the work of these keys, and gives the writer to those who wait.
func (c *core) leave(keys ...string) {
	q := c.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, key := range keys {
		delete(q.keys, key)
	}
	next := q.next()
	switch len(next) {
	case 0:
		q.free++
	case 1:
		next[0].start <- nil
	default:
		c.startJoint(next)
	}
}

// next takes those out of the line who can go on together.
func (q *queue) next() []*place {
	var next []*place
	rest := q.line[:0]
	for _, p := range q.line {
		_, taken := q.keys[p.key]
		if taken || len(next) == mostJoint {
			rest = append(rest, p)
			continue
		}
		q.keys[p.key] = struct{}{}
		next = append(next, p)
	}
	clear(q.line[len(rest):])
	q.line = rest
	return next
}

// startJoint has them share a transaction. All do so in the order of their keys, so
// that two replicas lock the same rows in the same order.
func (c *core) startJoint(next []*place) {
	slices.SortFunc(next, func(a, b *place) int { return strings.Compare(a.key, b.key) })
	keys, ctxs := make([]string, len(next)), make([]context.Context, len(next))
	for i, p := range next {
		keys[i], ctxs[i] = p.key, p.ctx
	}
	j := newJoint(ctxs,
		func(ctx context.Context) (*pipeline, error) { return newPipeline(ctx, c.writes) },
		func() { c.leave(keys...) })
	for i, p := range next {
		p.start <- j.parts[i]
	}
}

// lone is a transaction that turned out to be without others.
type lone struct {
	session
	leave func()
}

func (l *lone) Commit(ctx context.Context) (unknown bool, err error) {
	defer l.leave()
	return l.session.Commit(ctx)
}

func (l *lone) Rollback(ctx context.Context) error {
	defer l.leave()
	return l.session.Rollback(ctx)
}

// together has fn make a change that is no part of a transaction, if there are
// others to do so with; false: there are none, or it has to be tried alone, and then
// leave must be called.
func (d *DB) together(ctx context.Context, fn func(session) error) (done bool, leave func(), err error) {
	if d.key == "" || d.down.Load() != nil {
		return false, func() {}, nil
	}
	m, leave, err := d.enter(ctx, d.key)
	if err != nil || m == nil {
		return err != nil, leave, err
	}
	if err = fn(m); err != nil {
		err = cause(err, m.Rollback(ctx))
	} else {
		var unknown bool
		if unknown, err = m.Commit(ctx); unknown {
			err = &uncertain{err}
		}
	}
	if errors.Is(err, errUndone) {
		return false, func() {}, nil
	}
	return true, nil, err
}

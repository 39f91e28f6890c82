// Package batch reads for all who ask at the same time at once. What a read from a
// database costs is mostly the way there and back: for twenty keys it is little
// more than for one.
//
// Nobody is answered by a read that had begun before they asked. So whoever has
// changed something finds it changed, in every replica, as if they had read alone.
//
// A Writer does as much for changes.
package batch

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"
)

const (
	// parallel reads are under way at most: one that is slow does not keep all
	// others waiting, and the fewer they are, the more each has to read.
	parallel = 2
	// Most is how many keys one read has at most.
	Most = 128
)

// Reader reads values by their keys. It is safe for concurrent use.
type Reader[K comparable, V any] struct {
	// Read returns the values of 1 to Most different keys, without those that there
	// are not.
	Read func(ctx context.Context, keys []K) (map[K]V, error)

	mu      sync.Mutex
	running int
	waiting []*group[K, V]
}

// group is read at once.
type group[K comparable, V any] struct {
	ctx   context.Context // of the first whose trace is kept, or of the one who came first
	until time.Time       // that the last of them waits; zero: for ever
	keys  []K
	done  chan struct{} // closed when what follows is known
	found map[K]V
	err   error
}

// Get returns the value of a key, and whether there is one. Whoever finds nobody
// reading reads at once, with their own ctx if nobody else has come; others wait
// until their turn comes and are read for together. The read is in the trace of one
// of them if any is kept, and the spans of the others are linked to theirs.
func (r *Reader[K, V]) Get(ctx context.Context, key K) (V, bool, error) {
	g, leads := r.join(ctx, key)
	if leads {
		if g = r.company(ctx, key); g == nil {
			return r.alone(ctx, key)
		}
		go r.work(g)
	}
	select {
	case <-g.done:
		v, ok := g.found[key]
		return v, ok, g.err
	case <-ctx.Done():
		var none V
		return none, false, ctx.Err()
	}
}

func (r *Reader[K, V]) alone(ctx context.Context, key K) (V, bool, error) {
	defer r.next()
	found, err := r.Read(ctx, []K{key})
	v, ok := found[key]
	return v, ok, err
}

// join returns the group that the caller waits with, or says that it is to lead.
func (r *Reader[K, V]) join(ctx context.Context, key K) (g *group[K, V], leads bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.running < parallel {
		r.running++
		return nil, true
	}
	last := len(r.waiting) - 1
	if last < 0 || len(r.waiting[last].keys) == Most-1 { // one place is a leader's
		g = &group[K, V]{done: make(chan struct{})}
		r.waiting = append(r.waiting, g)
		last++
	}
	r.waiting[last].add(ctx, key)
	return r.waiting[last], false
}

// add has the group read for one more.
func (g *group[K, V]) add(ctx context.Context, key K) {
	until, bounded := ctx.Deadline()
	switch {
	case g.keys == nil:
		g.ctx, g.until = ctx, until
	case !bounded:
		g.until = time.Time{}
	case !g.until.IsZero() && until.After(g.until):
		g.until = until
	}
	g.keys = append(g.keys, key)
	own, shared := trace.SpanContextFromContext(ctx), trace.SpanContextFromContext(g.ctx)
	switch {
	case !own.IsSampled():
	case !shared.IsSampled():
		g.ctx = ctx
	case !own.Equal(shared):
		trace.SpanFromContext(ctx).AddLink(trace.Link{SpanContext: shared})
	}
}

// company has a leader read for those as well whose calls have arrived and had only
// to be let run: of a database in this process nobody would ever wait. It returns
// nil if there is nobody.
func (r *Reader[K, V]) company(ctx context.Context, key K) *group[K, V] {
	runtime.Gosched()
	r.mu.Lock()
	defer r.mu.Unlock()
	g := r.first()
	if g != nil {
		g.add(ctx, key)
	}
	return g
}

// first takes the group whose turn it is, nil if nobody waits. It is called with mu
// held.
func (r *Reader[K, V]) first() *group[K, V] {
	if len(r.waiting) == 0 {
		return nil
	}
	g := r.waiting[0]
	r.waiting = r.waiting[1:]
	return g
}

// next has those read who have come meanwhile, and does not wait for that.
func (r *Reader[K, V]) next() {
	if g := r.pop(); g != nil {
		go r.work(g)
	}
}

// work reads for a group, and for those who come meanwhile.
func (r *Reader[K, V]) work(g *group[K, V]) {
	for ; g != nil; g = r.pop() {
		r.read(g)
	}
}

// pop returns the group whose turn it is, or nil if nobody waits: then the place
// is free.
func (r *Reader[K, V]) pop() *group[K, V] {
	r.mu.Lock()
	defer r.mu.Unlock()
	g := r.first()
	if g == nil {
		r.running--
	}
	return g
}

// read reads for a group, of which everybody may leave at any time.
func (r *Reader[K, V]) read(g *group[K, V]) {
	defer func() {
		if p := recover(); p != nil { // it is nobody's goroutine, and the process goes on
			g.err = fmt.Errorf("read: panic: %v\n%s", p, debug.Stack())
		}
		close(g.done)
	}()
	ctx := context.WithoutCancel(g.ctx)
	if !g.until.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, g.until)
		defer cancel()
	}
	g.found, g.err = r.Read(ctx, distinct(g.keys))
}

// distinct returns each key once.
func distinct[K comparable](keys []K) []K {
	seen, all := make(map[K]bool, len(keys)), make([]K, 0, len(keys))
	for _, k := range keys {
		if !seen[k] {
			seen[k] = true
			all = append(all, k)
		}
	}
	return all
}

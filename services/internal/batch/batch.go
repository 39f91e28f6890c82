// Package batch reads for all who ask at the same time at once. What a read from a
// database costs is mostly the way there and back: for twenty keys it is little
// more than for one.
//
// Nobody is answered by a read that had begun before they asked. So whoever has
// changed something finds it changed, in every replica, as if they had read alone.
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
	ctx   context.Context // of the one who came first
	until time.Time       // that the last of them waits; zero: for ever
	keys  []K
	done  chan struct{} // closed when what follows is known
	found map[K]V
	err   error
}

// Get returns the value of a key, and whether there is one. Whoever finds nobody
// reading reads at once, with their own ctx if nobody else has come; others wait
// until their turn comes and are read for together. A call whose trace is kept reads
// alone in any case: its trace tells what was done for it, and not for others.
func (r *Reader[K, V]) Get(ctx context.Context, key K) (V, bool, error) {
	if trace.SpanContextFromContext(ctx).IsSampled() {
		return r.alone(ctx, key)
	}
	g := r.join(ctx, key)
	if g == nil {
		return r.lead(ctx, key)
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
	found, err := r.Read(ctx, []K{key})
	v, ok := found[key]
	return v, ok, err
}

// join returns the group that the caller waits with, or nil if it is to lead.
func (r *Reader[K, V]) join(ctx context.Context, key K) *group[K, V] {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.running < parallel {
		r.running++
		return nil
	}
	last := len(r.waiting) - 1
	if last < 0 || len(r.waiting[last].keys) == Most-1 { // one place is a leader's
		r.waiting = append(r.waiting, &group[K, V]{done: make(chan struct{})})
		last++
	}
	r.waiting[last].add(ctx, key)
	return r.waiting[last]
}

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
}

// lead reads for the caller, and for those whose calls have arrived as well and had
// only to be let run: of a database in this process nobody would ever wait.
func (r *Reader[K, V]) lead(ctx context.Context, key K) (V, bool, error) {
	defer r.next()
	runtime.Gosched()
	r.mu.Lock()
	g := r.first()
	r.mu.Unlock()
	if g == nil {
		return r.alone(ctx, key)
	}
	g.add(ctx, key)
	r.read(g)
	v, ok := g.found[key]
	return v, ok, g.err
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
		go func() {
			for ; g != nil; g = r.pop() {
				r.read(g)
			}
		}()
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

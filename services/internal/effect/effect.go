// Package effect knows of each call whether it may have changed anything.
//
// A mesh repeats a call that was answered UNAVAILABLE, for that code says that
// nothing was done. Whatever changes something that lasts notes it here (package
// db for a commit, package rpc for a call of another service), and the server
// looks at the end whether its answer is true.
package effect

import (
	"context"
	"sync/atomic"
)

type key struct{}

// Track returns a ctx that remembers whether an effect was noted under it, apart
// from what was noted under ctx before.
func Track(ctx context.Context) context.Context {
	return context.WithValue(ctx, key{}, new(atomic.Bool))
}

// Note records that something may have been changed on behalf of ctx. It may be
// called by many goroutines, also when the call has ended: work that a handler
// leaves behind is noted, and nobody looks any more. Without Track it does
// nothing.
func Note(ctx context.Context) {
	if noted, ok := ctx.Value(key{}).(*atomic.Bool); ok {
		noted.Store(true)
	}
}

// Noted reports whether something may have been changed on behalf of ctx, since
// Track.
func Noted(ctx context.Context) bool {
	noted, ok := ctx.Value(key{}).(*atomic.Bool)
	return ok && noted.Load()
}

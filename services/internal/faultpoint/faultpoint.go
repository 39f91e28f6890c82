// Package faultpoint names the places where a process can die between two facts
// that last: after a commit and before its reply, after an event was sent and
// before it left the outbox. Production has no hook there. A test passes one that
// kills the process at the point that it has chosen, and looks at what is left.
package faultpoint

import (
	"context"
	"strings"
)

// Hook is called with the name of each point that the process comes to, by the
// goroutine that is there, which goes on when it returns. Many may be in it at
// the same time. It is nil in production.
type Hook func(point string)

// At tells the hook of a point, whose name is the parts one after another. On a
// nil Hook it does nothing: callers pass the parts as they are, and add nothing
// up that a nil Hook would not need.
func (h Hook) At(parts ...string) {
	if h != nil {
		h(strings.Join(parts, ""))
	}
}

// Named returns the hook under a name, such as that of a service, which comes
// before that of each point: "order: before commit of ...".
func (h Hook) Named(name string) Hook {
	if h == nil {
		return nil
	}
	return func(point string) { h(name + ": " + point) }
}

type key struct{}

// In returns a ctx for work that goes by a name: a call, an event that is
// handled, a worker. Points that are met far below it can tell it, with Work. On a
// nil Hook it returns ctx.
func (h Hook) In(ctx context.Context, parts ...string) context.Context {
	if h == nil {
		return ctx
	}
	return context.WithValue(ctx, key{}, strings.Join(parts, ""))
}

// Work returns " in " and the name of the work that ctx belongs to, or "" if it has none.
func Work(ctx context.Context) string {
	if name, ok := ctx.Value(key{}).(string); ok {
		return " in " + name
	}
	return ""
}

package db

import (
	"context"
	"errors"
	"regexp"
	"runtime"
	"slices"
	"strings"

	"go.opentelemetry.io/otel/trace"

	"github.com/meshmart/meshmart/services/internal/effect"
	"github.com/meshmart/meshmart/services/internal/faultpoint"
)

// change is a statement that changes something, if it finds a row. Then that is
// told to the call that it belongs to, and to the test that waits for it.
type change struct {
	db     *DB
	ctx    context.Context
	caller string // "" if nobody waits for it
}

func (d *DB) changing(ctx context.Context) *change {
	c := &change{db: d, ctx: ctx}
	if d.tx == nil {
		c.caller = d.caller(ctx)
	}
	return c
}

// done notes that the statement has changed something: at once if it stands
// alone, and else when its transaction is committed.
func (c *change) done() {
	if c.db.tx != nil {
		c.db.tx.changed = true
		return
	}
	effect.Note(c.ctx)
	c.db.point.At("after write of ", c.caller)
}

// failed notes a statement that stood alone and may have changed something
// although it failed: it was under way when its caller left or its connection
// broke.
func (d *DB) failed(ctx context.Context, err error) {
	if d.tx == nil && open(err) {
		effect.Note(ctx)
	}
}

// open reports whether a change that failed with err may have been made.
func open(err error) bool {
	return errors.As(err, new(*uncertain)) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// Rows are the answer to a query, as those of database/sql.
type Rows struct {
	cursor
	span   trace.Span // until it is ended, or nil
	change *change    // nil for a query that only reads
	any    bool       // there was a row, so something was changed
}

// Next is that of sql.Rows.
func (r *Rows) Next() bool {
	if r.cursor.Next() {
		r.any = true
		return true
	}
	r.ended()
	return false
}

// Close is that of sql.Rows.
func (r *Rows) Close() error {
	err := r.cursor.Close()
	r.ended()
	return err
}

// ended takes note of a statement that returns what it changed. It has run when
// its rows are closed.
func (r *Rows) ended() {
	if r.span != nil {
		endSpan(r.span, r.Err())
		r.span = nil
	}
	c := r.change
	if c == nil {
		return
	}
	r.change = nil
	if r.any {
		c.done()
	} else {
		c.db.failed(c.ctx, r.Err())
	}
}

// caller names the function that uses the database and the work that it does so
// for, as "(*Orders).add in order.v1.OrderService/CreateOrder". Without a hook
// nobody reads it, and it is "".
func (c *core) caller(ctx context.Context) string {
	if c.point == nil {
		return ""
	}
	return function() + faultpoint.Work(ctx)
}

// function returns the first function up the stack that is not of this package,
// or of one that stands between it and the services.
func function() string {
	pcs := make([]uintptr, 32)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs)])
	for {
		f, more := frames.Next()
		_, name, _ := strings.Cut(f.Function[strings.LastIndexByte(f.Function, '/')+1:], ".")
		name = inner.ReplaceAllString(name, "")
		if !isPlumbing(f.Function, name) || !more {
			return name
		}
	}
}

// inner is what the compiler adds to the name of a function for those in it.
var inner = regexp.MustCompile(`(\.(func|gowrap|deferwrap)\d|-range\d|-fm|\[\.\.\.]).*$`)

func isPlumbing(path, name string) bool {
	const internal = "meshmart/services/internal/"
	if strings.Contains(path, internal+"db.") || strings.Contains(path, internal+"idem.") {
		return true
	}
	// So the stores of the services call their own ways to InTx, Row and idem.Do.
	return slices.Contains([]string{"(*store).inTx", "(*store).one", "(*store).once", "once"}, name)
}

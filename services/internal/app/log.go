package app

import (
	"bytes"
	"context"
	"io"
	"log/slog"

	"go.opentelemetry.io/otel/trace"
)

// newLog returns a logger that writes one JSON object a line, with the trace
// and span that the context belongs to.
func newLog(w io.Writer, service string, level slog.Level) *slog.Logger {
	h := slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level})
	return slog.New(traced{h}).With("service", service)
}

type traced struct{ slog.Handler }

func (t traced) Handle(ctx context.Context, r slog.Record) error {
	if sc := trace.SpanContextFromContext(ctx); sc.IsValid() {
		r.AddAttrs(slog.String("trace_id", sc.TraceID().String()), slog.String("span_id", sc.SpanID().String()))
	}
	return t.Handler.Handle(ctx, r)
}

func (t traced) WithAttrs(as []slog.Attr) slog.Handler { return traced{t.Handler.WithAttrs(as)} }
func (t traced) WithGroup(name string) slog.Handler    { return traced{t.Handler.WithGroup(name)} }

// jsonLines logs as an error whatever is written to it: what libraries say that
// have no better way.
type jsonLines struct{ log *slog.Logger }

func (j jsonLines) Write(p []byte) (int, error) {
	j.log.Error(string(bytes.TrimSpace(p)))
	return len(p), nil
}

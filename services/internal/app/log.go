package app

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"sync"
	"time"

	"go.opentelemetry.io/contrib/bridges/otelslog"
	"go.opentelemetry.io/otel/log"
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

// bridged returns a logger that also sends what lines writes: the same
// attributes, but for the service and the trace, which OTLP has places of its own for.
func bridged(lines *slog.Logger, level slog.Level, to log.LoggerProvider) *slog.Logger {
	sent := otelslog.NewHandler("github.com/meshmart/meshmart/services/internal/app", otelslog.WithLoggerProvider(to))
	return slog.New(slog.NewMultiHandler(lines.Handler(), leveled{sent, level}))
}

// leveled is a handler of what is at least at a level.
type leveled struct {
	slog.Handler
	least slog.Level
}

func (l leveled) Enabled(_ context.Context, at slog.Level) bool { return at >= l.least }

func (l leveled) WithAttrs(as []slog.Attr) slog.Handler {
	return leveled{l.Handler.WithAttrs(as), l.least}
}

func (l leveled) WithGroup(name string) slog.Handler {
	return leveled{l.Handler.WithGroup(name), l.least}
}

// jsonLines logs as an error whatever is written to it: what libraries say that
// have no better way.
type jsonLines struct{ log *slog.Logger }

func (j jsonLines) Write(p []byte) (int, error) {
	j.log.Error(string(bytes.TrimSpace(p)))
	return len(p), nil
}

// seldom logs what the OpenTelemetry SDK complains of, once in a while: it may
// do so for every call. Of exporters the backend tells.
type seldom struct {
	log  *slog.Logger
	mu   sync.Mutex
	next time.Time
	more int // since the last line
}

// Handle implements otel.ErrorHandler.
func (s *seldom) Handle(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if now.Before(s.next) {
		s.more++
		return
	}
	s.log.Error("telemetry is not right", "err", err.Error(), "more_since_last", s.more)
	s.next, s.more = now.Add(tellEvery), 0
}

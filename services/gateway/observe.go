package gateway

import (
	"context"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/status"

	"github.com/meshmart/meshmart/services/internal/app"
	"github.com/meshmart/meshmart/services/internal/rpc"
)

// observer gives every request a trace, metrics and a log line. The trace begins
// here, and its id is told in the response. What is asked every few seconds by
// machines, and files, have neither trace nor metrics.
//
// Most traces are not kept. Of those otelhttp is told nothing: it has them as spans
// whose name is the route's template, and what that costs is a third of a request.
type observer struct {
	cfg      *config
	log      slog.Handler
	roots    rpc.Roots
	next     http.Handler
	spans    http.Handler // serve, in a span
	requests *requests
}

func observe(env *app.Env, cfg *config, next http.Handler) (http.Handler, error) {
	rs, err := measure(env.Meters, env.Log.Handler())
	if err != nil {
		return nil, err
	}
	o := &observer{cfg: cfg, log: env.Log.Handler(), roots: env.Roots, next: next, requests: rs}
	o.spans = otelhttp.NewHandler(http.HandlerFunc(o.serve), "",
		otelhttp.WithTracerProvider(env.Traces),
		otelhttp.WithMeterProvider(noop.NewMeterProvider()),
		otelhttp.WithPropagators(propagation.NewCompositeTextMapPropagator()), // ctx has the trace
	)
	return o, nil
}

// ServeHTTP implements http.Handler.
func (o *observer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	trusted := o.distrust(r)
	rec := &recorder{ResponseWriter: w, start: time.Now()}
	ctx := context.WithValue(r.Context(), recorderKey{}, rec)
	rec.api = strings.HasPrefix(r.URL.Path, "/v1/") || strings.HasPrefix(r.URL.Path, "/.well-known/")
	if !rec.api {
		o.serve(w, r.WithContext(ctx))
		return
	}
	if trusted {
		ctx = rpc.Propagator.Extract(ctx, propagation.HeaderCarrier(r.Header))
	}
	ctx, kept := rpc.Begin(ctx, o.roots)
	if kept {
		o.spans.ServeHTTP(w, r.WithContext(ctx))
		return
	}
	o.serve(w, r.WithContext(ctx))
}

// distrust takes from a request what a client could only pretend: the addresses that
// it came by, and the name of this host, which would make as many metrics as clients
// can think of. It reports whether the client may say to which trace it belongs.
func (o *observer) distrust(r *http.Request) (traceTrusted bool) {
	if len(o.cfg.TrustedTraceCallers) > 0 {
		traceTrusted = o.cfg.TrustedTraceCallers.include(caller(r, o.cfg.TrustedProxies))
	}
	if ip := forwarded(r.Header.Values("X-Forwarded-For"), o.cfg.TrustedProxies); ip != "" {
		r.RemoteAddr = net.JoinHostPort(ip, "0")
	}
	r.Host = "gateway"
	return traceTrusted
}

// forwarded returns the address that the outermost of n proxies has seen, each
// of which adds its peer to the end of the header; "" if there is none.
func forwarded(headers []string, n int) string {
	if n == 0 {
		return ""
	}
	hops := strings.Split(strings.Join(headers, ","), ",")
	if n > len(hops) {
		return ""
	}
	ip := net.ParseIP(strings.TrimSpace(hops[len(hops)-n]))
	if ip == nil {
		return ""
	}
	return ip.String()
}

// recorder remembers what came of a request.
type recorder struct {
	http.ResponseWriter
	start  time.Time
	api    bool   // it has a trace and metrics
	status int    // 0: nothing has been written
	cut    bool   // the handler panicked when the response had begun
	reason string // of a refusal
	cause  error  // of a failure; the client is not told
}

type recorderKey struct{}

// note keeps for the log line why a request was not answered as asked.
func note(ctx context.Context, st *status.Status, err error) {
	rec, ok := ctx.Value(recorderKey{}).(*recorder)
	if !ok {
		return
	}
	rec.reason = reasonOf(st)
	if rpc.ServerFailed(st.Code()) {
		rec.cause = err // says nothing of what was asked, unlike that of a refusal
	}
}

// serve answers a request, also for handlers that panic, and tells of it.
func (o *observer) serve(w http.ResponseWriter, r *http.Request) {
	rec, _ := r.Context().Value(recorderKey{}).(*recorder)
	rec.ResponseWriter = w // that of the span, if there is one
	if sc := trace.SpanContextFromContext(r.Context()); sc.IsValid() {
		text := traceparent(sc)
		w.Header().Set("X-Trace-Id", text[3:35])
		w.Header().Set("Traceparent", text)
	}
	defer func() {
		if p := recover(); p != nil {
			rec.rescue(o.log, r, p)
		}
		o.tell(r, rec)
		if rec.cut {
			panic(http.ErrAbortHandler) // net/http closes the connection, and is silent
		}
	}()
	o.next.ServeHTTP(rec, r)
}

// traceparent is the header of that name (W3C Trace Context).
func traceparent(sc trace.SpanContext) string {
	tid, sid, flags := sc.TraceID(), sc.SpanID(), [1]byte{byte(sc.TraceFlags())}
	b := make([]byte, 0, 55)
	b = append(hex.AppendEncode(append(b, "00-"...), tid[:]), '-')
	b = append(hex.AppendEncode(b, sid[:]), '-')
	return string(hex.AppendEncode(b, flags[:]))
}

// tell counts a request, says its route on its span and writes its one line.
func (o *observer) tell(r *http.Request, rec *recorder) {
	took, ctx := time.Since(rec.start), r.Context()
	of := o.requests.like(r, rec.status)
	if rec.api {
		o.requests.duration.Record(ctx, took.Seconds(), of.counted...)
		if r.Pattern != "" {
			trace.SpanFromContext(ctx).SetAttributes(semconv.HTTPRoute(r.Pattern))
		}
	}
	level := slog.LevelInfo
	switch {
	case rec.status >= 500:
		level = slog.LevelError
	case r.Pattern == "/healthz" || r.Pattern == "/readyz" || r.Pattern == "/metrics" || strings.HasPrefix(r.Pattern, "/console/"):
		level = slog.LevelDebug // machines that look in, and parts of pages
	}
	if !of.lines.Enabled(ctx, level) {
		return
	}
	line := slog.NewRecord(rec.start.Add(took), level, "request", 0)
	line.AddAttrs(slog.Int64("us", took.Microseconds()))
	if rec.reason != "" {
		line.AddAttrs(slog.String("reason", rec.reason))
	}
	if rec.cause != nil {
		line.AddAttrs(slog.String("err", rec.cause.Error()))
	}
	of.lines.Handle(ctx, line) // as slog does: a line that can't be written is nobody's failure
}

func (w *recorder) WriteHeader(code int) {
	if w.status == 0 && code >= 200 {
		w.status = code
	}
	w.ResponseWriter.WriteHeader(code)
}

func (w *recorder) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController find what this writer does not do itself.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// rescue answers for a handler that panicked, as far as that is still possible.
func (w *recorder) rescue(log slog.Handler, r *http.Request, p any) {
	slog.New(log).ErrorContext(r.Context(), "panic", "route", r.Pattern, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	if w.status != 0 {
		w.cut = true
		return
	}
	fail(w, r, fmt.Errorf("panic: %v", p))
}

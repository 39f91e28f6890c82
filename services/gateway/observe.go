package gateway

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/status"

	"github.com/meshmart/meshmart/services/internal/app"
	"github.com/meshmart/meshmart/services/internal/rpc"
)

// observe gives every request a span, metrics and a log line. The span is the
// first of the trace, whose id the response tells; its name is the route's
// template. What is asked every few seconds by machines, and files, have none.
func observe(env *app.Env, cfg *config, next http.Handler) http.Handler {
	traced := otelhttp.NewHandler(logged(env.Log, next), "",
		otelhttp.WithTracerProvider(env.Traces),
		otelhttp.WithMeterProvider(env.Meters),
		otelhttp.WithPropagators(rpc.Propagator),
		otelhttp.WithFilter(func(r *http.Request) bool {
			return strings.HasPrefix(r.URL.Path, "/v1/") || strings.HasPrefix(r.URL.Path, "/.well-known/")
		}),
	)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r = trusted(cfg, r)
		traced.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), outcomeKey{}, &outcome{})))
	})
}

// trusted returns the request without what a client could only pretend: the
// trace that it belongs to, the addresses that it came by, and the name of this
// host, which would make as many metrics as clients can think of.
func trusted(cfg *config, r *http.Request) *http.Request {
	c := r.WithContext(r.Context())
	c.Header = r.Header.Clone()
	if !cfg.TrustedTraceCallers.include(caller(r, cfg.TrustedProxies)) {
		untraced(c.Header)
	}
	if ip := forwarded(r.Header.Values("X-Forwarded-For"), cfg.TrustedProxies); ip != "" {
		c.RemoteAddr = net.JoinHostPort(ip, "0")
	}
	for _, h := range []string{"X-Forwarded-For", "X-Forwarded-Host", "Grpc-Timeout"} {
		c.Header.Del(h)
	}
	c.Host = "gateway"
	return c
}

// forwarded returns the address that the outermost of n proxies has seen, each
// of which adds its peer to the end of the header; "" if there is none.
func forwarded(headers []string, n int) string {
	hops := strings.Split(strings.Join(headers, ","), ",")
	if n == 0 || n > len(hops) {
		return ""
	}
	ip := net.ParseIP(strings.TrimSpace(hops[len(hops)-n]))
	if ip == nil {
		return ""
	}
	return ip.String()
}

// outcome is what the log line tells beside the HTTP status.
type outcome struct {
	reason string // of a refusal
	cause  error  // of a failure; the client is not told
}

type outcomeKey struct{}

// note keeps for the log line why a request was not answered as asked.
func note(ctx context.Context, st *status.Status, err error) {
	o, ok := ctx.Value(outcomeKey{}).(*outcome)
	if !ok {
		return
	}
	o.reason = reasonOf(st)
	if rpc.ServerFailed(st.Code()) {
		o.cause = err // says nothing of what was asked, unlike that of a refusal
	}
}

// logged writes one line for each request, and answers for handlers that panic.
func logged(log *slog.Logger, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start, method := time.Now(), r.Method
		rec := &recorder{ResponseWriter: w}
		if sc := trace.SpanContextFromContext(r.Context()); sc.IsValid() {
			w.Header().Set("X-Trace-Id", sc.TraceID().String())
			w.Header().Set("Traceparent", fmt.Sprintf("00-%s-%s-%s", sc.TraceID(), sc.SpanID(), sc.TraceFlags()))
		}
		defer func() {
			p := recover()
			if p != nil {
				rec.rescue(log, r, p)
			}
			if r.Pattern != "" {
				trace.SpanFromContext(r.Context()).SetAttributes(semconv.HTTPRoute(r.Pattern))
			}
			line(log, r, method, rec.status, time.Since(start))
			if rec.cut {
				panic(http.ErrAbortHandler) // net/http closes the connection, and is silent
			}
		}()
		next.ServeHTTP(rec, r)
	})
}

func line(log *slog.Logger, r *http.Request, method string, code int, took time.Duration) {
	attrs := make([]slog.Attr, 0, 8)
	// Neither the query nor a header: they may hold what is nobody's business.
	attrs = append(attrs, slog.String("method", method), slog.String("route", r.Pattern), slog.Int("status", code),
		slog.Int64("us", took.Microseconds()))
	o, _ := r.Context().Value(outcomeKey{}).(*outcome)
	if o != nil && o.reason != "" {
		attrs = append(attrs, slog.String("reason", o.reason))
	}
	if o != nil && o.cause != nil {
		attrs = append(attrs, slog.String("err", o.cause.Error()))
	}
	level := slog.LevelInfo
	switch {
	case code >= 500:
		level = slog.LevelError
	case r.Pattern == "/healthz" || r.Pattern == "/readyz" || r.Pattern == "/metrics" || strings.HasPrefix(r.Pattern, "/console/"):
		level = slog.LevelDebug // machines that look in, and parts of pages
	}
	log.LogAttrs(r.Context(), level, "request", attrs...)
}

// recorder remembers the status of a response.
type recorder struct {
	http.ResponseWriter
	status int  // 0: nothing has been written
	cut    bool // the handler panicked when the response had begun
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
func (w *recorder) rescue(log *slog.Logger, r *http.Request, p any) {
	log.ErrorContext(r.Context(), "panic", "route", r.Pattern, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	if w.status != 0 {
		w.cut = true
		return
	}
	fail(w, r, fmt.Errorf("panic: %v", p))
}

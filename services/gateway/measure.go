package gateway

import (
	"cmp"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/semconv/v1.43.0/httpconv"
)

// requests is what the requests of a kind have in common: the attributes of their
// metrics and the beginning of their log line, which are put together once.
type requests struct {
	duration metric.Float64Histogram
	log      slog.Handler

	mu    sync.RWMutex
	kinds map[kind]*likes
}

// kind tells requests apart. No client can make one up.
type kind struct {
	method, route, proto string
	status               int
}

// likes are the requests of a kind.
type likes struct {
	counted []metric.RecordOption
	lines   slog.Handler
}

// measure counts requests as otelhttp would, with the same attributes.
func measure(meters metric.MeterProvider, log slog.Handler) (*requests, error) {
	like := httpconv.ServerRequestDuration{}
	h, err := meters.Meter("github.com/meshmart/meshmart/services/gateway").Float64Histogram(like.Name(),
		metric.WithDescription(like.Description()), metric.WithUnit(like.Unit()),
		metric.WithExplicitBucketBoundaries(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", like.Name(), err)
	}
	return &requests{duration: h, log: log, kinds: map[kind]*likes{}}, nil
}

// methods are those of the semantic conventions; all others are _OTHER.
var methods = []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete,
	http.MethodConnect, http.MethodOptions, http.MethodTrace}

// like returns what a request has in common with others that were answered so.
func (rs *requests) like(r *http.Request, status int) *likes {
	k := kind{r.Method, r.Pattern, r.Proto, status}
	rs.mu.RLock()
	of := rs.kinds[k]
	rs.mu.RUnlock()
	if of != nil {
		return of
	}
	of = rs.make(k)
	if slices.Contains(methods, r.Method) { // others are what clients make up
		rs.mu.Lock()
		rs.kinds[k] = of
		rs.mu.Unlock()
	}
	return of
}

func (rs *requests) make(k kind) *likes {
	method := k.method
	if !slices.Contains(methods, method) {
		method = "_OTHER"
	}
	name, version, _ := strings.Cut(k.proto, "/")
	attrs := []attribute.KeyValue{
		semconv.HTTPRequestMethodKey.String(method), semconv.URLScheme("http"), semconv.ServerAddress("gateway"),
		semconv.NetworkProtocolName(strings.ToLower(name)), semconv.NetworkProtocolVersion(version),
		semconv.HTTPResponseStatusCode(cmp.Or(k.status, http.StatusOK)),
	}
	if k.route != "" {
		attrs = append(attrs, semconv.HTTPRoute(k.route))
	}
	return &likes{
		counted: []metric.RecordOption{metric.WithAttributeSet(attribute.NewSet(attrs...))},
		// Neither the query nor a header: they may hold what is nobody's business.
		lines: rs.log.WithAttrs([]slog.Attr{slog.String("method", k.method), slog.String("route", k.route), slog.Int("status", k.status)}),
	}
}

package rpc

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/semconv/v1.43.0/rpcconv"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/meshmart/meshmart/services/internal/policy"
)

// otherMethod counts the calls of RPCs that have no contract: their names are
// the caller's, and would be as many series as callers can think of.
const otherMethod = "_OTHER"

// measure counts the calls of a server or of a connection with their durations,
// by method and code. It is given the context of their span, so that a histogram
// tells an example of its calls.
//
// What a call costs here is one look into a map: the attributes of a series are
// put together once. So it knows no others than these.
type measure struct {
	methods map[string]*series // by full method; never changes
	other   *series
}

// series are the histograms of one method.
type series struct {
	duration metric.Float64Histogram
	attrs    []attribute.KeyValue
	byCode   [codes.Unauthenticated + 1]atomic.Pointer[[]metric.RecordOption]
}

// measureServer returns what counts the calls that a server answers.
func measureServer(meters metric.MeterProvider) (*measure, error) {
	like := rpcconv.ServerCallDuration{}
	return newMeasure(meters, like.Name(), like.Description(), like.Unit())
}

// measureClient returns what counts the calls of a connection to a service. They
// tell its name in the place of an address: one that a balancer has chosen says
// nothing of whom the caller depends on. A call counts once, however many attempts
// it took. (A stats handler would hear of each attempt, and of OK where a server
// refused before it had the whole request.)
func measureClient(meters metric.MeterProvider, service string) (*measure, error) {
	like := rpcconv.ClientCallDuration{}
	return newMeasure(meters, like.Name(), like.Description(), like.Unit(), semconv.ServerAddress(service))
}

func newMeasure(meters metric.MeterProvider, name, description, unit string, more ...attribute.KeyValue) (*measure, error) {
	linked := policy.Linked()
	h, err := meters.Meter(scope).Float64Histogram(name, metric.WithDescription(description), metric.WithUnit(unit),
		metric.WithExplicitBucketBoundaries(boundaries(linked)...))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	m := &measure{methods: make(map[string]*series, len(linked)), other: newSeries(h, otherMethod, more)}
	for _, p := range linked {
		m.methods[p.Method] = newSeries(h, strings.TrimPrefix(p.Method, "/"), more)
	}
	return m, nil
}

// scope is the name of what measures and traces here.
const scope = "github.com/meshmart/meshmart/services/internal/rpc"

// boundaries are those of the semantic conventions, in seconds, and the
// latencies that contracts promise: how many calls keep a promise can be
// counted, and must not be guessed.
func boundaries(ps []*policy.Policy) []float64 {
	b := []float64{0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10}
	for _, p := range ps {
		if l := p.SLO.GetLatency().AsDuration(); l > 0 {
			b = append(b, l.Seconds())
		}
	}
	slices.Sort(b)
	return slices.Compact(b)
}

func newSeries(h metric.Float64Histogram, method string, more []attribute.KeyValue) *series {
	return &series{duration: h, attrs: slices.Concat(more, []attribute.KeyValue{semconv.RPCSystemNameGRPC, semconv.RPCMethod(method)})}
}

// of returns the series of one code.
func (s *series) of(c codes.Code) []metric.RecordOption {
	if int(c) >= len(s.byCode) {
		c = codes.Unknown // the specification has no more
	}
	if opts := s.byCode[c].Load(); opts != nil {
		return *opts
	}
	set := attribute.NewSet(append(slices.Clone(s.attrs), semconv.RPCResponseStatusCode(codeName(c)))...)
	opts := []metric.RecordOption{metric.WithAttributeSet(set)}
	s.byCode[c].Store(&opts)
	return opts
}

// of returns the series of a method.
func (m *measure) of(method string) *series { return cmp.Or(m.methods[method], m.other) }

// record counts a call that took so long and ended with a code.
func (s *series) record(ctx context.Context, took time.Duration, c codes.Code) {
	s.duration.Record(ctx, took.Seconds(), s.of(c)...)
}

// ended is the code of a call that ended with err.
func ended(err error) codes.Code {
	if s, ok := status.FromError(err); ok {
		return s.Code()
	}
	return status.FromContextError(err).Code()
}

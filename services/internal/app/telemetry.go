package app

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	promproducer "go.opentelemetry.io/contrib/bridges/prometheus"
	otelprom "go.opentelemetry.io/otel/exporters/prometheus"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/meshmart/meshmart/services/internal/rpc"
	"github.com/meshmart/meshmart/services/internal/version"
)

// telemetry is where a service's traces, metrics and logs go. Its providers are
// never set as the global ones, so that services which share a process stay
// apart in every backend.
type telemetry struct {
	traces  *sdktrace.TracerProvider
	meters  *sdkmetric.MeterProvider
	logs    *sdklog.LoggerProvider // nil: lines are only written
	backend *backend
}

// newTelemetry connects to nothing yet. What can't be sent it tells lines, a
// logger that only writes.
func newTelemetry(ctx context.Context, name string, cfg *config, opt Options, lines *slog.Logger) (*telemetry, error) {
	t, res := &telemetry{backend: newBackend(cfg, lines)}, resourceOf(name)
	traced, err := t.backend.tracerOptions(ctx, cfg, opt)
	if err != nil {
		return nil, err
	}
	measured, err := t.backend.meterOptions(ctx, name, cfg, opt)
	if err != nil {
		return nil, err
	}
	t.traces = sdktrace.NewTracerProvider(append(traced, sdktrace.WithResource(res))...)
	t.meters = sdkmetric.NewMeterProvider(append(measured, sdkmetric.WithResource(res))...)
	if cfg.sendsLogs() {
		p, err := t.backend.logs(ctx)
		if err != nil {
			return nil, err
		}
		t.logs = sdklog.NewLoggerProvider(sdklog.WithResource(res), sdklog.WithProcessor(p))
	}
	return t, nil
}

func (b *backend) tracerOptions(ctx context.Context, cfg *config, opt Options) ([]sdktrace.TracerProviderOption, error) {
	opts := []sdktrace.TracerProviderOption{sdktrace.WithSampler(sdktrace.ParentBased(roots{sdktrace.TraceIDRatioBased(cfg.TraceRatio)}))}
	if opt.Spans != nil {
		opts = append(opts, sdktrace.WithSpanProcessor(shared{opt.Spans}))
	}
	if !cfg.sendsTraces() {
		return opts, nil
	}
	p, err := b.spans(ctx)
	return append(opts, sdktrace.WithSpanProcessor(p)), err
}

// roots is the sampler of traces that begin here. Of those that begin with a call,
// package rpc has decided.
type roots struct{ sdktrace.Sampler }

// ShouldSample implements sdktrace.Sampler.
func (r roots) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	if rpc.Kept(p.ParentContext) {
		return sdktrace.AlwaysSample().ShouldSample(p)
	}
	return r.Sampler.ShouldSample(p)
}

// meterOptions has the metrics on /metrics in any case.
func (b *backend) meterOptions(ctx context.Context, name string, cfg *config, opt Options) ([]sdkmetric.Option, error) {
	scraped, err := otelprom.New(
		otelprom.WithRegisterer(prometheus.WrapRegistererWith(prometheus.Labels{serviceLabel: name}, opt.Metrics)),
		otelprom.WithoutScopeInfo(),
		otelprom.WithoutTargetInfo(),
	)
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	opts := []sdkmetric.Option{sdkmetric.WithView(unwanted()), sdkmetric.WithReader(scraped)}
	if !cfg.sendsMetrics() {
		return opts, nil
	}
	r, err := b.metrics(ctx, opt.process)
	return append(opts, sdkmetric.WithReader(r)), err
}

// unwanted drops two histograms of HTTP that nobody looks at. They would be four
// series in ten.
func unwanted() sdkmetric.View {
	return sdkmetric.NewView(sdkmetric.Instrument{Name: "http.server.*.body.size"}, sdkmetric.Stream{Aggregation: sdkmetric.AggregationDrop{}})
}

// resourceOf tells the replicas of a service apart: what each counts adds up,
// and is not the others'.
func resourceOf(name string) *resource.Resource {
	return resource.NewWithAttributes(semconv.SchemaURL,
		semconv.ServiceName(name),
		semconv.ServiceNamespace("meshmart"),
		semconv.ServiceVersion(version.Get()),
		semconv.ServiceInstanceID(uuid.NewString()),
	)
}

// close sends what has not been sent yet, within a few seconds. What is lost is
// told in the log: it is no reason to end badly.
func (t *telemetry) close() error {
	ends := []func(context.Context) error{t.traces.Shutdown, t.meters.Shutdown}
	if t.logs != nil {
		ends = append(ends, t.logs.Shutdown)
	}
	t.backend.close(ends...)
	return nil
}

// shared is a span processor that outlives the services it is given to.
type shared struct{ sdktrace.SpanProcessor }

func (shared) Shutdown(context.Context) error { return nil }

// SendProcess sends the metrics of a process that several services share, as the
// program's own and once, if its environment asks for metrics by OTLP; until stop
// is called. What goes wrong is written to log, or to standard error if it is nil.
// A service that has the process to itself does so by itself.
func SendProcess(ctx context.Context, program string, environ map[string]string, log io.Writer) (stop func(), err error) {
	cfg := &config{}
	if err := LoadEnv(cfg, environ); err != nil {
		return nil, err
	}
	if !cfg.sendsMetrics() {
		return func() {}, nil
	}
	b := newBackend(cfg, newLog(cmp.Or(log, io.Writer(os.Stderr)), program, cfg.LogLevel))
	r, err := b.metrics(ctx, newMetrics(nil))
	if err != nil {
		return nil, err
	}
	p := sdkmetric.NewMeterProvider(sdkmetric.WithResource(resourceOf(program)), sdkmetric.WithReader(r))
	return func() { b.close(p.Shutdown) }, nil
}

// producer reads metrics that are not measured with OpenTelemetry.
func producer(from prometheus.Gatherer) sdkmetric.Producer {
	return promproducer.NewMetricProducer(promproducer.WithGatherer(from))
}

// How long things may take that nobody waits for, but a shutdown.
const (
	exportTimeout = 10 * time.Second // of one batch, with its repetitions
	closeTimeout  = 5 * time.Second  // of all that is left at the end
	awayTimeout   = time.Second      // the same when the last batch could not be sent
)

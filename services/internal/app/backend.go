package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploggrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// backend is a collector that may be away, slow or full. Whatever it does, what
// is sent to it waits in queues of a fixed size, in front of which nobody waits,
// and an export ends within its time; what does not fit or is not taken is lost,
// and told at most once in a while.
type backend struct {
	url     string
	log     *slog.Logger    // only writes: what is lost is not sent as well
	life    context.Context // ends when nothing is sent any more
	end     context.CancelFunc
	outlets []*outlet
	open    sync.WaitGroup // exporters that are not shut down
}

// outlet is one kind of telemetry on its way to a backend. Each may fail alone:
// Jaeger takes only traces.
type outlet struct {
	*backend
	name, mend string
	away       atomic.Bool // the last batch was lost
	closed     sync.Once

	mu   sync.Mutex
	next time.Time // when a loss is told again
	lost int       // batches since it was told
}

func newBackend(cfg *config, log *slog.Logger) *backend {
	b := &backend{url: cfg.OTLPEndpoint, log: log}
	b.life, b.end = context.WithCancel(context.Background())
	return b
}

func (b *backend) outlet(name, instead string) *outlet {
	o := &outlet{backend: b, name: name,
		mend: "see that a collector which takes " + name + " answers at OTEL_EXPORTER_OTLP_ENDPOINT, or set " + instead}
	b.outlets = append(b.outlets, o)
	b.open.Add(1)
	return o
}

// Between the attempts of one batch. Another follows when its time is over.
const (
	retryFirst = 500 * time.Millisecond
	retryMost  = 5 * time.Second
)

func (b *backend) spans(ctx context.Context) (sdktrace.SpanProcessor, error) {
	exp, err := otlptracegrpc.New(ctx, otlptracegrpc.WithEndpointURL(b.url), otlptracegrpc.WithTimeout(exportTimeout),
		otlptracegrpc.WithRetry(otlptracegrpc.RetryConfig{Enabled: true, InitialInterval: retryFirst, MaxInterval: retryMost, MaxElapsedTime: exportTimeout}))
	if err != nil {
		return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_ENDPOINT: %w", err)
	}
	o := b.outlet("traces", "OTEL_TRACES_EXPORTER=none")
	return sdktrace.NewBatchSpanProcessor(spanExporter{exp, o}, sdktrace.WithExportTimeout(exportTimeout)), nil
}

// metricsEvery is how often metrics are sent: as often as they are scraped in a
// cluster. The dashboards' rates are over a minute at least, and of one sample in
// each minute, as the SDK would have it, there is no rate.
const metricsEvery = 15 * time.Second

// metrics returns a reader that also sends what process gathers, if it is not nil.
func (b *backend) metrics(ctx context.Context, process prometheus.Gatherer) (sdkmetric.Reader, error) {
	exp, err := otlpmetricgrpc.New(ctx, otlpmetricgrpc.WithEndpointURL(b.url), otlpmetricgrpc.WithTimeout(exportTimeout),
		otlpmetricgrpc.WithRetry(otlpmetricgrpc.RetryConfig{Enabled: true, InitialInterval: retryFirst, MaxInterval: retryMost, MaxElapsedTime: exportTimeout}))
	if err != nil {
		return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_ENDPOINT: %w", err)
	}
	o := b.outlet("metrics", "OTEL_METRICS_EXPORTER=prometheus")
	opts := []sdkmetric.PeriodicReaderOption{sdkmetric.WithInterval(metricsEvery), sdkmetric.WithTimeout(exportTimeout)}
	if process != nil {
		opts = append(opts, sdkmetric.WithProducer(producer(process)))
	}
	return sdkmetric.NewPeriodicReader(metricExporter{exp, o}, opts...), nil
}

func (b *backend) logs(ctx context.Context) (sdklog.Processor, error) {
	exp, err := otlploggrpc.New(ctx, otlploggrpc.WithEndpointURL(b.url), otlploggrpc.WithTimeout(exportTimeout),
		otlploggrpc.WithRetry(otlploggrpc.RetryConfig{Enabled: true, InitialInterval: retryFirst, MaxInterval: retryMost, MaxElapsedTime: exportTimeout}))
	if err != nil {
		return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_ENDPOINT: %w", err)
	}
	o := b.outlet("logs", "OTEL_LOGS_EXPORTER=none")
	return sdklog.NewBatchProcessor(logExporter{exp, o}, sdklog.WithExportTimeout(exportTimeout)), nil
}

// close shuts all providers down at once and returns when none of them sends
// any more.
func (b *backend) close(ends ...func(context.Context) error) {
	limit := closeTimeout
	for _, o := range b.outlets {
		if o.away.Load() {
			limit = awayTimeout
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	errs := make([]error, len(ends))
	var wg sync.WaitGroup
	for i, end := range ends {
		wg.Go(func() { errs[i] = end(ctx) })
	}
	wg.Wait()
	b.end()
	b.open.Wait() // the SDK's goroutines may outlive their Shutdown, and end now
	if err := errors.Join(errs...); err != nil {
		b.log.Warn("telemetry that was not sent yet is lost", "err", err.Error())
	}
}

// send sends a batch and tells the log if it is lost. The SDK is told nothing:
// it would only say it again, and not in whose name.
func (o *outlet) send(ctx context.Context, export func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(o.life, cancel)()
	o.tell(export(ctx))
	return nil
}

// tellEvery is how often a loss that goes on is told.
const tellEvery = time.Minute

func (o *outlet) tell(err error) {
	was := o.away.Swap(err != nil)
	if err == nil && !was {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if err == nil {
		o.log.Info("telemetry is sent again", "signal", o.name, "lost_batches", o.lost)
		o.lost = 0
		return
	}
	o.lost++
	if now := time.Now(); now.After(o.next) {
		o.next = now.Add(tellEvery)
		o.log.Warn("telemetry is lost: "+o.mend, "signal", o.name, "lost_batches", o.lost, "err", err.Error())
	}
}

// shutdown ends an exporter.
func (o *outlet) shutdown(ctx context.Context, end func(context.Context) error) error {
	defer o.closed.Do(o.open.Done)
	return end(ctx)
}

type spanExporter struct {
	sdktrace.SpanExporter
	to *outlet
}

func (e spanExporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	return e.to.send(ctx, func(ctx context.Context) error { return e.SpanExporter.ExportSpans(ctx, spans) })
}

func (e spanExporter) Shutdown(ctx context.Context) error {
	return e.to.shutdown(ctx, e.SpanExporter.Shutdown)
}

type metricExporter struct {
	sdkmetric.Exporter
	to *outlet
}

func (e metricExporter) Export(ctx context.Context, m *metricdata.ResourceMetrics) error {
	return e.to.send(ctx, func(ctx context.Context) error { return e.Exporter.Export(ctx, m) })
}

func (e metricExporter) Shutdown(ctx context.Context) error {
	return e.to.shutdown(ctx, e.Exporter.Shutdown)
}

type logExporter struct {
	sdklog.Exporter
	to *outlet
}

func (e logExporter) Export(ctx context.Context, records []sdklog.Record) error {
	return e.to.send(ctx, func(ctx context.Context) error { return e.Exporter.Export(ctx, records) })
}

func (e logExporter) Shutdown(ctx context.Context) error {
	return e.to.shutdown(ctx, e.Exporter.Shutdown)
}

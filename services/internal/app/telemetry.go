package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	otelprom "go.opentelemetry.io/otel/exporters/prometheus"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/meshmart/meshmart/services/internal/version"
)

// telemetry is where a service's traces and metrics go. Its providers are
// never set as the global ones, so that services which share a process stay
// apart in every backend.
type telemetry struct {
	traces *sdktrace.TracerProvider
	meters *sdkmetric.MeterProvider
}

func newTelemetry(ctx context.Context, name string, cfg *config, opt Options) (*telemetry, error) {
	res := resource.NewSchemaless(
		attribute.String("service.name", name),
		attribute.String("service.namespace", "meshmart"),
		attribute.String("service.version", version.Get()),
	)
	topts := []sdktrace.TracerProviderOption{
		sdktrace.WithResource(res),
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(cfg.TraceRatio))),
	}
	if cfg.OTLPEndpoint != "" {
		exp, err := otlptracegrpc.New(ctx, otlptracegrpc.WithEndpointURL(cfg.OTLPEndpoint))
		if err != nil {
			return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_ENDPOINT: %w", err)
		}
		topts = append(topts, sdktrace.WithBatcher(exp))
	}
	if opt.Spans != nil {
		topts = append(topts, sdktrace.WithSpanProcessor(shared{opt.Spans}))
	}
	reader, err := otelprom.New(
		otelprom.WithRegisterer(prometheus.WrapRegistererWith(prometheus.Labels{"service": name}, opt.Metrics)),
		otelprom.WithoutScopeInfo(),
		otelprom.WithoutTargetInfo(),
	)
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	return &telemetry{
		traces: sdktrace.NewTracerProvider(topts...),
		meters: sdkmetric.NewMeterProvider(sdkmetric.WithResource(res), sdkmetric.WithReader(reader)),
	}, nil
}

// close sends what has not been sent yet, within a few seconds.
func (t *telemetry) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return errors.Join(t.traces.Shutdown(ctx), t.meters.Shutdown(ctx))
}

// shared is a span processor that outlives the services it is given to.
type shared struct{ sdktrace.SpanProcessor }

func (shared) Shutdown(context.Context) error { return nil }

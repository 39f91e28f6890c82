// Command otelcol-contrib stands in for the OpenTelemetry Collector of that name
// where no image can be pulled: the components that observability/collector
// configures, at the versions that Jaeger is built of, so that one build cache
// does for both.
package main

import (
	"context"
	"errors"
	"log"

	"github.com/open-telemetry/opentelemetry-collector-contrib/extension/healthcheckv2extension"
	"github.com/open-telemetry/opentelemetry-collector-contrib/processor/tailsamplingprocessor"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/confmap/provider/envprovider"
	"go.opentelemetry.io/collector/confmap/provider/fileprovider"
	"go.opentelemetry.io/collector/confmap/provider/yamlprovider"
	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/collector/exporter/debugexporter"
	"go.opentelemetry.io/collector/exporter/otlpexporter"
	"go.opentelemetry.io/collector/exporter/otlphttpexporter"
	"go.opentelemetry.io/collector/extension"
	"go.opentelemetry.io/collector/otelcol"
	"go.opentelemetry.io/collector/processor"
	"go.opentelemetry.io/collector/processor/batchprocessor"
	"go.opentelemetry.io/collector/processor/memorylimiterprocessor"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/otlpreceiver"
	"go.opentelemetry.io/collector/service/telemetry/otelconftelemetry"
)

func main() {
	err := otelcol.NewCommand(otelcol.CollectorSettings{
		BuildInfo: component.BuildInfo{Command: "otelcol-contrib", Description: "part of the OpenTelemetry Collector", Version: "0.140.1"},
		Factories: components,
		ConfigProviderSettings: otelcol.ConfigProviderSettings{ResolverSettings: confmap.ResolverSettings{
			ProviderFactories: []confmap.ProviderFactory{envprovider.NewFactory(), fileprovider.NewFactory(), yamlprovider.NewFactory()},
			DefaultScheme:     "env",
		}},
	}).Execute()
	if err != nil {
		log.Fatal(err)
	}
}

func components() (otelcol.Factories, error) {
	r, err1 := otelcol.MakeFactoryMap[receiver.Factory](otlpreceiver.NewFactory())
	p, err2 := otelcol.MakeFactoryMap[processor.Factory](batchprocessor.NewFactory(), memorylimiterprocessor.NewFactory(), tailsamplingprocessor.NewFactory())
	e, err3 := otelcol.MakeFactoryMap[exporter.Factory](debugexporter.NewFactory(), otlpexporter.NewFactory(), otlphttpexporter.NewFactory())
	x, err4 := otelcol.MakeFactoryMap(healthCheck())
	return otelcol.Factories{Receivers: r, Processors: p, Exporters: e, Extensions: x, Telemetry: otelconftelemetry.NewFactory()},
		errors.Join(err1, err2, err3, err4)
}

// healthCheck is the second version of the extension, under the name of the first
// and with its configuration, which it takes as well: Jaeger has only the second.
func healthCheck() extension.Factory {
	f := healthcheckv2extension.NewFactory()
	create := func(ctx context.Context, set extension.Settings, cfg component.Config) (extension.Extension, error) {
		set.ID = component.NewIDWithName(f.Type(), set.ID.Name())
		return f.Create(ctx, set, cfg)
	}
	return extension.NewFactory(component.MustNewType("health_check"), f.CreateDefaultConfig, create, f.Stability())
}

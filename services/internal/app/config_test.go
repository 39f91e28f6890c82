package app

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"
)

type payments struct {
	Latency time.Duration `env:"SIMULATOR_LATENCY" envDefault:"20ms" doc:"how long an answer takes"`
	Rate    float64       `env:"SIMULATOR_FAILURE_RATE" doc:"share of the calls that fail"`
	Secret  int           `env:"API_SECRET" doc:"a number nobody may see"`
}

func TestWrongVariablesAreNamed(t *testing.T) {
	tests := []struct {
		name, value string
		want        string
	}{
		{"SIMULATOR_LATENCY", "soon", `SIMULATOR_LATENCY: "soon" is not a valid time.Duration`},
		{"SIMULATOR_FAILURE_RATE", "often", "SIMULATOR_FAILURE_RATE"},
		{"TRACE_RATIO", "1.5", "TRACE_RATIO: 1.5 is not between 0 and 1"},
		{"NATS_REPLICAS", "2", "NATS_REPLICAS"},
		{"DATABASE_MAX_CONNS", "0", "DATABASE_MAX_CONNS"},
		{"SHUTDOWN_TIMEOUT", "-1s", "SHUTDOWN_TIMEOUT"},
		{"DRAIN_DELAY", "-1s", "DRAIN_DELAY"},
		{"LOG_LEVEL", "loud", "LOG_LEVEL"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4317", "OTEL_EXPORTER_OTLP_ENDPOINT: it is a URL such as http://localhost:4317"},
		{"OTEL_TRACES_EXPORTER", "jaeger", `OTEL_TRACES_EXPORTER: "jaeger" is not otlp or none`},
		{"OTEL_LOGS_EXPORTER", "console", `OTEL_LOGS_EXPORTER: "console" is not otlp or none`},
		{"OTEL_METRICS_EXPORTER", "prometheus,statsd", `OTEL_METRICS_EXPORTER: "prometheus,statsd" is not`},
		{"OTEL_METRICS_EXPORTER", "none,otlp", `OTEL_METRICS_EXPORTER: "none,otlp" is not`},
		{"OTEL_METRICS_EXPORTER", "otlp", "OTEL_METRICS_EXPORTER: otlp needs a collector: set OTEL_EXPORTER_OTLP_ENDPOINT"},
		{"OTEL_LOGS_EXPORTER", "otlp", "OTEL_LOGS_EXPORTER: otlp needs a collector"},
		{"MESH", "envoy", `MESH: "envoy" is not a valid rpc.Mesh: it is one of none, istio`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := load(Service{Name: "payment", Config: &payments{}}, map[string]string{tt.name: tt.value})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q in it", err, tt.want)
			}
		})
	}
}

func TestAllWrongVariablesAreToldAtOnceAndNoSecret(t *testing.T) {
	_, err := load(Service{Config: &payments{}}, map[string]string{
		"SIMULATOR_LATENCY": "soon", "API_SECRET": "hunter2", "DRAIN_DELAY": "later",
	})
	for _, name := range []string{"SIMULATOR_LATENCY", "API_SECRET", "DRAIN_DELAY"} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s is not in %v", name, err)
		}
	}
	if strings.Contains(err.Error(), "hunter2") {
		t.Errorf("a secret is in %v", err)
	}
}

func TestDefaultsAndValues(t *testing.T) {
	own := &payments{}
	c, err := load(Service{Name: "payment", Config: own}, map[string]string{"SIMULATOR_LATENCY": "3s", "LOG_LEVEL": "debug"})
	if err != nil {
		t.Fatal(err)
	}
	if own.Latency != 3*time.Second || c.GRPCAddr != ":9090" || c.LogLevel != slog.LevelDebug || c.TraceRatio != 1 {
		t.Errorf("got %+v and %+v", own, c)
	}
	if got := c.database("payment"); got != "data/payment.db" {
		t.Errorf("database %q", got)
	}
}

func TestHelpTellsEveryVariable(t *testing.T) {
	var out strings.Builder
	svc := Service{Name: "payment", Doc: "charges for orders", Calls: []string{"user"}, Config: &payments{}}
	Help(&out, svc.Name, svc.Doc, svc)
	for _, want := range []string{"charges for orders", "SIMULATOR_LATENCY", "20ms", "how long an answer takes", "USER_ADDR", "GRPC_ADDR", "NATS_URL", "MESH",
		"TLS_CERT_FILE", "TLS_KEY_FILE", "TLS_CA_FILE", "SPIFFE_TRUST_DOMAIN", "ETCD_ENDPOINTS", "ADVERTISE_ADDR",
		"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER", "OTEL_LOGS_EXPORTER", "-version"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in the help:\n%s", want, out.String())
		}
	}
}

func TestWhatGoesToTheCollector(t *testing.T) {
	const at = "http://localhost:4317"
	for _, tt := range []struct {
		environ                map[string]string
		traces, metrics, lines bool
	}{
		{nil, false, false, false},
		{map[string]string{"OTEL_TRACES_EXPORTER": "otlp"}, false, false, false},
		{map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": at}, true, false, false},
		{map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": at, "OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none"}, false, false, false},
		{map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": at, "OTEL_METRICS_EXPORTER": "prometheus,otlp"}, true, true, false},
		{map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": at, "OTEL_METRICS_EXPORTER": "otlp", "OTEL_LOGS_EXPORTER": "otlp"}, true, true, true},
	} {
		c, err := load(Service{Name: "payment"}, tt.environ)
		if err != nil {
			t.Fatalf("%v: %v", tt.environ, err)
		}
		if c.sendsTraces() != tt.traces || c.sendsMetrics() != tt.metrics || c.sendsLogs() != tt.lines {
			t.Errorf("%v: traces %v, metrics %v, logs %v", tt.environ, c.sendsTraces(), c.sendsMetrics(), c.sendsLogs())
		}
	}
}

func TestWrongConfigurationStartsNothing(t *testing.T) {
	svc := Service{Name: "x", Start: func(context.Context, *Env) error { t.Error("started"); return nil }}
	err := Run(t.Context(), svc, Options{Environ: map[string]string{"TRACE_RATIO": "x"}})
	if err == nil || !strings.Contains(err.Error(), "TRACE_RATIO") {
		t.Errorf("got %v", err)
	}
}

package app

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/caarlos0/env/v11"

	"github.com/meshmart/meshmart/services/internal/rpc"
)

// config is what every service reads from its environment.
type config struct {
	GRPCAddr        string        `env:"GRPC_ADDR" envDefault:":9090" doc:"where gRPC is served"`
	MetricsAddr     string        `env:"METRICS_ADDR" doc:"where /metrics, /healthz and /readyz are served over HTTP; empty: nowhere"`
	DataDir         string        `env:"DATA_DIR" envDefault:"./data" doc:"folder of the embedded databases"`
	DatabaseURL     string        `env:"DATABASE_URL" doc:"postgres://... or the path of a SQLite file; empty: NAME.db in DATA_DIR"`
	DatabaseConns   int           `env:"DATABASE_MAX_CONNS" envDefault:"16" doc:"open connections to PostgreSQL, at most"`
	NATSURL         string        `env:"NATS_URL" envDefault:"nats://nats:4222" doc:"the broker; several with commas between"`
	NATSReplicas    int           `env:"NATS_REPLICAS" envDefault:"1" doc:"copies of every event that the broker keeps: 1, 3 or 5"`
	TrustNetwork    bool          `env:"TRUST_NETWORK" envDefault:"false" doc:"answer INTERNAL RPCs from wherever they come, because a mesh or a network policy lets only the shop's services through"`
	Mesh            rpc.Mesh      `env:"MESH" doc:"what repeats, balances and encrypts calls: none (the process itself), istio, ambient, linkerd, or proxyless (a binary built for it); empty: a mesh of proxies"`
	CertFile        string        `env:"TLS_CERT_FILE" doc:"with MESH=none, the service's certificate (PEM), and those between it and its authority; a new one is taken within 10 s; empty: calls are plaintext"`
	KeyFile         string        `env:"TLS_KEY_FILE" doc:"its key (PEM)"`
	CAFile          string        `env:"TLS_CA_FILE" doc:"authorities (PEM) whose certificates services have: both ends then prove their SPIFFE ids, and the contracts' callers are held to; empty: only who is called proves its name, to the system's authorities"`
	TrustDomain     string        `env:"SPIFFE_TRUST_DOMAIN" envDefault:"cluster.local" doc:"of the SPIFFE ids: spiffe://DOMAIN/ns/POD_NAMESPACE/sa/SERVICE"`
	PodNamespace    string        `env:"POD_NAMESPACE" envDefault:"default" doc:"the namespace of the services, as SPIFFE ids, etcd and MESH=proxyless name it"`
	ETCDEndpoints   []string      `env:"ETCD_ENDPOINTS" doc:"with MESH=none, the etcd that services find each other by instead of DNS (a binary built for it), as http://etcd:2379 or https; several with commas between"`
	AdvertiseAddr   string        `env:"ADVERTISE_ADDR" doc:"with etcd, where others reach this service; empty: GRPC_ADDR, or its port on the first address of this host that is not of its loopback"`
	LogLevel        slog.Level    `env:"LOG_LEVEL" envDefault:"info" doc:"debug, info, warn or error"`
	OTLPEndpoint    string        `env:"OTEL_EXPORTER_OTLP_ENDPOINT" doc:"collector by OTLP over gRPC, such as http://localhost:4317; empty: none"`
	TracesExporter  string        `env:"OTEL_TRACES_EXPORTER" envDefault:"otlp" doc:"where traces go: otlp (the collector, if there is one) or none"`
	MetricsExporter []string      `env:"OTEL_METRICS_EXPORTER" envDefault:"prometheus" doc:"where metrics go: prometheus (/metrics, which is always there), otlp (the collector), several with commas between, or none"`
	LogsExporter    string        `env:"OTEL_LOGS_EXPORTER" envDefault:"none" doc:"where logs go beside standard error: otlp (the collector) or none"`
	TraceRatio      float64       `env:"TRACE_RATIO" envDefault:"1" doc:"share of the traces begun here that are kept, 0 to 1"`
	DrainDelay      time.Duration `env:"DRAIN_DELAY" envDefault:"0s" doc:"from NOT_SERVING to refusing connections: the time that balancers need to notice"`
	ShutdownTimeout time.Duration `env:"SHUTDOWN_TIMEOUT" envDefault:"20s" doc:"how long calls under way may take to finish at a shutdown"`
}

// Validate checks what the types alone do not say.
func (c *config) Validate() error {
	var errs []error
	errs = append(errs, c.validateTelemetry(), c.validatePlain())
	if c.TraceRatio < 0 || c.TraceRatio > 1 {
		errs = append(errs, fmt.Errorf("TRACE_RATIO: %v is not between 0 and 1", c.TraceRatio))
	}
	if !slices.Contains([]int{1, 3, 5}, c.NATSReplicas) {
		errs = append(errs, fmt.Errorf("NATS_REPLICAS: %d is not 1, 3 or 5", c.NATSReplicas))
	}
	if c.DatabaseConns < 1 {
		errs = append(errs, fmt.Errorf("DATABASE_MAX_CONNS: %d is not positive", c.DatabaseConns))
	}
	if c.DrainDelay < 0 {
		errs = append(errs, fmt.Errorf("DRAIN_DELAY: %v is negative", c.DrainDelay))
	}
	if c.ShutdownTimeout <= 0 {
		errs = append(errs, fmt.Errorf("SHUTDOWN_TIMEOUT: %v is not positive", c.ShutdownTimeout))
	}
	return errors.Join(errs...)
}

// validatePlain checks what is for services without a mesh.
func (c *config) validatePlain() error {
	set := func(variable, value string) string {
		if value == "" {
			return ""
		}
		return variable
	}
	cert, key, ca := set("TLS_CERT_FILE", c.CertFile), set("TLS_KEY_FILE", c.KeyFile), set("TLS_CA_FILE", c.CAFile)
	switch first := cmp.Or(cert, key, ca); {
	case first == "":
	case c.Mesh != rpc.NoMesh:
		return fmt.Errorf("%s: it is for MESH=none; what other meshes there are encrypt by themselves", first)
	case cert == "" || key == "":
		return fmt.Errorf("%s is set, so TLS_CERT_FILE and TLS_KEY_FILE have to be set, too", first)
	}
	return c.validateDiscovery()
}

func (c *config) validateDiscovery() error {
	if len(c.ETCDEndpoints) == 0 {
		return nil
	}
	if c.Mesh != rpc.NoMesh {
		return errors.New("ETCD_ENDPOINTS: it is for MESH=none; in a mesh services have names")
	}
	for _, e := range c.ETCDEndpoints {
		u, err := url.Parse(e)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || !strings.HasPrefix(c.ETCDEndpoints[0], u.Scheme+":") {
			return errors.New("ETCD_ENDPOINTS: they are URLs such as http://etcd:2379, all of them or none with https")
		}
	}
	if _, port, err := net.SplitHostPort(c.AdvertiseAddr); c.AdvertiseAddr != "" && (err != nil || port == "" || port == "0") {
		return errors.New("ADVERTISE_ADDR: it is a host and a port, such as 10.1.2.3:9090")
	}
	return nil
}

// validateTelemetry checks OpenTelemetry's variables. Its own libraries would go
// on with their defaults, and say nothing.
func (c *config) validateTelemetry() error {
	var errs []error
	if u, err := url.Parse(c.OTLPEndpoint); c.OTLPEndpoint != "" && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "") {
		errs = append(errs, errors.New("OTEL_EXPORTER_OTLP_ENDPOINT: it is a URL such as http://localhost:4317, or with https"))
	}
	for name, value := range map[string]string{"OTEL_TRACES_EXPORTER": c.TracesExporter, "OTEL_LOGS_EXPORTER": c.LogsExporter} {
		if value != otlp && value != "none" {
			errs = append(errs, fmt.Errorf("%s: %q is not otlp or none", name, value))
		}
	}
	for _, value := range c.MetricsExporter {
		if !slices.Contains([]string{"prometheus", otlp, "none"}, value) || value == "none" && len(c.MetricsExporter) > 1 {
			errs = append(errs, fmt.Errorf("OTEL_METRICS_EXPORTER: %q is not prometheus, otlp, both with a comma between, or none", strings.Join(c.MetricsExporter, ",")))
			break
		}
	}
	for name, asked := range map[string]bool{"OTEL_METRICS_EXPORTER": slices.Contains(c.MetricsExporter, otlp), "OTEL_LOGS_EXPORTER": c.LogsExporter == otlp} {
		if asked && c.OTLPEndpoint == "" {
			errs = append(errs, fmt.Errorf("%s: otlp needs a collector: set OTEL_EXPORTER_OTLP_ENDPOINT", name))
		}
	}
	return errors.Join(errs...)
}

// otlp is the name of the exporter to the collector.
const otlp = "otlp"

func (c *config) sendsTraces() bool  { return c.OTLPEndpoint != "" && c.TracesExporter == otlp }
func (c *config) sendsMetrics() bool { return slices.Contains(c.MetricsExporter, otlp) }
func (c *config) sendsLogs() bool    { return c.LogsExporter == otlp }

func (c *config) database(name string) string {
	if c.DatabaseURL != "" {
		return c.DatabaseURL
	}
	return filepath.Join(c.DataDir, name+".db")
}

// load fills the runtime's configuration and the service's own from the
// environment. An error names every variable that is wrong.
func load(svc Service, environ map[string]string) (*config, error) {
	c := &config{}
	errs := []error{LoadEnv(c, environ)}
	if svc.Config != nil {
		errs = append(errs, LoadEnv(svc.Config, environ))
	}
	return c, errors.Join(errs...)
}

// LoadEnv fills a struct with caarlos0/env tags and calls its method Validate,
// if it has one. An error names the variables, not the struct's fields.
func LoadEnv(c any, environ map[string]string) error {
	err := env.ParseWithOptions(c, env.Options{Environment: environ})
	var all env.AggregateError
	if errors.As(err, &all) {
		errs := make([]error, 0, len(all.Errors))
		for _, e := range all.Errors {
			errs = append(errs, named(c, environ, e))
		}
		return errors.Join(errs...)
	}
	if err != nil {
		return err
	}
	if v, ok := c.(interface{ Validate() error }); ok {
		return v.Validate()
	}
	return nil
}

// named puts the variable and its value in the place of the field's name. A
// value of a variable that holds a secret is not repeated.
func named(c any, environ map[string]string, err error) error {
	var p env.ParseError
	if !errors.As(err, &p) {
		return err
	}
	f, ok := reflect.TypeOf(c).Elem().FieldByName(p.Name)
	if !ok {
		return err
	}
	name := variable(f)
	if strings.Contains(name, "PASSWORD") || strings.Contains(name, "SECRET") || strings.HasSuffix(name, "_URL") {
		return fmt.Errorf("%s: not a valid %s", name, f.Type)
	}
	return fmt.Errorf("%s: %q is not a valid %s: %w", name, environ[name], f.Type, p.Err)
}

func variable(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("env"), ",")
	return name
}

// Help prints what a program does that runs the services, and the variables
// that they read.
func Help(w io.Writer, program, doc string, svcs ...Service) {
	fmt.Fprintf(w, "%s: %s\n\nUsage: %s [-help] [-version]\n\nIt is configured by its environment:\n\n", program, doc, program)
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "VARIABLE\tDEFAULT\tMEANING")
	for _, svc := range svcs {
		if svc.Config != nil {
			describe(t, svc.Config)
		}
	}
	if len(svcs) == 1 {
		for _, name := range slices.Sorted(slices.Values(svcs[0].Calls)) {
			fmt.Fprintf(t, "%s\t%s:9090\twhere the service %s is\n", peerVariable(name), name, name)
		}
	}
	describe(t, &config{})
	t.Flush()
}

func describe(w io.Writer, c any) {
	for _, f := range reflect.VisibleFields(reflect.TypeOf(c).Elem()) {
		if name := variable(f); name != "" {
			fmt.Fprintf(w, "%s\t%s\t%s\n", name, f.Tag.Get("envDefault"), f.Tag.Get("doc"))
		}
	}
}

func peerVariable(name string) string { return strings.ToUpper(name) + "_ADDR" }

// Environ returns the process's environment. A variable that is set to nothing
// counts as not set.
func Environ() map[string]string { return environMap(os.Environ()) }

// environMap reads "KEY=value" lines as os.Environ returns them.
func environMap(lines []string) map[string]string {
	m := make(map[string]string, len(lines))
	for _, l := range lines {
		if k, v, ok := strings.Cut(l, "="); ok && v != "" {
			m[k] = v
		}
	}
	return m
}

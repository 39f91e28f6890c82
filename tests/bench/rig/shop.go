package rig

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strings"

	"github.com/meshmart/meshmart/tests/bench/procs"
	"github.com/meshmart/meshmart/tests/freeport"
)

// Shop is one that runs: all services, and what they need.
type Shop struct {
	Name  string
	Procs []*procs.Proc     // everything whose use counts; empty: it is elsewhere
	Addr  map[string]string // gRPC of each service
	REST  string            // URL of the gateway, without a slash at its end
}

// common is what every service runs with. Nothing that guards or tells is off;
// who calls says which traces are sampled, and a call that begins one is in a
// hundred.
func (r *Rig) common(ctx context.Context) (map[string]string, error) {
	sink, err := r.sink(ctx)
	return map[string]string{
		"ADMIN_EMAIL": AdminEmail, "ADMIN_PASSWORD": AdminPassword, "CATALOG_FILE": r.CatalogFile,
		"ACCESS_TOKEN_TTL": "24h", "SIMULATOR_LATENCY": "0s", "TRACE_RATIO": "0.01", "OTEL_EXPORTER_OTLP_ENDPOINT": sink,
	}, err
}

// databases are the services that have one.
var databases = []string{"product", "user", "inventory", "payment", "order"}

// StartSeparate starts each service as a process of its own, on PostgreSQL, with
// a broker.
func (r *Rig) StartSeparate(ctx context.Context) (*Shop, error) {
	broker, err := r.StartBroker(ctx)
	if err != nil {
		return nil, err
	}
	addrs, err := freeport.Addrs(len(Services))
	if err != nil {
		return nil, err
	}
	s := &Shop{Name: "postgres", Addr: map[string]string{}}
	environ, err := r.common(ctx)
	if err != nil {
		return nil, err
	}
	environ["NATS_URL"] = broker
	r.environ = environ
	for i, name := range Services {
		s.Addr[name] = addrs[i]
		environ[strings.ToUpper(name)+"_ADDR"] = addrs[i]
	}
	for _, name := range Services {
		if err := r.startOne(ctx, s, name, environ); err != nil {
			return nil, err
		}
	}
	s.Procs = append(s.Procs, r.Broker)
	if r.Postgres.Proc != nil {
		s.Procs = append(s.Procs, r.Postgres.Proc)
	}
	return s, nil
}

// Extra starts another process of a service of the separate shop, with a database
// of its own, or "" for none. It calls the services of the shop, and is no part
// of it.
func (r *Rig) Extra(ctx context.Context, name, as, database string) (*procs.Proc, string, error) {
	addrs, err := freeport.Addrs(1)
	if err != nil {
		return nil, "", err
	}
	environ := maps.Clone(r.environ)
	environ["CATALOG_FILE"], environ["DATABASE_URL"] = "", database
	p, err := r.Service(ctx, name, as, addrs[0], environ)
	return p, addrs[0], err
}

// Owns reports whether a service has a database.
func Owns(name string) bool { return slices.Contains(databases, name) }

// startOne starts a service of a separate shop with a new database.
func (r *Rig) startOne(ctx context.Context, s *Shop, name string, environ map[string]string) error {
	environ = maps.Clone(environ)
	if Owns(name) {
		url, err := r.Postgres.Create(ctx, "bench_"+name)
		if err != nil {
			return err
		}
		environ["DATABASE_URL"] = url
	}
	p, err := r.Service(ctx, name, "", s.Addr[name], environ)
	if err != nil {
		return err
	}
	s.Procs = append(s.Procs, p)
	if name == "gateway" {
		s.REST = "http://" + s.Addr[name]
	}
	return nil
}

// Service starts one service at addr, with that environment; as is a name for the
// process if several are of the same service.
func (r *Rig) Service(ctx context.Context, name, as, addr string, environ map[string]string) (*procs.Proc, error) {
	ops, err := freeport.Addrs(1)
	if err != nil {
		return nil, err
	}
	environ = maps.Clone(environ)
	environ["METRICS_ADDR"] = ops[0]
	ready := serving(addr)
	environ["GRPC_ADDR"] = addr
	if name == "gateway" {
		environ["GRPC_ADDR"], environ["HTTP_ADDR"] = "127.0.0.1:0", addr
		ready = answers("http://" + ops[0] + "/readyz")
	}
	if as == "" {
		as = name
	}
	return r.Start(ctx, procs.Command{Name: as, Path: name, Metrics: "http://" + ops[0] + "/metrics"}, environ, ready)
}

// StartOne starts the shop in one process, with its broker, on SQLite in a folder
// below the rig's, with that catalog.
func (r *Rig) StartOne(ctx context.Context, as, folder, catalog string) (*Shop, error) {
	addrs, err := freeport.Addrs(len(Services))
	if err != nil {
		return nil, err
	}
	environ, err := r.common(ctx)
	if err != nil {
		return nil, err
	}
	environ["CATALOG_FILE"] = catalog
	s := &Shop{Name: "sqlite", Addr: map[string]string{}}
	for i, name := range Services {
		s.Addr[name] = addrs[i]
		if name != "gateway" {
			environ[strings.ToUpper(name)+"_GRPC_ADDR"] = addrs[i]
		}
	}
	http := s.Addr["gateway"]
	environ["HTTP_ADDR"], environ["DATA_DIR"], s.REST = http, filepath.Join(r.Dir, folder), "http://"+http
	p, err := r.Start(ctx, procs.Command{Name: as, Path: "shop", Metrics: s.REST + "/metrics"}, environ, answers(s.REST+"/readyz"))
	s.Procs = []*procs.Proc{p}
	return s, err
}

// answers asks for a page.
func answers(url string) func(context.Context) error {
	return func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("%s: %s", url, resp.Status)
		}
		return nil
	}
}

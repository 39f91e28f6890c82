package rig

import (
	"context"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/meshmart/meshmart/tests/bench/procs"
	"github.com/meshmart/meshmart/tests/freeport"
)

// Administrator of every shop that is started here.
const (
	AdminEmail    = "admin@example.com"
	AdminPassword = "s3cret-pass-phrase"
)

// startLimit is how long anything may take to be ready on a busy machine.
const startLimit = 2 * time.Minute

// Rig starts things in a folder, and stops them.
type Rig struct {
	Programs Programs
	Dir      string
	Profile  bool // the programs serve pprof
	// CatalogFile has what the shops begin with; see Catalog.
	CatalogFile string

	Postgres *Postgres   // nil: none
	Broker   *procs.Proc // nil: not started
	Sink     *procs.Proc // takes the traces; no part of what is measured

	sinkAddr string
	environ  map[string]string // of the services of the separate shop
	started  []*procs.Proc
}

// Start runs one program with that environment and waits until ready says so.
func (r *Rig) Start(ctx context.Context, c procs.Command, environ map[string]string, ready func(context.Context) error) (*procs.Proc, error) {
	c.Path, c.Environ = r.Programs[c.Path], []string{"PATH=" + os.Getenv("PATH"), "HOME=" + r.Dir}
	if n := os.Getenv("GOMAXPROCS"); n != "" {
		c.Environ = append(c.Environ, "GOMAXPROCS="+n)
	}
	if r.Profile && c.Metrics != "" { // a service
		addr, err := freeport.Addrs(1)
		if err != nil {
			return nil, err
		}
		environ = maps.Clone(environ)
		environ["PPROF_ADDR"] = addr[0]
	}
	for k, v := range environ {
		c.Environ = append(c.Environ, k+"="+v)
	}
	c.Dir = r.Dir
	p, err := procs.Start(c)
	if err != nil {
		return nil, err
	}
	p.Profile = environ["PPROF_ADDR"]
	r.started = append(r.started, p)
	return p, p.Await(ctx, startLimit, ready)
}

// Close stops everything, last first.
func (r *Rig) Close() {
	for i := len(r.started) - 1; i >= 0; i-- {
		r.started[i].Stop(syscall.SIGTERM)
	}
	if r.Postgres != nil {
		r.Postgres.Stop()
	}
}

// StartBroker starts a NATS server with its streams on the disk.
func (r *Rig) StartBroker(ctx context.Context) (url string, err error) {
	addrs, err := freeport.Addrs(1)
	if err != nil {
		return "", err
	}
	_, port, _ := strings.Cut(addrs[0], ":")
	r.Broker, err = r.Start(ctx, procs.Command{
		Name: "nats", Path: "nats-server", Args: []string{"-a", "127.0.0.1", "-p", port, "-js", "-sd", filepath.Join(r.Dir, "nats")},
	}, map[string]string{}, listens(addrs[0]))
	return "nats://" + addrs[0], err
}

// StartBare starts a bare server, and returns where it is.
func (r *Rig) StartBare(ctx context.Context, name string) (*procs.Proc, string, error) {
	addrs, err := freeport.Addrs(1)
	if err != nil {
		return nil, "", err
	}
	p, err := r.Start(ctx, procs.Command{Name: name, Path: "bare", Args: addrs}, map[string]string{}, listens(addrs[0]))
	return p, addrs[0], err
}

// sink returns the URL of a collector, which it starts when first asked.
func (r *Rig) sink(ctx context.Context) (string, error) {
	if r.Sink == nil {
		p, addr, err := r.StartBare(ctx, "collector")
		if err != nil {
			return "", err
		}
		r.Sink, r.sinkAddr = p, addr
	}
	return "http://" + r.sinkAddr, nil
}

func listens(addr string) func(context.Context) error {
	return func(ctx context.Context) error {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		if err == nil {
			_ = conn.Close()
		}
		return err
	}
}

// serving asks a service whether it takes calls.
func serving(addr string) func(context.Context) error {
	return func(ctx context.Context) error {
		if err := listens(addr)(ctx); err != nil {
			return err // gRPC would wait long between its tries
		}
		cc, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return err
		}
		defer cc.Close()
		reply, err := healthpb.NewHealthClient(cc).Check(ctx, &healthpb.HealthCheckRequest{})
		if err == nil && reply.GetStatus() != healthpb.HealthCheckResponse_SERVING {
			err = fmt.Errorf("it is %v", reply.GetStatus())
		}
		return err
	}
}

// Catalog writes a file with n products to begin with, of which there are plenty.
func (r *Rig) Catalog(n int) error {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `{"product":{"sku":"BENCH-%06d","name":"Halden Stoneware Mug %06d","description":%q,"category":"kitchen",`+
			`"price":{"currency_code":"EUR","units":"14","nanos":900000000},"image":"☕"},"initial_stock":1000000000}`+"\n", i, i, description)
	}
	r.CatalogFile = filepath.Join(r.Dir, "catalog-"+strconv.Itoa(n)+".jsonl")
	return os.WriteFile(r.CatalogFile, []byte(b.String()), 0o600)
}

// description is as long as that of the bare server.
const description = "Hand-glazed stoneware that keeps 350 ml of coffee warm through a long meeting. Safe in the dishwasher and the microwave."

// Stop ends one program before the others.
func (r *Rig) Stop(p *procs.Proc) {
	p.Stop(syscall.SIGTERM)
	r.started = slices.DeleteFunc(r.started, func(x *procs.Proc) bool { return x == p })
}

// Started returns the programs of that name that were started.
func (r *Rig) Started(name string) []*procs.Proc {
	var ps []*procs.Proc
	for _, p := range r.started {
		if p.Name == name {
			ps = append(ps, p)
		}
	}
	return ps
}

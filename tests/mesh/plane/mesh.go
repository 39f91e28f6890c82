package plane

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/contract"
	"github.com/meshmart/meshmart/tests/mesh/overlay"
)

// Mesh is a control plane and a server for each pod that it has been told of.
type Mesh struct {
	Istiod *Istiod
	Shop   *contract.Shop
	// Pods are all there are, and Servers those of them that serve gRPC.
	Pods    []overlay.Replica
	Servers []*Server
	// CA is who signs all identities.
	CA      *CA
	dir     string // of certificates
	record  *record
	mu      sync.Mutex
	clients map[string]*Client
}

// Options says what to run.
type Options struct {
	// Image is of BuildImage.
	Image string
	Shop  *contract.Shop
	// Objects are what an overlay renders, Pods are how many there are of each
	// Deployment.
	Objects []overlay.Object
	Pods    int
	// Net is the second number of all addresses: 127.NET.DEPLOYMENT.POD. Each mesh
	// has its own.
	Net int
}

// Start runs a mesh. The caller closes it, also after an error.
func Start(ctx context.Context, opt Options) (*Mesh, error) {
	m := &Mesh{
		Istiod: &Istiod{}, Shop: opt.Shop,
		Pods:   overlay.Replicas(opt.Objects, opt.Pods, func(d, p int) string { return fmt.Sprintf("127.%d.%d.%d", opt.Net, d, p) }),
		record: &record{attempts: map[string][]Attempt{}}, clients: map[string]*Client{},
	}
	var err error
	if m.CA, err = NewCA(); err != nil {
		return m, err
	}
	if m.dir, err = os.MkdirTemp("", "mesh"); err != nil {
		return m, err
	}
	text, err := overlay.YAML(overlay.Running(m.Shop.Namespace, opt.Objects, m.Pods))
	if err != nil {
		return m, err
	}
	if m.Istiod, err = StartIstiod(ctx, opt.Image, text); err != nil {
		return m, err
	}
	if err := m.serve(ctx); err != nil {
		return m, fmt.Errorf("%w\n%s", err, m.Istiod.Log(ctx))
	}
	return m, nil
}

// serve starts the servers of all services that have a contract.
func (m *Mesh) serve(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	for _, p := range m.Pods {
		if m.Shop.Service(p.Labels["app"]) == nil {
			continue
		}
		g.Go(func() error {
			_, err := m.AddServer(ctx, p)
			return err
		})
	}
	return g.Wait()
}

// AddServer runs the server of a pod that istiod has been told of.
func (m *Mesh) AddServer(ctx context.Context, p overlay.Replica) (*Server, error) {
	n, err := m.node(Node{IP: p.IP, Name: p.Name, Namespace: m.Shop.Namespace, Account: p.Account, Labels: p.Labels}, m.CA)
	if err != nil {
		return nil, err
	}
	s, err := startServer(ctx, m.Istiod, n, m.Shop.Service(p.Labels["app"]).Port, m.record)
	m.mu.Lock()
	defer m.mu.Unlock()
	if s != nil {
		m.Servers = append(m.Servers, s)
	}
	return s, err
}

// node gives a node its certificate.
func (m *Mesh) node(n Node, ca *CA) (Node, error) {
	var err error
	if n.Certificates, err = os.MkdirTemp(m.dir, n.Name); err != nil {
		return n, err
	}
	return n, ca.Issue(n.Certificates, n.SPIFFE())
}

// Client returns the workload of an account, the same one each time.
func (m *Mesh) Client(namespace, account string) (*Client, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	name := filepath.Join(namespace, account)
	if c := m.clients[name]; c != nil {
		return c, nil
	}
	n := Node{IP: "127.0.0.1", Name: account + "-client", Namespace: namespace, Account: account, Labels: map[string]string{"app": account}}
	n, err := m.node(n, m.CA)
	if err != nil {
		return nil, err
	}
	c, err := newClient(m.Istiod, n, m.record)
	if err == nil {
		m.clients[name] = c
	}
	return c, err
}

// CallOf is a call of an RPC.
func (m *Mesh) CallOf(r *contract.RPC) Call {
	return Call{Host: m.Shop.FQDN(r.Host), Port: m.Shop.ServiceOf(r).Port, Method: r.Path(), Stream: r.Streaming()}
}

// ServersOf are the replicas of a service.
func (m *Mesh) ServersOf(host string) []*Server {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []*Server
	for _, s := range m.Servers {
		if s.Node.Labels["app"] == host {
			out = append(out, s)
		}
	}
	return out
}

// Apply replaces the objects of the overlay, and the pods.
func (m *Mesh) Apply(ctx context.Context, objects []overlay.Object, pods []overlay.Replica) error {
	text, err := overlay.YAML(overlay.Running(m.Shop.Namespace, objects, pods))
	if err != nil {
		return err
	}
	return m.Istiod.Apply(ctx, text)
}

// Close ends everything.
func (m *Mesh) Close() error {
	for _, c := range m.clients {
		c.Close()
	}
	for _, s := range slices.Backward(m.Servers) {
		s.Close()
	}
	return errors.Join(m.Istiod.Close(), os.RemoveAll(m.dir))
}

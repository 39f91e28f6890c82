package app

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	greeterpb "github.com/meshmart/meshmart/proto/greeter/v1"
	"github.com/meshmart/meshmart/services/internal/rpc"
)

func TestWhereAServiceIs(t *testing.T) {
	tests := map[string]struct {
		environ map[string]string
		want    string
	}{
		"by its name":           {nil, "order:9090"},
		"without a mesh":        {map[string]string{"MESH": "none"}, "order:9090"},
		"at an address":         {map[string]string{"MESH": "istio", "ORDER_ADDR": "127.0.0.1:7"}, "127.0.0.1:7"},
		"in the mesh":           {map[string]string{"MESH": "proxyless"}, "xds:///order.default.svc.cluster.local:9090"},
		"in the same namespace": {map[string]string{"MESH": "proxyless", "POD_NAMESPACE": "shop"}, "xds:///order.shop.svc.cluster.local:9090"},
		"under another name":    {map[string]string{"MESH": "proxyless", "ORDER_ADDR": "orders.b.svc.cluster.local:80"}, "xds:///orders.b.svc.cluster.local:80"},
		"as a target":           {map[string]string{"MESH": "proxyless", "ORDER_ADDR": "xds:///orders:80"}, "xds:///orders:80"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			cfg, err := load(Service{Name: "gateway"}, tt.environ)
			if err != nil {
				t.Fatal(err)
			}
			if got, _ := network(cfg, Options{Environ: tt.environ}).Target("order"); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

// Services that share a process are in no mesh, whatever surrounds the process.
func TestInOneProcessThereIsNoMesh(t *testing.T) {
	for _, mesh := range []string{"none", "proxyless"} {
		r := run(t, map[string]string{"MESH": mesh}, func(_ context.Context, e *Env) error {
			if e.cfg.Mesh != "" {
				t.Errorf("MESH=%s: the service is in mesh %q", mesh, e.cfg.Mesh)
			}
			return nil
		})
		<-r.ready
		if err := r.stop(t); err != nil {
			t.Error(err)
		}
	}
}

func TestWithoutAMeshAConnectionNeedsAServiceConfig(t *testing.T) {
	dialled := errors.New("dialled")
	svc := Service{Name: "test", Calls: []string{"order", "nobody"}, Start: func(_ context.Context, e *Env) error {
		if _, err := e.Dial("order"); err != nil {
			t.Error(err)
		}
		if _, err := e.Dial("nobody"); err == nil || !strings.Contains(err.Error(), "no service config for nobody") {
			t.Errorf("got %v", err)
		}
		return dialled
	}}
	if err := Run(t.Context(), svc, Options{Environ: map[string]string{"MESH": "none"}}); !errors.Is(err, dialled) {
		t.Error(err)
	}
}

// Without proxies it is the server that lets in whom the mesh lists, before any
// of our code is asked.
func TestWhoMayCallInternalRPCs(t *testing.T) {
	near, far := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 6)}, &net.TCPAddr{IP: net.IPv4(10, 0, 0, 6)}
	tests := map[string]struct {
		cfg  config
		far  bool
		near bool
	}{
		"a mesh of proxies":   {config{}, false, true},
		"sidecars of Istio":   {config{Mesh: rpc.Istio}, false, true},
		"no mesh":             {config{Mesh: rpc.NoMesh}, false, true},
		"a trusted network":   {config{TrustNetwork: true}, true, true},
		"a mesh without them": {config{Mesh: rpc.Proxyless}, true, true},
	}
	for name, tt := range tests {
		may := insider(&tt.cfg, dns{})
		if may(near) != tt.near || may(far) != tt.far {
			t.Errorf("%s: from here %v, from elsewhere %v", name, may(near), may(far))
		}
		sidecar6 := &net.TCPAddr{IP: net.ParseIP("::6")}
		if want := tt.cfg.Mesh == rpc.Istio || tt.far; may(sidecar6) != want {
			t.Errorf("%s: from Istio's sidecar over IPv6 %v, want %v", name, may(sidecar6), want)
		}
	}
}

// The whole way without a mesh: by DNS, with the service config, past the health
// of the service that is called.
func TestWithoutAMeshServicesReachEachOther(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	var greeter greeterpb.GreetingServiceClient
	svc := Service{Name: "greeter", Calls: []string{"greeter"}, Start: func(_ context.Context, e *Env) error {
		greeterpb.RegisterGreetingServiceServer(e.Server, greeterpb.UnimplementedGreetingServiceServer{})
		cc, err := e.Dial("greeter")
		greeter = greeterpb.NewGreetingServiceClient(cc)
		return err
	}}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- Run(ctx, svc, Options{Environ: map[string]string{"MESH": "none", "GRPC_ADDR": addr, "GREETER_ADDR": addr},
			Log: io.Discard, Ready: func() { close(ready) }})
	}()
	<-ready
	if _, err := greeter.Greet(t.Context(), &greeterpb.GreetRequest{Name: "Ada"}, grpc.WaitForReady(true)); status.Code(err) != codes.Unimplemented {
		t.Errorf("got %v, want the service's own answer", err)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

package rpc

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/meshmart/meshmart/services/internal/identity"
	"github.com/meshmart/meshmart/services/internal/policy"
	"github.com/meshmart/meshmart/tests/certs"
)

// Where the accounts are, as in the generated manifests.
const shopID = "spiffe://cluster.local/ns/meshmart/sa/"

// is returns a service's identity by a certificate of an authority.
func is(t testing.TB, ca *certs.CA, service string) *identity.Identity {
	t.Helper()
	f := certs.NewFiles(t)
	f.Take(t, ca, shopID+service)
	f.Trust(t, ca)
	return load(t, f, service, time.Hour)
}

func load(t testing.TB, f certs.Files, service string, every time.Duration) *identity.Identity {
	t.Helper()
	i, err := identity.Load(identity.Config{CertFile: f.Cert, KeyFile: f.Key, CAFile: f.CA, TrustDomain: "cluster.local",
		Namespace: "meshmart", Service: service, Log: slog.New(slog.DiscardHandler), Every: every})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { i.Close() })
	return i
}

// anything is a service whose every RPC is answered with nothing.
func anything(host string) map[string]*grpc.ServiceDesc {
	all := map[string]*grpc.ServiceDesc{}
	for _, p := range policy.Linked() {
		if p.Host != host {
			continue
		}
		service, method, _ := strings.Cut(p.Method[1:], "/")
		d := all[service]
		if d == nil {
			d = &grpc.ServiceDesc{ServiceName: service, HandlerType: (*any)(nil)}
			all[service] = d
		}
		if p.Streaming {
			d.Streams = append(d.Streams, grpc.StreamDesc{StreamName: method, ServerStreams: true, ClientStreams: true, Handler: nothing})
		} else {
			d.Methods = append(d.Methods, grpc.MethodDesc{MethodName: method, Handler: empty})
		}
	}
	return all
}

func nothing(any, grpc.ServerStream) error { return nil }

func empty(_ any, ctx context.Context, decode func(any) error, in grpc.UnaryServerInterceptor) (any, error) {
	m := &emptypb.Empty{}
	if err := decode(m); err != nil {
		return nil, err
	}
	return in(ctx, m, &grpc.UnaryServerInfo{}, func(context.Context, any) (any, error) { return m, nil })
}

// serving starts a server of a service, and returns where.
func serving(t testing.TB, host string, own *identity.Identity) string {
	t.Helper()
	return servingUnchecked(t, host, own, true)
}

// servingUnchecked starts one that may take certificates and not look whose they are.
func servingUnchecked(t testing.TB, host string, own *identity.Identity, checked bool) string {
	t.Helper()
	s, err := NewServer(ServerConfig{Log: slog.New(slog.DiscardHandler), Clock: time.Now, Mesh: NoMesh, Identity: own, Insider: func(net.Addr) bool {
		if checked {
			t.Error("a caller with a certificate was asked where he is")
		}
		return true
	}})
	if err != nil {
		t.Fatal(err)
	}
	if !checked {
		s.cfg.Identity = nil
	}
	for _, d := range anything(host) {
		s.RegisterService(d, struct{}{})
	}
	h := health.NewServer()
	healthpb.RegisterHealthServer(s, h)
	reflection.Register(s)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve(l)
	t.Cleanup(s.Stop)
	return l.Addr().String()
}

// as returns a connection to a service, whose caller has what credentials there are.
func as(t testing.TB, addr string, creds credentials.TransportCredentials) *grpc.ClientConn {
	t.Helper()
	cc, err := grpc.NewClient(addr, grpc.WithTransportCredentials(creds))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cc.Close() })
	return cc
}

// shows are the credentials of a client that asks nobody for his.
func shows(t testing.TB, ca *certs.CA, id string, changes ...certs.Change) credentials.TransportCredentials {
	t.Helper()
	cert, key := ca.Issue(t, id, changes...)
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	return credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{pair}, InsecureSkipVerify: true})
}

// ask makes a call with nothing in it, and returns its end.
func ask(t testing.TB, cc *grpc.ClientConn, method string) error {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s, err := cc.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method)
	if err != nil {
		return err
	}
	s.SendMsg(&emptypb.Empty{})
	s.CloseSend()
	m := &emptypb.Empty{}
	err = s.RecvMsg(m)
	if err == nil || err.Error() == "EOF" {
		return nil
	}
	return err
}

// allowed reads who may call what from the policy that Istio has of a service.
func allowed(t *testing.T, host string) map[string][]string {
	t.Helper()
	f, err := os.Open(filepath.Join("../../../mesh/istio/policy", host+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	all := map[string][]string{}
	for d := yaml.NewDecoder(f); ; {
		var o struct {
			Kind string
			Spec struct {
				Action string
				Rules  []struct {
					From []struct{ Source struct{ Principals []string } }
					To   []struct{ Operation struct{ Paths []string } }
				}
			}
		}
		if d.Decode(&o) != nil {
			return all
		}
		if o.Kind != "AuthorizationPolicy" || o.Spec.Action != "ALLOW" {
			continue
		}
		for _, r := range o.Spec.Rules {
			for _, path := range r.To[0].Operation.Paths {
				for _, p := range r.From[0].Source.Principals {
					all[path] = append(all[path], "spiffe://"+p)
				}
			}
		}
	}
}

// Without a mesh the process lets in whom Istio would: for each RPC, the health and
// what has no contract, each account of the shop, and some that are not.
func TestCallersAreThoseOfTheGeneratedPolicies(t *testing.T) {
	ca := certs.NewCA(t, "shop")
	hosts := map[string][]string{}
	for _, p := range policy.Linked() {
		hosts[p.Host] = append(hosts[p.Host], p.Method)
	}
	ids := []string{"", "spiffe://cluster.local/ns/elsewhere/sa/gateway", "spiffe://elsewhere/ns/meshmart/sa/order", shopID + "order/x", shopID + "ingress", shopID + "gateway"}
	for host := range hosts {
		ids = append(ids, shopID+host)
	}
	const watch = "/grpc.health.v1.Health/Watch"
	pairs := 0
	for host, methods := range hosts {
		want := allowed(t, host)
		addr := serving(t, host, is(t, ca, host))
		methods = append(methods, "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/List", watch,
			"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "/grpc.health.v2.Health/Check", methods[0]+"X")
		for _, id := range ids {
			cc := as(t, addr, shows(t, ca, id))
			for _, m := range methods {
				err := ask(t, cc, m)
				pairs++
				switch code := status.Code(err); {
				case slices.Contains(want[m], id) != (code == codes.OK):
					t.Errorf("%s by %q: %v; Istio lets in %v", m, id, err, want[m])
				case code == codes.Unimplemented && m == watch:
				case code != codes.OK && code != codes.PermissionDenied:
					t.Errorf("%s by %q: %v", m, id, err)
				}
			}
		}
	}
	if len(hosts) < 6 || pairs < 500 {
		t.Errorf("%d services, %d pairs", len(hosts), pairs)
	}
	t.Logf("figure: MESH=none with certificates: %d pairs of RPC and caller decided as Istio's policies do", pairs)
}

func TestWhoMayNotCallIsToldWhy(t *testing.T) {
	ca := certs.NewCA(t, "shop")
	addr := serving(t, "payment", is(t, ca, "payment"))
	for id, want := range map[string]string{
		"":              "the caller's certificate has no SPIFFE id",
		shopID + "user": shopID + "user may not call /payment.v1.PaymentService/Capture",
	} {
		if got := status.Convert(ask(t, as(t, addr, shows(t, ca, id)), "/payment.v1.PaymentService/Capture")); got.Message() != want {
			t.Errorf("%q: got %v", id, got)
		}
	}
}

// Who has no good certificate does not get as far as a call.
func TestWithoutAGoodCertificateThereIsNoConnection(t *testing.T) {
	ca, foreign := certs.NewCA(t, "shop"), certs.NewCA(t, "shop")
	addr := serving(t, "payment", is(t, ca, "payment"))
	const method = "/payment.v1.PaymentService/Capture"
	for name, tt := range map[string]struct {
		creds credentials.TransportCredentials
		want  codes.Code
	}{
		"plaintext":       {insecure.NewCredentials(), codes.Unavailable},
		"none":            {credentials.NewTLS(&tls.Config{InsecureSkipVerify: true}), codes.Unavailable},
		"of another CA":   {shows(t, foreign, shopID+"order"), codes.Unavailable},
		"one that is old": {shows(t, ca, shopID+"order", certs.Ended), codes.Unavailable},
		"a good one":      {shows(t, ca, shopID+"order"), codes.OK},
	} {
		if got := ask(t, as(t, addr, tt.creds), method); status.Code(got) != tt.want {
			t.Errorf("%s: got %v, want %v", name, got, tt.want)
		}
	}
}

// A caller does not take another service for the one that it means to call, be it at
// the right address, nor one with a certificate of somebody else's authority.
func TestACallerKnowsWhoAnswers(t *testing.T) {
	ca, foreign := certs.NewCA(t, "shop"), certs.NewCA(t, "shop")
	order := is(t, ca, "order")
	for name, tt := range map[string]struct {
		own  *identity.Identity
		want codes.Code
	}{
		"the service":        {is(t, ca, "payment"), codes.OK},
		"another service":    {is(t, ca, "user"), codes.Unavailable},
		"a foreign one":      {is(t, foreign, "payment"), codes.Unavailable},
		"one with no secret": {nil, codes.Unavailable},
	} {
		addr := serving(t, "payment", tt.own)
		cc, err := Dial(ClientConfig{Name: "payment", Target: addr, Mesh: NoMesh, Identity: order, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		defer cc.Close()
		if got := ask(t, cc, "/payment.v1.PaymentService/Capture"); status.Code(got) != tt.want {
			t.Errorf("%s: got %v, want %v", name, got, tt.want)
		}
	}
}

// Certificates and authorities are exchanged while calls are made over connections
// that never last: no call is lost, and the old ones then count for nothing.
func TestNewCertificatesAndAuthoritiesLoseNoCall(t *testing.T) {
	old, next := certs.NewCA(t, "old"), certs.NewCA(t, "next")
	names := []string{"order", "payment", "payment"}
	var files []certs.Files
	var ids []*identity.Identity
	for _, name := range names {
		f := certs.NewFiles(t)
		f.Take(t, old, shopID+name)
		f.Trust(t, old)
		files, ids = append(files, f), append(ids, load(t, f, name, 2*time.Millisecond))
	}
	var conns connections
	backs := []string{replica(t, ids[1], &conns), replica(t, ids[2], &conns)}
	names2 := manual.NewBuilderWithScheme("replicas")
	names2.InitialState(resolver.State{Addresses: []resolver.Address{{Addr: backs[0]}, {Addr: backs[1]}}})
	cc, err := Dial(ClientConfig{Name: "payment", Target: "replicas:///payment", Mesh: NoMesh, Identity: ids[0], Log: slog.New(slog.DiscardHandler)}, grpc.WithResolvers(names2))
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()

	var calls, lost atomic.Int64
	stop := make(chan struct{})
	var load sync.WaitGroup
	for range 4 {
		load.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				calls.Add(1)
				if err := ask(t, cc, "/payment.v1.PaymentService/Capture"); err != nil {
					lost.Add(1)
					t.Error(err)
				}
			}
		})
	}
	// Each step is on all sides before the next one, over several new connections.
	settle := func() {
		t.Helper()
		was := conns.n.Load()
		later(t, "connections anew", func() bool { time.Sleep(10 * time.Millisecond); return conns.n.Load() > was+3 })
	}
	settle()
	for round := range 3 {
		for _, f := range files {
			f.Trust(t, old, next)
		}
		settle()
		for i, f := range files {
			f.Take(t, next, shopID+names[i])
		}
		settle()
		for _, f := range files {
			f.Trust(t, next)
		}
		settle()
		if err := ask(t, as(t, backs[0], shows(t, old, shopID+"order")), "/payment.v1.PaymentService/Capture"); status.Code(err) != codes.Unavailable {
			t.Errorf("round %d: a certificate of the old authority: %v", round, err)
		}
		old, next = next, certs.NewCA(t, fmt.Sprint("next ", round))
	}
	close(stop)
	load.Wait()
	t.Logf("figure: new certificates and authorities, 3 times each, over %d connections: %d calls, %d lost", conns.n.Load(), calls.Load(), lost.Load())
}

// shortAge is of connections that end soon, and yet live for longer than it takes a
// busy machine to make one.
const shortAge = 300 * time.Millisecond

// replica is one of payment whose connections end soon.
func replica(t *testing.T, own *identity.Identity, seen *connections) string {
	t.Helper()
	creds, err := own.Server()
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(grpc.Creds(creds), spread(shortAge, time.Minute), grpc.StatsHandler(seen), grpc.UnknownServiceHandler(nothing))
	healthpb.RegisterHealthServer(s, health.NewServer())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve(l)
	t.Cleanup(s.Stop)
	return l.Addr().String()
}

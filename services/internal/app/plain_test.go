package app

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	greeterpb "github.com/meshmart/meshmart/proto/greeter/v1"
	"github.com/meshmart/meshmart/tests/certs"
	"github.com/meshmart/meshmart/tests/freeport"
)

func TestWrongVariablesOfTLSAreNamed(t *testing.T) {
	all := map[string]string{"TLS_CERT_FILE": "c", "TLS_KEY_FILE": "k", "TLS_CA_FILE": "a"}
	for name, tt := range map[string]struct {
		mesh string
		set  []string
		want string
	}{
		"all":               {"none", []string{"TLS_CERT_FILE", "TLS_KEY_FILE", "TLS_CA_FILE"}, ""},
		"none":              {"none", nil, ""},
		"no authorities":    {"none", []string{"TLS_CERT_FILE", "TLS_KEY_FILE"}, ""},
		"no key":            {"none", []string{"TLS_CERT_FILE"}, "TLS_CERT_FILE is set, so TLS_CERT_FILE and TLS_KEY_FILE have to be"},
		"no certificate":    {"none", []string{"TLS_KEY_FILE", "TLS_CA_FILE"}, "TLS_KEY_FILE is set"},
		"authorities alone": {"none", []string{"TLS_CA_FILE"}, "TLS_CA_FILE is set"},
		"a mesh":            {"istio", []string{"TLS_CERT_FILE", "TLS_KEY_FILE", "TLS_CA_FILE"}, "TLS_CERT_FILE: it is for MESH=none"},
		"a mesh by default": {"", []string{"TLS_CA_FILE"}, "TLS_CA_FILE: it is for MESH=none"},
	} {
		environ := map[string]string{"MESH": tt.mesh}
		for _, v := range tt.set {
			environ[v] = all[v]
		}
		_, err := load(Service{Name: "order"}, environ)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
		}
	}
}

func TestWrongVariablesOfEtcdAreNamed(t *testing.T) {
	for _, tt := range []struct{ mesh, endpoints, advertise, want string }{
		{"none", "http://a:2379,http://b:2379", "10.0.0.1:9090", ""},
		{"none", "https://a:2379", "", ""},
		{"none", "", "10.0.0.1", ""}, // who has no etcd is not asked
		{"istio", "http://a:2379", "", "ETCD_ENDPOINTS: it is for MESH=none"},
		{"none", "a:2379", "", "ETCD_ENDPOINTS: they are URLs"},
		{"none", "http://a:2379,https://b:2379", "", "ETCD_ENDPOINTS: they are URLs"},
		{"none", "http://a:2379", "10.0.0.1", "ADVERTISE_ADDR: it is a host and a port"},
		{"none", "http://a:2379", "10.0.0.1:0", "ADVERTISE_ADDR: it is a host and a port"},
	} {
		environ := map[string]string{"MESH": tt.mesh}
		for name, v := range map[string]string{"ETCD_ENDPOINTS": tt.endpoints, "ADVERTISE_ADDR": tt.advertise} {
			if v != "" {
				environ[name] = v
			}
		}
		_, err := load(Service{Name: "order"}, environ)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: got %v", tt, err)
		}
	}
}

func TestWhereAServiceIsSaidToBe(t *testing.T) {
	at := func(ip string) net.Addr { return &net.TCPAddr{IP: net.ParseIP(ip), Port: 9090} }
	for _, tt := range []struct {
		configured string
		at         net.Addr
		want       string
	}{
		{"shop.example:80", at("0.0.0.0"), "shop.example:80"},
		{"", at("127.0.0.1"), "127.0.0.1:9090"}, // it listens nowhere else
		{"", at("fd00::1"), "[fd00::1]:9090"},
	} {
		if got, err := advertised(tt.configured, tt.at); got != tt.want || err != nil {
			t.Errorf("%q at %v: got %q, %v", tt.configured, tt.at, got, err)
		}
	}
	got, err := advertised("", at("::"))
	if err != nil {
		t.Skipf("this host has no other address than loopback's: %v", err)
	}
	host, port, _ := net.SplitHostPort(got)
	if ip := net.ParseIP(host); ip == nil || ip.IsLoopback() || ip.IsUnspecified() || port != "9090" {
		t.Errorf("everywhere: got %q", got)
	}
}

func TestAFileThatIsMissingIsNamedAndNothingStarts(t *testing.T) {
	svc := Service{Name: "order", Start: func(context.Context, *Env) error { t.Error("started"); return nil }}
	err := Run(t.Context(), svc, Options{Log: io.Discard, Environ: map[string]string{"MESH": "none", "TLS_CERT_FILE": "/no/such", "TLS_KEY_FILE": "/no/such"}})
	if err == nil || !strings.Contains(err.Error(), "TLS_CERT_FILE: open /no/such") || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// What is for services that have a process each is not quietly left out for others.
func TestServicesOfOneProcessRefuseCertificates(t *testing.T) {
	r := run(t, map[string]string{"MESH": "none", "TLS_CERT_FILE": "c", "TLS_KEY_FILE": "k"}, func(context.Context, *Env) error {
		t.Error("started")
		return nil
	})
	if err := r.stop(t); err == nil || !strings.Contains(err.Error(), "TLS_CERT_FILE") {
		t.Errorf("got %v", err)
	}
}

// Two services with certificates, as processes of their own run them: the one that
// the contract names is answered, and in plaintext nobody is.
func TestServicesProveWhoTheyAreWithoutAMesh(t *testing.T) {
	ca := certs.NewCA(t, "shop")
	addrs, err := freeport.Addrs(1)
	if err != nil {
		t.Fatal(err)
	}
	greeter := startPlain(t, ca, "greeter", addrs[0], addrs[0])
	gateway := startPlain(t, ca, "gateway", "127.0.0.1:0", addrs[0])
	other := startPlain(t, ca, "order", "127.0.0.1:0", addrs[0])
	for name, tt := range map[string]struct {
		cc   *grpc.ClientConn
		want codes.Code
	}{
		"who may":     {gateway.cc, codes.Unimplemented}, // the service's own answer
		"who may not": {other.cc, codes.PermissionDenied},
		"plaintext":   {plaintext(t, addrs[0]), codes.Unavailable},
	} {
		// Who waits for a server that starts would also wait for one that refuses.
		opts := []grpc.CallOption{grpc.WaitForReady(name == "who may")}
		_, err := greeterpb.NewGreetingServiceClient(tt.cc).Greet(t.Context(), &greeterpb.GreetRequest{Name: "Ada"}, opts...)
		if status.Code(err) != tt.want {
			t.Errorf("%s: got %v, want %v", name, err, tt.want)
		}
	}
	if log := greeter.log.String(); strings.Contains(log, "without TLS") || !strings.Contains(log, "spiffe://cluster.local/ns/default/sa/greeter") {
		t.Errorf("the log of a server with TLS:\n%s", log)
	}
}

type plain struct {
	cc  *grpc.ClientConn // to the greeter
	log syncBuffer
}

// startPlain runs a service that calls the greeter, with a certificate if there is
// an authority.
func startPlain(t *testing.T, ca *certs.CA, name, addr, greeter string) *plain {
	t.Helper()
	p := &plain{}
	environ := map[string]string{"MESH": "none", "GRPC_ADDR": addr, "GREETER_ADDR": greeter}
	if ca != nil {
		f := certs.NewFiles(t)
		f.Take(t, ca, "spiffe://cluster.local/ns/default/sa/"+name)
		f.Trust(t, ca)
		environ["TLS_CERT_FILE"], environ["TLS_KEY_FILE"], environ["TLS_CA_FILE"] = f.Cert, f.Key, f.CA
	}
	svc := Service{Name: name, Calls: []string{"greeter"}, Start: func(_ context.Context, e *Env) error {
		greeterpb.RegisterGreetingServiceServer(e.Server, greeterpb.UnimplementedGreetingServiceServer{})
		var err error
		p.cc, err = e.Dial("greeter")
		return err
	}}
	ctx, stop := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- Run(ctx, svc, Options{Environ: environ, Log: &p.log, Ready: func() { close(ready) }})
	}()
	select {
	case <-ready:
	case err := <-done:
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return p
}

func plaintext(t *testing.T, addr string) *grpc.ClientConn {
	t.Helper()
	cc, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cc.Close() })
	return cc
}

func TestPlaintextOutsideOfLoopbackIsToldOnce(t *testing.T) {
	for addr, want := range map[string]int{"127.0.0.1:0": 0, "0.0.0.0:0": 1, ":0": 1} {
		p := startPlain(t, nil, "greeter", addr, "127.0.0.1:1")
		lines := strings.Split(p.log.String(), "\n")
		lines = slices.DeleteFunc(lines, func(l string) bool { return !strings.Contains(l, `"level":"WARN"`) })
		if len(lines) != want || want > 0 && (!strings.Contains(lines[0], "MESH=none") || !strings.Contains(lines[0], "TLS_CERT_FILE")) {
			t.Errorf("GRPC_ADDR=%s: warned of by %q", addr, lines)
		}
	}
}

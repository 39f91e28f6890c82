//go:build proxyless

package rpc_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.opentelemetry.io/otel/metric/noop"
	tracenoop "go.opentelemetry.io/otel/trace/noop"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/xds"

	greeterpb "github.com/meshmart/meshmart/proto/greeter/v1"
	"github.com/meshmart/meshmart/services/internal/app"
	"github.com/meshmart/meshmart/services/internal/fault"
	"github.com/meshmart/meshmart/services/internal/rpc"
	"github.com/meshmart/meshmart/tests/freeport"
)

// child is set in the environment of this test's own binary where it is to be a
// service: gRPC reads GRPC_XDS_BOOTSTRAP before any test could set it.
const child = "MESHMART_TEST_SERVICE"

func TestMain(m *testing.M) {
	if os.Getenv(child) == "" {
		os.Exit(m.Run())
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	svc := app.Service{Name: "greeter", Start: func(_ context.Context, env *app.Env) error {
		greeterpb.RegisterGreetingServiceServer(env.Server, &counting{})
		return nil
	}}
	if err := app.Run(ctx, svc, app.Options{Ready: func() { fmt.Println("ready") }}); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// counting fails and tells how often it was called.
type counting struct {
	greeterpb.UnimplementedGreetingServiceServer
	calls atomic.Int32
}

func (c *counting) Greet(_ context.Context, r *greeterpb.GreetRequest) (*greeterpb.GreetResponse, error) {
	if n := c.calls.Add(1); r.GetName() == "nobody" {
		return nil, fault.Unavailable(time.Second, "call %d", n)
	}
	return &greeterpb.GreetResponse{}, nil
}

// A service without any proxy does what the control plane says: who is let in,
// where calls go, how often they are made.
func TestProxylessDoesWhatTheControlPlaneSays(t *testing.T) {
	addr := freeAddr(t)
	plane := startPlane(t)
	boot := plane.bootstrap()
	lines := startService(t, addr, boot, testWriter{t})
	select {
	case l := <-lines:
		t.Fatalf("before it is told who may call, the service says %q", l)
	case <-plane.asked("inbound/" + addr):
	}
	plane.set(inbound("inbound/"+addr, addr, "/greeter.v1.GreetingService/ListGreetings"))
	if l := <-lines; l != "ready" {
		t.Fatalf("got %q", l)
	}
	for _, r := range outbound("greeter.shop.svc.cluster.local:9090", addr, 2) {
		plane.set(r)
	}
	greeter := greeterpb.NewGreetingServiceClient(dialXDS(t, boot, "greeter.shop.svc.cluster.local:9090"))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := greeter.Greet(ctx, &greeterpb.GreetRequest{Name: "Ada"}); err != nil {
		t.Fatal(err)
	}
	_, err := greeter.Greet(ctx, &greeterpb.GreetRequest{Name: "nobody"})
	if s := status.Convert(err); s.Code() != codes.Unavailable || s.Message() != "call 4" {
		t.Errorf("got %v, want the answer to the 3rd attempt, the server's 4th call", err)
	}
	s, err := greeter.ListGreetings(ctx, &greeterpb.ListGreetingsRequest{Name: "Ada"})
	if err == nil {
		_, err = s.Recv()
	}
	if fault.Code(err) != codes.PermissionDenied {
		t.Errorf("an RPC that the mesh does not list: %v", err)
	}
}

// Whom the mesh does not let in no proxy tells of: the service does.
func TestProxylessRefusalsAreLogged(t *testing.T) {
	addr := freeAddr(t)
	plane := startPlane(t)
	plane.set(inbound("inbound/"+addr, addr, "/greeter.v1.GreetingService/Greet"))
	for _, r := range outbound("greeter.shop.svc.cluster.local:9090", addr, 2) {
		plane.set(r)
	}
	log := &lineWriter{lines: make(chan string, 100)}
	if l := <-startService(t, addr, plane.bootstrap(), log); l != "ready" {
		t.Fatalf("got %q", l)
	}
	greeter := greeterpb.NewGreetingServiceClient(dialXDS(t, plane.bootstrap(), "greeter.shop.svc.cluster.local:9090"))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := greeter.Greet(ctx, &greeterpb.GreetRequest{Name: "Ada"}); fault.Code(err) != codes.PermissionDenied {
		t.Errorf("an RPC that the mesh does not let anybody call: %v", err)
	}
	for {
		select {
		case l := <-log.lines:
			if strings.Contains(l, `"method":"/greeter.v1.GreetingService/Greet"`) && strings.Contains(l, `"code":"PERMISSION_DENIED"`) {
				return
			}
		case <-ctx.Done():
			t.Fatal("the refused call has no line")
		}
	}
}

// lineWriter passes on what is written, a line at a time as slog does.
type lineWriter struct{ lines chan string }

func (w *lineWriter) Write(p []byte) (int, error) {
	select {
	case w.lines <- string(p):
	default: // nobody looks any more
	}
	return len(p), nil
}

// The first call of a new process is not the one that waits for the control plane.
func TestProxylessAsksForTheWayBeforeTheFirstCall(t *testing.T) {
	plane := startPlane(t)
	dialXDS(t, plane.bootstrap(), "greeter.shop.svc.cluster.local:9090")
	select {
	case <-plane.asked("greeter.shop.svc.cluster.local:9090"):
	case <-time.After(time.Minute):
		t.Error("without a call nobody asks for the way")
	}
}

// freeAddr is an address to listen at: what is told of a server is told of its
// address, before it listens.
func freeAddr(t *testing.T) string {
	t.Helper()
	addrs, err := freeport.Addrs(1)
	if err != nil {
		t.Fatal(err)
	}
	return addrs[0]
}

func dialXDS(t *testing.T, boot []byte, name string) *grpc.ClientConn {
	t.Helper()
	names, err := xds.NewXDSResolverWithConfigForTesting(boot)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := rpc.Dial(rpc.ClientConfig{Name: "greeter", Target: "xds:///" + name, Mesh: rpc.Proxyless, Log: slog.New(slog.DiscardHandler),
		Traces: tracenoop.NewTracerProvider(), Meters: noop.NewMeterProvider()}, grpc.WithResolvers(names))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// startService runs this binary as a service; it must stop without an error.
func startService(t *testing.T, addr string, boot []byte, log io.Writer) <-chan string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "bootstrap.json")
	if err := os.WriteFile(file, boot, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), child+"=1", "MESH=proxyless", "GRPC_XDS_BOOTSTRAP="+file, "GRPC_ADDR="+addr, "METRICS_ADDR=")
	cmd.Stderr = log
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines, read := make(chan string, 10), make(chan struct{})
	go func() {
		for s := bufio.NewScanner(out); s.Scan(); {
			lines <- s.Text()
		}
		close(read)
	}()
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		<-read
		if err := cmd.Wait(); err != nil {
			t.Errorf("the service stopped with %v", err)
		}
	})
	return lines
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

func (p *plane) bootstrap() []byte {
	b, _ := json.Marshal(map[string]any{
		"xds_servers": []any{map[string]any{
			"server_uri": p.addr, "channel_creds": []any{map[string]any{"type": "insecure"}}, "server_features": []string{"xds_v3"},
		}},
		"node":                                   map[string]any{"id": "greeter"},
		"server_listener_resource_name_template": "inbound/%s",
	})
	return b
}

func startPlane(t *testing.T) *plane {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, p := grpc.NewServer(), newPlane(l.Addr().String())
	p.register(s)
	go s.Serve(l)
	t.Cleanup(s.Stop)
	return p
}

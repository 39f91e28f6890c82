package app

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// running is a service under test.
type running struct {
	net    *Memory
	ready  chan struct{}
	done   chan error
	cancel context.CancelFunc
	log    syncBuffer
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// run starts a service whose RPC is what the test makes of it.
func run(t *testing.T, environ map[string]string, start func(ctx context.Context, env *Env) error) *running {
	t.Helper()
	r := &running{net: &Memory{}, ready: make(chan struct{}), done: make(chan error, 1)}
	env := map[string]string{"GRPC_ADDR": "127.0.0.1:0", "DATA_DIR": t.TempDir()}
	for k, v := range environ {
		env[k] = v
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	go func() {
		r.done <- Run(ctx, Service{Name: "test", Start: start}, Options{
			Environ: env, Network: r.net, Log: &r.log, Ready: func() { close(r.ready) },
		})
	}()
	return r
}

func (r *running) stop(t *testing.T) error {
	t.Helper()
	r.cancel()
	select {
	case err := <-r.done:
		return err
	case <-time.After(time.Minute):
		t.Fatal("the service does not stop")
		return nil
	}
}

func (r *running) conn(t *testing.T) *grpc.ClientConn {
	t.Helper()
	target, opts := r.net.Target("test")
	cc, err := grpc.NewClient(target, append(opts, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cc.Close() })
	return cc
}

func (r *running) health(t *testing.T, service string) healthpb.HealthCheckResponse_ServingStatus {
	t.Helper()
	got, err := healthpb.NewHealthClient(r.conn(t)).Check(t.Context(), &healthpb.HealthCheckRequest{Service: service}, grpc.WaitForReady(true))
	if err != nil {
		t.Fatal(err)
	}
	return got.GetStatus()
}

func TestNotReadyUntilItsChecksPass(t *testing.T) {
	var away atomic.Bool
	away.Store(true)
	r := run(t, nil, func(_ context.Context, env *Env) error {
		env.Check("database", func(context.Context) error {
			if away.Load() {
				return errors.New("away")
			}
			return nil
		})
		return nil
	})
	if got := r.health(t, ""); got != healthpb.HealthCheckResponse_NOT_SERVING {
		t.Errorf("without its database it is %v", got)
	}
	if got := r.health(t, Live); got != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("alive, and yet %v", got)
	}
	away.Store(false)
	<-r.ready
	if got := r.health(t, ""); got != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("with its database it is %v", got)
	}
	if err := r.stop(t); err != nil {
		t.Error(err)
	}
}

// slow is an RPC without a contract of its own kind: it is registered as part
// of the health service's namespace, which needs no policy.
func slow(entered chan<- struct{}, leave <-chan struct{}, left func()) *grpc.ServiceDesc {
	return &grpc.ServiceDesc{
		ServiceName: "grpc.health.v1.Slow",
		HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{
			MethodName: "Call",
			Handler: func(_ any, ctx context.Context, dec func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
				if err := dec(&healthpb.HealthCheckRequest{}); err != nil {
					return nil, err
				}
				close(entered)
				select {
				case <-leave:
					left()
				case <-ctx.Done():
					return nil, status.FromContextError(ctx.Err()).Err()
				}
				return &healthpb.HealthCheckResponse{}, nil
			},
		}},
	}
}

func TestShutdownInOrder(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	var mu sync.Mutex
	var order []string
	note := func(s string) { mu.Lock(); defer mu.Unlock(); order = append(order, s) }
	draining := make(chan struct{})
	r := run(t, nil, func(_ context.Context, env *Env) error {
		env.Server.RegisterService(slow(entered, leave, func() { note("call finished") }), struct{}{})
		env.OnClose(func() error { note("closed first opened"); return nil })
		env.OnClose(func() error { note("closed last opened"); return nil })
		env.Go("worker", func(ctx context.Context) error { <-ctx.Done(); note("worker stopped"); return nil })
		go func() { <-env.Draining(); close(draining) }()
		return nil
	})
	<-r.ready
	cc := r.conn(t)
	answered := make(chan error, 1)
	go func() {
		answered <- cc.Invoke(t.Context(), "/grpc.health.v1.Slow/Call", &healthpb.HealthCheckRequest{}, &healthpb.HealthCheckResponse{})
	}()
	<-entered
	r.cancel()
	<-draining
	close(leave)
	if err := <-answered; err != nil {
		t.Errorf("a call under way at the shutdown got %v", err)
	}
	if err := r.stop(t); err != nil {
		t.Error(err)
	}
	if got := strings.Join(order, ", "); got != "call finished, worker stopped, closed last opened, closed first opened" {
		t.Errorf("order: %s", got)
	}
}

func TestShutdownCutsOffWhatDoesNotEnd(t *testing.T) {
	entered := make(chan struct{})
	r := run(t, map[string]string{"SHUTDOWN_TIMEOUT": "50ms"}, func(_ context.Context, env *Env) error {
		env.Server.RegisterService(slow(entered, nil, nil), struct{}{})
		return nil
	})
	<-r.ready
	cc := r.conn(t)
	answered := make(chan error, 1)
	go func() {
		answered <- cc.Invoke(t.Context(), "/grpc.health.v1.Slow/Call", &healthpb.HealthCheckRequest{}, &healthpb.HealthCheckResponse{})
	}()
	<-entered
	if err := r.stop(t); err != nil {
		t.Error(err)
	}
	if err := <-answered; status.Code(err) == codes.OK {
		t.Error("a call that never ends was answered")
	}
}

func TestWorkersAreStartedAgain(t *testing.T) {
	var runs atomic.Int32
	again := make(chan struct{})
	r := run(t, nil, func(_ context.Context, env *Env) error {
		env.Go("flaky", func(ctx context.Context) error {
			if runs.Add(1) == 3 {
				close(again)
				<-ctx.Done()
				return nil
			}
			return errors.New("flaky")
		})
		return nil
	})
	<-again
	if err := r.stop(t); err != nil {
		t.Error(err)
	}
	if n := strings.Count(r.log.String(), "worker failed"); n != 2 {
		t.Errorf("%d failures in the log, want 2:\n%s", n, r.log.String())
	}
}

func TestAnRPCWithoutAPolicyIsNotServed(t *testing.T) {
	r := run(t, nil, func(_ context.Context, env *Env) error {
		env.Server.RegisterService(&grpc.ServiceDesc{
			ServiceName: "no.Policy", HandlerType: (*any)(nil),
			Methods: []grpc.MethodDesc{{MethodName: "Call"}},
		}, struct{}{})
		return nil
	})
	if err := <-r.done; err == nil || !strings.Contains(err.Error(), "/no.Policy/Call has no policy") {
		t.Errorf("got %v", err)
	}
	r.cancel()
}

func TestFailedStartClosesWhatWasOpened(t *testing.T) {
	closed := false
	r := run(t, nil, func(_ context.Context, env *Env) error {
		env.OnClose(func() error { closed = true; return nil })
		return errors.New("no such table")
	})
	if err := <-r.done; err == nil || !strings.Contains(err.Error(), "no such table") || !closed {
		t.Errorf("got %v, closed %v", err, closed)
	}
	r.cancel()
}

func TestADatabaseFileIsForOneProcess(t *testing.T) {
	dir := map[string]string{"DATA_DIR": t.TempDir()}
	open := func(ctx context.Context, env *Env) error {
		d, err := env.DB(ctx, fstest.MapFS{"schema/1_t.sql": {Data: []byte("-- +goose Up\nCREATE TABLE t (id TEXT);")}})
		if err == nil && !d.Exclusive() {
			t.Error("the database is not known to be ours")
		}
		return err
	}
	first := run(t, dir, open)
	<-first.ready
	second := run(t, dir, open)
	if err := <-second.done; err == nil || !strings.Contains(err.Error(), "in use by another process") {
		t.Errorf("the second got %v", err)
	}
	second.cancel()
	if err := first.stop(t); err != nil {
		t.Error(err)
	}
	third := run(t, dir, open)
	<-third.ready
	if err := third.stop(t); err != nil {
		t.Error(err)
	}
}

func TestAPortInUseIsNamed(t *testing.T) {
	r := run(t, nil, func(_ context.Context, env *Env) error {
		env.ServeHTTP("127.0.0.1:http-no-such-port", http.NotFoundHandler())
		return nil
	})
	if err := <-r.done; err == nil || !strings.Contains(err.Error(), "http-no-such-port") {
		t.Errorf("got %v", err)
	}
	r.cancel()
}

func TestOpsHandler(t *testing.T) {
	addr := make(chan string, 1)
	r := run(t, nil, func(_ context.Context, env *Env) error {
		srv := &http.Server{Handler: env.opsHandler()}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		addr <- l.Addr().String()
		go srv.Serve(l)
		env.OnClose(srv.Close)
		return nil
	})
	base := "http://" + <-addr
	<-r.ready
	for path, want := range map[string]string{"/healthz": "ok", "/readyz": "ok", "/metrics": "go_goroutines"} {
		resp, err := http.Get(base + path)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK || !strings.Contains(string(body), want) {
			t.Errorf("%s: %s %.100s", path, resp.Status, body)
		}
	}
	http.DefaultClient.CloseIdleConnections()
	if err := r.stop(t); err != nil {
		t.Error(err)
	}
}

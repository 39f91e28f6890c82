package app

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	greeterpb "github.com/meshmart/meshmart/proto/greeter/v1"
	"github.com/meshmart/meshmart/services/internal/app/otlptest"
	"github.com/meshmart/meshmart/services/internal/rpc"
)

// A call may cost this many times the CPU time of one on a bare gRPC server, with
// one trace in a hundred. It is far from what is measured: a machine of tests is
// not a quiet one.
const maxCost = 4

// TestCostOfTelemetry compares calls on a bare gRPC server with calls that are
// traced, measured and logged, all in turn.
func TestCostOfTelemetry(t *testing.T) {
	collector, batches := otlptest.Discarding(t)
	all := map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": collector, "OTEL_METRICS_EXPORTER": "prometheus,otlp", "OTEL_LOGS_EXPORTER": "otlp"}
	on := func(ratio string) map[string]string {
		return map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": collector, "TRACE_RATIO": ratio}
	}
	all["TRACE_RATIO"] = "0.01"
	every := map[string]string{}
	for k, v := range all {
		every[k] = v
	}
	every["TRACE_RATIO"] = "1"
	c := &costs{names: []string{"bare", "no telemetry", "0 %", "1 %", "100 %", "1 % and logs and metrics by OTLP", "100 % and logs and metrics by OTLP"}}
	c.clients = []*client{bare(t), silent(t), dialed(t, on("0"), io.Discard), dialed(t, on("0.01"), io.Discard), dialed(t, on("1"), io.Discard),
		dialed(t, all, io.Discard), dialed(t, every, io.Discard)}
	c.measure(t, 7, 600)
	t.Logf("figure: CPU time of a unary call, client and server, as a multiple of bare gRPC's %.0f us: %s", c.median(0)*1e6, c)
	t.Logf("figure: telemetry adds to a call without: %s", c.added())
	if batches.Load() == 0 {
		t.Error("nothing was sent")
	}
	if got := c.ratio(3); got > maxCost {
		t.Errorf("a call with one trace in a hundred costs %.1f bare ones", got)
	}
}

func BenchmarkCall(b *testing.B) {
	collector, _ := otlptest.Discarding(b)
	for _, v := range []struct {
		name string
		with func() *client
	}{
		{"bare", func() *client { return bare(b) }},
		{"off", func() *client { return silent(b) }},
		{"0", func() *client {
			return dialed(b, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": collector, "TRACE_RATIO": "0"}, io.Discard)
		}},
		{"1", func() *client {
			return dialed(b, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": collector, "TRACE_RATIO": "0.01"}, io.Discard)
		}},
		{"100", func() *client {
			return dialed(b, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": collector, "TRACE_RATIO": "1"}, io.Discard)
		}},
	} {
		b.Run(v.name, func(b *testing.B) {
			c := v.with()
			b.ReportAllocs()
			b.ResetTimer()
			c.calls(b, b.N)
		})
	}
}

// costs are the CPU times of calls on several clients, measured in turn.
type costs struct {
	names   []string
	clients []*client
	times   [][]float64 // seconds per call, by client and round
}

func (c *costs) measure(t *testing.T, rounds, calls int) {
	c.times = make([][]float64, len(c.clients))
	for i := range rounds + 1 {
		for j, cl := range c.clients {
			before := cpu(t)
			cl.calls(t, calls)
			if i > 0 { // the first warms up
				c.times[j] = append(c.times[j], (cpu(t)-before).Seconds()/float64(calls))
			}
		}
	}
}

func (c *costs) median(i int) float64 {
	s := slices.Sorted(slices.Values(c.times[i]))
	return s[len(s)/2]
}

func (c *costs) ratio(i int) float64 { return c.median(i) / c.median(0) }

func (c *costs) String() string {
	var parts []string
	for i := 1; i < len(c.names); i++ {
		parts = append(parts, fmt.Sprintf("%s %.2f", c.names[i], c.ratio(i)))
	}
	return strings.Join(parts, ", ")
}

func (c *costs) added() string {
	var parts []string
	for i := 2; i < len(c.names); i++ {
		parts = append(parts, fmt.Sprintf("%s %.0f us", c.names[i], (c.median(i)-c.median(1))*1e6))
	}
	return strings.Join(parts, ", ")
}

// cpu is the CPU time of the process so far.
func cpu(t testing.TB) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// client makes the same call again and again.
type client struct {
	greeterpb.GreetingServiceClient
}

// callers is how many calls are under way at once.
const callers = 16

func (c *client) calls(t testing.TB, n int) {
	t.Helper()
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			for j := i; j < n; j += callers {
				if err := c.call(t.Context()); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// call makes a call that succeeds. On a busy machine the second that its contract
// allows may be over before anybody had a turn: then it is made again.
func (c *client) call(ctx context.Context) error {
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		_, err := c.Greet(ctx, &greeterpb.GreetRequest{Name: "Ada Lovelace", Language: "en"})
		late := status.Code(err) == codes.DeadlineExceeded || status.Code(err) == codes.Unavailable
		if !late || time.Now().After(end) {
			return err
		}
	}
}

// answerer answers with what is as long as a product.
type answerer struct {
	greeterpb.UnimplementedGreetingServiceServer
}

func (answerer) Greet(context.Context, *greeterpb.GreetRequest) (*greeterpb.GreetResponse, error) {
	return &greeterpb.GreetResponse{Greeting: &greeterpb.Greeting{
		Message: strings.Repeat("Hello, Ada! ", 22), Language: "en", Number: 1, CreateTime: timestamppb.Now(),
	}}, nil
}

// bare is a client of a gRPC server without anything else.
func bare(t testing.TB) *client {
	t.Helper()
	s := grpc.NewServer()
	greeterpb.RegisterGreetingServiceServer(s, answerer{})
	l := serveOn(t, s)
	cc, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cc.Close() })
	return &client{greeterpb.NewGreetingServiceClient(cc)}
}

// silent is a client and a server of the runtime's that tell nothing.
func silent(t testing.TB) *client {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	s, err := rpc.NewServer(rpc.ServerConfig{Log: log, Clock: time.Now, Insider: func(net.Addr) bool { return true }})
	if err != nil {
		t.Fatal(err)
	}
	greeterpb.RegisterGreetingServiceServer(s, answerer{})
	l := serveOn(t, s)
	cc, err := rpc.Dial(rpc.ClientConfig{Name: "test", Target: l.Addr().String(), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cc.Close() })
	return &client{greeterpb.NewGreetingServiceClient(cc)}
}

func serveOn(t testing.TB, s interface {
	Serve(net.Listener) error
	Stop()
}) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { s.Serve(l) })
	t.Cleanup(func() { s.Stop(); wg.Wait() })
	return l
}

// dialed is a client of a service, which calls it as services call each other.
func dialed(t testing.TB, environ map[string]string, log io.Writer) *client {
	t.Helper()
	c, stop := start(t, environ, log)
	t.Cleanup(func() { stop() })
	return c
}

// start is dialed for a service that the test stops. It returns how long that took.
func start(t testing.TB, environ map[string]string, log io.Writer) (c *client, stop func() time.Duration) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	env := map[string]string{"GRPC_ADDR": addr, "TEST_ADDR": addr, "DATA_DIR": t.TempDir()}
	for k, v := range environ {
		env[k] = v
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	svc := Service{Name: "test", Calls: []string{"test"}, Start: func(_ context.Context, e *Env) error {
		greeterpb.RegisterGreetingServiceServer(e.Server, answerer{})
		cc, err := e.Dial("test")
		c = &client{greeterpb.NewGreetingServiceClient(cc)}
		return err
	}}
	go func() { done <- Run(ctx, svc, Options{Environ: env, Log: log, Ready: func() { close(ready) }}) }()
	select {
	case <-ready:
	case err := <-done:
		t.Fatal(err)
	}
	return c, sync.OnceValue(func() time.Duration {
		began := time.Now()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		return time.Since(began)
	})
}

// notable keeps the lines of a log that are not of calls.
type notable struct{ syncBuffer }

func (n *notable) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte(`"msg":"call"`)) {
		return len(p), nil
	}
	return n.syncBuffer.Write(p)
}

package rpc

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"go.opentelemetry.io/otel/metric/noop"
	tracenoop "go.opentelemetry.io/otel/trace/noop"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	greeterpb "github.com/meshmart/meshmart/proto/greeter/v1"
	"github.com/meshmart/meshmart/services/internal/db"
	"github.com/meshmart/meshmart/services/internal/fault"
)

// hop is a server with one handler and a client of it, whose bytes are counted.
type hop struct {
	greeterpb.UnimplementedGreetingServiceServer
	handle func(ctx context.Context) error
	server *Server
	lis    *bufconn.Listener
	conn   *grpc.ClientConn
	calls  atomic.Int64 // that came to the handler
	bytes  atomic.Int64 // that the client has sent
}

func (h *hop) Greet(ctx context.Context, _ *greeterpb.GreetRequest) (*greeterpb.GreetResponse, error) {
	h.calls.Add(1)
	return &greeterpb.GreetResponse{}, h.handle(ctx)
}

func (h *hop) greet(ctx context.Context) error {
	_, err := greeterpb.NewGreetingServiceClient(h.conn).Greet(ctx, &greeterpb.GreetRequest{Name: "Ada"})
	return err
}

func (h *hop) dial(ctx context.Context, _ string) (net.Conn, error) {
	c, err := h.lis.DialContext(ctx)
	return counted{c, &h.bytes}, err
}

type counted struct {
	net.Conn
	bytes *atomic.Int64
}

func (c counted) Write(p []byte) (int, error) {
	c.bytes.Add(int64(len(p)))
	return c.Conn.Write(p)
}

func newHop(t *testing.T, handle func(ctx context.Context) error) *hop {
	t.Helper()
	log, traces, meters := slog.New(slog.DiscardHandler), tracenoop.NewTracerProvider(), noop.NewMeterProvider()
	h := &hop{handle: handle, lis: bufconn.Listen(1 << 16)}
	var err error
	h.server, err = NewServer(ServerConfig{Log: log, Traces: traces, Meters: meters, Clock: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	greeterpb.RegisterGreetingServiceServer(h.server, h)
	go h.server.Serve(h.lis)
	t.Cleanup(h.server.Stop)
	h.conn, err = Dial(ClientConfig{Name: "hop", Target: "passthrough:///hop", Log: log, Traces: traces, Meters: meters}, grpc.WithContextDialer(h.dial))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.conn.Close() })
	return h
}

// The last of a chain answers in time for all before it, and they for their
// callers: what each has left is less than what its caller has, by at least what
// that keeps for itself.
func TestEachHopGetsLessThanItsCaller(t *testing.T) {
	var left [3]atomic.Int64 // the last one's call may be given up before its handler is done
	note := func(i int, ctx context.Context) {
		end, _ := ctx.Deadline()
		left[i].Store(int64(time.Until(end)))
	}
	last := newHop(t, func(ctx context.Context) error {
		note(2, ctx)
		<-ctx.Done() // it does not answer in its time
		return ctx.Err()
	})
	middle := newHop(t, func(ctx context.Context) error { note(1, ctx); return last.greet(ctx) })
	first := newHop(t, func(ctx context.Context) error { note(0, ctx); return middle.greet(ctx) })
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	err := first.greet(ctx)
	if status.Code(err) != codes.DeadlineExceeded || ctx.Err() != nil {
		t.Errorf("got %v; was there time left for the caller: %v", err, ctx.Err() == nil)
	}
	before := 500 * time.Millisecond
	for i := range left {
		l := time.Duration(left[i].Load())
		if l <= 0 || l > before-minShave {
			t.Errorf("hop %d has %v left, its caller had %v", i, l, before)
		}
		before = l
	}
}

func TestSpentBudgetIsRefusedBeforeAnythingIsSent(t *testing.T) {
	h := newHop(t, func(context.Context) error { return nil })
	if err := h.greet(t.Context()); err != nil { // connected
		t.Fatal(err)
	}
	quiet(h)
	sent := h.bytes.Load()
	for _, left := range []time.Duration{0, minShave - time.Millisecond} { // the second is too short to answer in
		ctx, cancel := context.WithTimeout(t.Context(), left)
		if err := h.greet(ctx); status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("%v: got %v, want DEADLINE_EXCEEDED", left, err)
		}
		cancel()
	}
	quiet(h)
	if got := h.bytes.Load(); got != sent || h.calls.Load() != 1 {
		t.Errorf("%d bytes were sent, and %d calls came", got-sent, h.calls.Load()-1)
	}
}

// quiet returns when the client has nothing more to send of what was before.
func quiet(h *hop) {
	for n := int64(-1); n != h.bytes.Load(); time.Sleep(20 * time.Millisecond) {
		n = h.bytes.Load()
	}
}

// A request can arrive too late, whoever sent it: be it that its time is up when
// it is read, or while it waits for its turn.
func TestSpentBudgetIsRefusedOnArrival(t *testing.T) {
	h := newHop(t, func(context.Context) error { return nil })
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	tr := &http.Transport{Protocols: protocols, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return h.lis.DialContext(ctx) }}
	defer tr.CloseIdleConnections()
	ask := func(timeout string) string {
		body := []byte{0, 0, 0, 0, 5, 10, 3, 'A', 'd', 'a'} // GreetRequest{Name: "Ada"}
		req, err := http.NewRequestWithContext(t.Context(), "POST", "http://hop/greeter.v1.GreetingService/Greet", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header = http.Header{"Content-Type": {"application/grpc"}, "Te": {"trailers"}, "Grpc-Timeout": {timeout}}
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if _, err := new(bytes.Buffer).ReadFrom(resp.Body); err != nil {
			t.Fatal(err)
		}
		return resp.Trailer.Get("Grpc-Status") + resp.Header.Get("Grpc-Status")
	}
	if got := ask("10S"); got != "0" || h.calls.Load() != 1 {
		t.Fatalf("with time: status %s, %d calls", got, h.calls.Load())
	}
	if got := ask("1n"); got != "4" || h.calls.Load() != 1 {
		t.Errorf("without time: status %s, want 4 (DEADLINE_EXCEEDED); the handler ran %d times", got, h.calls.Load()-1)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	greet := h.server.unary(h.server.routes[greeterpb.GreetingService_Greet_FullMethodName], greeterpb.GreetingService_ServiceDesc.Methods[0].Handler)
	_, err := greet(mustNotRun{t: t}, ctx, func(any) error { return nil }, nil)
	if status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("while it waited: got %v", err)
	}
}

type mustNotRun struct {
	greeterpb.UnimplementedGreetingServiceServer
	t *testing.T
}

func (m mustNotRun) Greet(context.Context, *greeterpb.GreetRequest) (*greeterpb.GreetResponse, error) {
	m.t.Error("the handler ran")
	return nil, nil
}

// A client that leaves stops what only it waits for, at every hop: here a query
// that would never end. What is to go on without it is detached, and goes on.
func TestAClientThatLeavesStopsTheWorkForItAlone(t *testing.T) {
	d := notes(t)
	querying, stopped, written := make(chan struct{}), make(chan error, 1), make(chan error, 1)
	last := newHop(t, func(ctx context.Context) error {
		go func() {
			<-ctx.Done()
			written <- write(context.WithoutCancel(ctx), d)
		}()
		close(querying)
		err := d.Row(ctx, `SELECT MAX(n) FROM (WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT (n + 1) % 1000 FROM c) SELECT n FROM c) AS endless`).Scan(new(int))
		stopped <- err
		return err
	})
	first := newHop(t, last.greet)
	ctx, cancel := context.WithCancel(t.Context())
	answered := make(chan error, 1)
	go func() { answered <- first.greet(ctx) }()
	<-querying
	cancel()
	if err := <-answered; status.Code(err) != codes.Canceled || fault.As(err) != nil {
		t.Errorf("the client got %v", err)
	}
	if err := <-stopped; !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the query ended with %v", err)
	} else if errors.Is(err, context.DeadlineExceeded) {
		t.Error("the query went on until the time of the call was up")
	}
	if err := <-written; err != nil {
		t.Errorf("what was to go on ended with %v", err)
	}
	if n := count(t, d); n != 1 {
		t.Errorf("%d rows were written, want 1", n)
	}
}

func count(t *testing.T, d *db.DB) (n int) {
	t.Helper()
	if err := d.Row(t.Context(), `SELECT COUNT(*) FROM notes`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

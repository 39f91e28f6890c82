package rpc

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.opentelemetry.io/otel/metric/noop"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"

	greeterpb "github.com/meshmart/meshmart/proto/greeter/v1"
	inventorypb "github.com/meshmart/meshmart/proto/inventory/v1"
	userpb "github.com/meshmart/meshmart/proto/user/v1"
	"github.com/meshmart/meshmart/services/internal/auth"
	"github.com/meshmart/meshmart/services/internal/breaker"
	"github.com/meshmart/meshmart/services/internal/db"
	"github.com/meshmart/meshmart/services/internal/fault"
)

// world is a server with fakes of three contracts, and a client of it.
type world struct {
	conn    *grpc.ClientConn
	lis     *bufconn.Listener
	traces  *sdktrace.TracerProvider
	spans   *tracetest.InMemoryExporter
	key     *ecdsa.PrivateKey
	outside bool                   // calls come from where no service is
	later   atomic.Int64           // how much time has passed for the breaker; else it stands still
	before  atomic.Pointer[func()] // what happens before each call; nil: nothing
	greet   func(context.Context, *greeterpb.GreetRequest) (*greeterpb.GreetResponse, error)
	set     func(context.Context, *inventorypb.SetStockRequest) (*inventorypb.SetStockResponse, error)
	record  func(context.Context) error // how RecordGreetings ends; nil: with the count

	mu  sync.Mutex
	log bytes.Buffer
}

func (w *world) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.Write(p)
}

func (w *world) lines() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Split(strings.TrimSpace(w.log.String()), "\n")
}

type greeter struct {
	greeterpb.UnimplementedGreetingServiceServer
	w *world
}

func (g greeter) Greet(ctx context.Context, r *greeterpb.GreetRequest) (*greeterpb.GreetResponse, error) {
	return g.w.greet(ctx, r)
}

func (g greeter) RecordGreetings(s grpc.ClientStreamingServer[greeterpb.RecordGreetingsRequest, greeterpb.RecordGreetingsResponse]) error {
	if g.w.record != nil {
		return g.w.record(s.Context())
	}
	n := int64(0)
	for {
		if _, err := s.Recv(); err != nil {
			if n > 0 && !isFault(err) {
				return s.SendAndClose(&greeterpb.RecordGreetingsResponse{Count: n})
			}
			return err
		}
		n++
	}
}

func isFault(err error) bool { return fault.As(err) != nil }

type stock struct {
	inventorypb.UnimplementedInventoryServiceServer
	w *world
}

func (s stock) SetStock(ctx context.Context, r *inventorypb.SetStockRequest) (*inventorypb.SetStockResponse, error) {
	return s.w.set(ctx, r)
}

func (s stock) Release(context.Context, *inventorypb.ReleaseRequest) (*inventorypb.ReleaseResponse, error) {
	return &inventorypb.ReleaseResponse{}, nil
}

type login struct {
	userpb.UnimplementedAuthServiceServer
}

func (login) Login(context.Context, *userpb.LoginRequest) (*userpb.LoginResponse, error) {
	return &userpb.LoginResponse{}, nil
}

func newWorld(t *testing.T) *world {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{key: key, spans: tracetest.NewInMemoryExporter()}
	w.greet = func(context.Context, *greeterpb.GreetRequest) (*greeterpb.GreetResponse, error) {
		return &greeterpb.GreetResponse{}, nil
	}
	w.set = func(context.Context, *inventorypb.SetStockRequest) (*inventorypb.SetStockResponse, error) {
		return &inventorypb.SetStockResponse{}, nil
	}
	traces := sdktrace.NewTracerProvider(sdktrace.WithSyncer(w.spans))
	log := slog.New(slog.NewJSONHandler(w, nil))
	s, err := NewServer(ServerConfig{Log: log, Traces: traces, Meters: noop.NewMeterProvider(), Clock: time.Now,
		Insider: func(net.Addr) bool { return !w.outside }, Outage: db.IsUnavailable})
	if err != nil {
		t.Fatal(err)
	}
	greeterpb.RegisterGreetingServiceServer(s, greeter{w: w})
	inventorypb.RegisterInventoryServiceServer(s, stock{w: w})
	userpb.RegisterAuthServiceServer(s, login{})
	healthpb.RegisterHealthServer(s, health.NewServer())
	s.Verify(auth.NewVerifier(auth.KeySet{"k": &key.PublicKey}, nil, time.Now))

	w.lis, w.traces = bufconn.Listen(1<<16), traces
	go s.Serve(w.lis)
	t.Cleanup(s.Stop)
	dialer := grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return w.lis.DialContext(ctx) })
	w.conn, err = Dial(ClientConfig{Name: "all", Target: "passthrough:///all", Log: log, Traces: traces, Meters: noop.NewMeterProvider(),
		Breaker: w.breaker, Point: w.point}, dialer)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.conn.Close() })
	return w
}

func (w *world) as(t *testing.T, roles ...string) context.Context {
	t.Helper()
	token, err := auth.Sign(w.key, "k", auth.Claims{Subject: "u1", Session: "s1", Roles: roles, Issued: time.Now(), Expires: time.Now().Add(time.Minute)})
	if err != nil {
		t.Fatal(err)
	}
	return metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+token)
}

func (w *world) call(ctx context.Context) error {
	_, err := greeterpb.NewGreetingServiceClient(w.conn).Greet(ctx, &greeterpb.GreetRequest{Name: "Ada"})
	return err
}

const productID = "0198c0de-0000-7000-8000-000000000001"

func TestFaultArrivesWhole(t *testing.T) {
	w := newWorld(t)
	sent := fault.Refused("OUT_OF_STOCK", "only %d left", 2).With("available", "2")
	w.greet = func(context.Context, *greeterpb.GreetRequest) (*greeterpb.GreetResponse, error) { return nil, sent }
	got := fault.As(w.call(t.Context()))
	if got == nil || got.Code() != codes.FailedPrecondition || got.Reason() != "OUT_OF_STOCK" || got.Error() != "only 2 left" {
		t.Errorf("got %+v, want %+v", got, sent)
	}
}

func TestCausesStayInside(t *testing.T) {
	w := newWorld(t)
	tests := map[string]func() error{
		"an error": func() error { return errors.New("secret of the driver") },
		"a panic":  func() error { panic("secret of the driver") },
	}
	for name, fail := range tests {
		w.greet = func(context.Context, *greeterpb.GreetRequest) (*greeterpb.GreetResponse, error) { return nil, fail() }
		err := w.call(t.Context())
		if status.Code(err) != codes.Internal || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: caller got %v", name, err)
		}
		if all := strings.Join(w.lines(), "\n"); !strings.Contains(all, "secret of the driver") {
			t.Errorf("%s: the cause is not in the log:\n%s", name, all)
		}
	}
}

func TestBadRequestNamesEveryField(t *testing.T) {
	w := newWorld(t)
	_, err := inventorypb.NewInventoryServiceClient(w.conn).SetStock(w.as(t, auth.RoleAdmin),
		&inventorypb.SetStockRequest{ProductId: "7", Available: proto.Int32(-1), RequestId: "x"})
	f := fault.As(err)
	if f == nil || f.Code() != codes.InvalidArgument {
		t.Fatalf("got %v, want INVALID_ARGUMENT", err)
	}
	var fields []string
	for _, v := range f.Fields() {
		fields = append(fields, v.Field)
	}
	if got := strings.Join(fields, " "); got != "product_id available request_id" {
		t.Errorf("fields %q", got)
	}
}

func TestStreamedMessagesAreValidated(t *testing.T) {
	w := newWorld(t)
	s, err := greeterpb.NewGreetingServiceClient(w.conn).RecordGreetings(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"Ada", ""} {
		if err := s.Send(&greeterpb.RecordGreetingsRequest{Name: name}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.CloseAndRecv(); fault.Code(err) != codes.InvalidArgument {
		t.Errorf("a stream with an empty name ended with %v", err)
	}
}

func TestAccessIsTheContracts(t *testing.T) {
	w := newWorld(t)
	bad := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer forged")
	set := func(ctx context.Context) error {
		_, err := inventorypb.NewInventoryServiceClient(w.conn).SetStock(ctx, &inventorypb.SetStockRequest{ProductId: productID, Available: proto.Int32(1)})
		return err
	}
	release := func(ctx context.Context) error {
		_, err := inventorypb.NewInventoryServiceClient(w.conn).Release(ctx, &inventorypb.ReleaseRequest{OrderId: productID})
		return err
	}
	tests := []struct {
		name string
		call func(context.Context) error
		ctx  context.Context
		want codes.Code
	}{
		{"public, nobody", w.call, t.Context(), codes.OK},
		{"public, a user", w.call, w.as(t, auth.RoleUser), codes.OK},
		{"public, a forged token", w.call, bad, codes.Unauthenticated},
		{"admin, nobody", set, t.Context(), codes.Unauthenticated},
		{"admin, a user", set, w.as(t, auth.RoleUser), codes.PermissionDenied},
		{"admin, an admin", set, w.as(t, auth.RoleAdmin), codes.OK},
		{"admin, a forged token", set, bad, codes.Unauthenticated},
		{"internal, nobody", release, t.Context(), codes.OK},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := fault.Code(tt.call(tt.ctx)); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestInternalMethodsAreForInsiders(t *testing.T) {
	w := newWorld(t)
	w.outside = true
	_, err := inventorypb.NewInventoryServiceClient(w.conn).Release(w.as(t, auth.RoleAdmin), &inventorypb.ReleaseRequest{OrderId: productID})
	if fault.Code(err) != codes.PermissionDenied {
		t.Errorf("an administrator from outside got %v", err)
	}
	if err := w.call(t.Context()); err != nil {
		t.Errorf("a public method from outside: %v", err)
	}
}

func TestRateIsTheContractsAndPerCaller(t *testing.T) {
	w := newWorld(t)
	auth := userpb.NewAuthServiceClient(w.conn)
	from := func(address string) error {
		ctx := metadata.AppendToOutgoingContext(t.Context(), "x-forwarded-for", "203.0.113.9, "+address)
		_, err := auth.Login(ctx, &userpb.LoginRequest{Email: "a@example.com", Password: "p"})
		return err
	}
	var err error
	calls := 0
	for ; err == nil && calls < 5000; calls++ {
		err = from("192.0.2.1")
	}
	f := fault.As(err)
	if f == nil || f.Code() != codes.ResourceExhausted || f.RetryAfter() <= 0 {
		t.Fatalf("call %d: got %v, want RESOURCE_EXHAUSTED with a delay", calls, err)
	}
	if calls <= 200 {
		t.Errorf("refused after %d calls, the burst is 200", calls)
	}
	if err := from("192.0.2.2"); err != nil {
		t.Errorf("another caller is refused too: %v", err)
	}
}

func TestDeadlineShrinksAtEachHop(t *testing.T) {
	w := newWorld(t)
	var left time.Duration
	w.greet = func(ctx context.Context, _ *greeterpb.GreetRequest) (*greeterpb.GreetResponse, error) {
		end, ok := ctx.Deadline()
		if !ok {
			t.Error("a call without a deadline")
		}
		left = time.Until(end)
		return &greeterpb.GreetResponse{}, nil
	}
	if err := w.call(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left <= 0 || left > time.Second {
		t.Errorf("without a deadline the callee has %v, the contract says 1s", left)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if err := w.call(ctx); err != nil {
		t.Fatal(err)
	}
	if left <= 0 || left > 495*time.Millisecond {
		t.Errorf("of 500 ms the callee has %v", left)
	}
}

func TestBreakerOpensOnOutagesOnly(t *testing.T) {
	tests := []struct {
		name  string
		reply error
		opens bool
	}{
		{"bug", errors.New("boom"), true},
		{"refusal", fault.NotFound("nothing here"), false},
		{"overload", fault.Exhausted(time.Second, "slow down"), false},
		{"outage of the service", fault.Unavailable(time.Second, "the processor is away"), true},
		{"outage of what the service calls", status.Error(codes.Unavailable, "away"), false},
		{"what the service calls is too slow", status.Error(codes.DeadlineExceeded, "slow"), false},
		{"outage elsewhere", fault.Out("PAYMENT_UNAVAILABLE", time.Second, "payments can't be made"), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			calls := 0
			w.greet = func(context.Context, *greeterpb.GreetRequest) (*greeterpb.GreetResponse, error) {
				calls++
				return nil, tt.reply
			}
			for range 2 * breaker.Row {
				w.call(t.Context())
			}
			want := 2 * breaker.Row
			if tt.opens {
				want = breaker.Row
			}
			if calls != want {
				t.Errorf("%d of %d calls reached the target, want %d", calls, 2*breaker.Row, want)
			}
		})
	}
}

func TestAbandonedCallsDoNotOpenTheBreaker(t *testing.T) {
	w := newWorld(t)
	for range 2 * breaker.Row {
		ctx, cancel := context.WithCancel(t.Context())
		w.greet = func(ctx context.Context, _ *greeterpb.GreetRequest) (*greeterpb.GreetResponse, error) {
			cancel()
			<-ctx.Done()
			return nil, ctx.Err()
		}
		w.call(ctx)
	}
	w.greet = func(context.Context, *greeterpb.GreetRequest) (*greeterpb.GreetResponse, error) {
		return &greeterpb.GreetResponse{}, nil
	}
	if err := w.call(t.Context()); err != nil {
		t.Errorf("after calls that their caller gave up: %v", err)
	}
}

func TestClientFillsInRequestID(t *testing.T) {
	w := newWorld(t)
	var got []string
	w.set = func(_ context.Context, r *inventorypb.SetStockRequest) (*inventorypb.SetStockResponse, error) {
		got = append(got, r.GetRequestId())
		return &inventorypb.SetStockResponse{}, nil
	}
	req := &inventorypb.SetStockRequest{ProductId: productID, Available: proto.Int32(1)}
	own := &inventorypb.SetStockRequest{ProductId: productID, Available: proto.Int32(1), RequestId: "0198c0de-0000-4000-8000-000000000002"}
	for _, r := range []*inventorypb.SetStockRequest{req, req, own} {
		if _, err := inventorypb.NewInventoryServiceClient(w.conn).SetStock(w.as(t, auth.RoleAdmin), r); err != nil {
			t.Fatal(err)
		}
	}
	if len(got[0]) != 36 || got[0] == got[1] || got[2] != own.GetRequestId() {
		t.Errorf("request ids %q", got)
	}
	if req.GetRequestId() != "" {
		t.Error("the caller's message was changed")
	}
}

func TestOneLogLinePerCallWithoutSecrets(t *testing.T) {
	w := newWorld(t)
	_, err := userpb.NewAuthServiceClient(w.conn).Login(t.Context(), &userpb.LoginRequest{Email: "a@example.com", Password: "hunter2hunter2"})
	if err != nil {
		t.Fatal(err)
	}
	lines := w.lines()
	if len(lines) != 1 || strings.Contains(lines[0], "hunter2") {
		t.Fatalf("log:\n%s", strings.Join(lines, "\n"))
	}
	var line struct {
		Msg, Method, Code string
		Us                int64
	}
	if err := json.Unmarshal([]byte(lines[0]), &line); err != nil {
		t.Fatal(err)
	}
	if line.Msg != "call" || line.Method != "/user.v1.AuthService/Login" || line.Code != "OK" || line.Us <= 0 {
		t.Errorf("line %+v", line)
	}
}

func TestHealthChecksLeaveNoTrace(t *testing.T) {
	w := newWorld(t)
	if _, err := healthpb.NewHealthClient(w.conn).Check(t.Context(), &healthpb.HealthCheckRequest{}); err != nil {
		t.Fatal(err)
	}
	if n := len(w.spans.GetSpans()); n != 0 {
		t.Errorf("%d spans of a health check", n)
	}
	if lines := w.lines(); lines[0] != "" {
		t.Errorf("log of a health check: %q", lines)
	}
	if err := w.call(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := len(w.spans.GetSpans()); n != 2 {
		t.Errorf("%d spans of a call, want the client's and the server's", n)
	}
}

func TestCodeNamesAreTheSpecifications(t *testing.T) {
	for c, want := range map[codes.Code]string{
		codes.OK: "OK", codes.Canceled: "CANCELLED", codes.NotFound: "NOT_FOUND",
		codes.DeadlineExceeded: "DEADLINE_EXCEEDED", codes.Internal: "INTERNAL",
	} {
		if got := codeName(c); got != want {
			t.Errorf("codeName(%d) = %q, want %q", c, got, want)
		}
	}
}

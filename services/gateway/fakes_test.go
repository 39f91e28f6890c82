package gateway

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"google.golang.org/genproto/googleapis/type/money"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	greeterpb "github.com/meshmart/meshmart/proto/greeter/v1"
	inventorypb "github.com/meshmart/meshmart/proto/inventory/v1"
	orderpb "github.com/meshmart/meshmart/proto/order/v1"
	paymentpb "github.com/meshmart/meshmart/proto/payment/v1"
	productpb "github.com/meshmart/meshmart/proto/product/v1"
	userpb "github.com/meshmart/meshmart/proto/user/v1"
	"github.com/meshmart/meshmart/services/internal/app/apptest"
	"github.com/meshmart/meshmart/services/internal/fault"
)

// backend answers in the place of every service. It remembers what it was
// asked; fail, if set, answers instead.
type backend struct {
	productpb.UnimplementedProductServiceServer
	userpb.UnimplementedUserServiceServer
	userpb.UnimplementedAuthServiceServer
	inventorypb.UnimplementedInventoryServiceServer
	orderpb.UnimplementedOrderServiceServer
	paymentpb.UnimplementedPaymentServiceServer
	greeterpb.UnimplementedGreetingServiceServer

	mu      sync.Mutex
	asked   proto.Message
	meta    metadata.MD
	answer  func(ctx context.Context) error // nil: nil
	changes chan *orderpb.WatchOrderResponse
}

// hear remembers a request and returns what it is to be answered with.
func (b *backend) hear(ctx context.Context, m proto.Message) error {
	b.mu.Lock()
	b.asked = m
	b.meta, _ = metadata.FromIncomingContext(ctx)
	answer := b.answer
	b.mu.Unlock()
	if answer == nil {
		return nil
	}
	err := answer(ctx)
	if f := fault.As(err); f != nil {
		return f.GRPCStatus().Err()
	}
	return err
}

func (b *backend) heard() (proto.Message, metadata.MD) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.asked, b.meta
}

// refuse makes every later request fail with err.
func (b *backend) refuse(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.answer = func(context.Context) error { return err }
}

var aProduct = &productpb.Product{
	Id: "0192a000-0000-7000-8000-000000000001", Sku: "MUG-1", Name: "Mug", Category: "kitchen",
	Price: &money.Money{CurrencyCode: "EUR", Units: 12, Nanos: 500_000_000},
}

func (b *backend) GetProduct(ctx context.Context, r *productpb.GetProductRequest) (*productpb.GetProductResponse, error) {
	return &productpb.GetProductResponse{Product: aProduct}, b.hear(ctx, r)
}

func (b *backend) ListProducts(ctx context.Context, r *productpb.ListProductsRequest) (*productpb.ListProductsResponse, error) {
	return &productpb.ListProductsResponse{Products: []*productpb.Product{aProduct}, TotalSize: 1}, b.hear(ctx, r)
}

func (b *backend) UpdateProduct(ctx context.Context, r *productpb.UpdateProductRequest) (*productpb.UpdateProductResponse, error) {
	return &productpb.UpdateProductResponse{Product: aProduct}, b.hear(ctx, r)
}

func (b *backend) ImportProducts(s productpb.ProductService_ImportProductsServer) error {
	for n := int64(0); ; n++ {
		r, err := s.Recv()
		if err == io.EOF {
			return s.SendAndClose(&productpb.ImportProductsResponse{Received: n, Created: n})
		} else if err != nil {
			return err
		}
		if err := b.hear(s.Context(), r); err != nil {
			return err
		}
	}
}

func (b *backend) GetJwks(ctx context.Context, r *userpb.GetJwksRequest) (*userpb.GetJwksResponse, error) {
	key := &userpb.JsonWebKey{Kty: "EC", Crv: "P-256", X: "eA", Y: "eQ", Use: "sig", Alg: "ES256", Kid: "k1"}
	return &userpb.GetJwksResponse{Keys: []*userpb.JsonWebKey{key}}, b.hear(ctx, r)
}

func (b *backend) CreateOrder(ctx context.Context, r *orderpb.CreateOrderRequest) (*orderpb.CreateOrderResponse, error) {
	return &orderpb.CreateOrderResponse{Order: &orderpb.Order{Id: "o1", State: orderpb.Order_CONFIRMED}}, b.hear(ctx, r)
}

func (b *backend) CancelOrder(ctx context.Context, r *orderpb.CancelOrderRequest) (*orderpb.CancelOrderResponse, error) {
	return &orderpb.CancelOrderResponse{Order: &orderpb.Order{Id: r.GetId()}}, b.hear(ctx, r)
}

// WatchOrder sends what the test puts into changes, until that is closed.
func (b *backend) WatchOrder(r *orderpb.WatchOrderRequest, s orderpb.OrderService_WatchOrderServer) error {
	if err := b.hear(s.Context(), r); err != nil {
		return err
	}
	for {
		select {
		case c, ok := <-b.changes:
			if !ok {
				return nil
			}
			if err := s.Send(c); err != nil {
				return err
			}
		case <-s.Context().Done():
			return s.Context().Err()
		}
	}
}

func change(version int64, state orderpb.Order_State) *orderpb.WatchOrderResponse {
	return &orderpb.WatchOrderResponse{Change: &orderpb.OrderChange{Version: version, State: state, Time: timestamppb.New(time.Unix(1, 0))}}
}

func (b *backend) Greet(ctx context.Context, r *greeterpb.GreetRequest) (*greeterpb.GreetResponse, error) {
	return &greeterpb.GreetResponse{Greeting: &greeterpb.Greeting{Message: "Hello, " + r.GetName() + "!"}}, b.hear(ctx, r)
}

func (b *backend) ListGreetings(r *greeterpb.ListGreetingsRequest, s greeterpb.GreetingService_ListGreetingsServer) error {
	if err := b.hear(s.Context(), r); err != nil {
		return err
	}
	for n := range int64(r.GetCount()) {
		if err := s.Send(&greeterpb.ListGreetingsResponse{Greeting: &greeterpb.Greeting{Number: max(r.GetStart(), 1) + n}}); err != nil {
			return err
		}
	}
	return nil
}

func (b *backend) ChatGreetings(s greeterpb.GreetingService_ChatGreetingsServer) error {
	for {
		r, err := s.Recv()
		if err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if err := b.hear(s.Context(), r); err != nil {
			return err
		}
		if err := s.Send(&greeterpb.ChatGreetingsResponse{Greeting: &greeterpb.Greeting{Message: "Hello, " + r.GetName() + "!"}}); err != nil {
			return err
		}
	}
}

// serve answers on w in the place of all services.
func (b *backend) serve(w *apptest.World) {
	w.Serve("product", func(s *grpc.Server) { productpb.RegisterProductServiceServer(s, b) })
	w.Serve("user", func(s *grpc.Server) {
		userpb.RegisterUserServiceServer(s, b)
		userpb.RegisterAuthServiceServer(s, b)
	})
	w.Serve("inventory", func(s *grpc.Server) { inventorypb.RegisterInventoryServiceServer(s, b) })
	w.Serve("order", func(s *grpc.Server) { orderpb.RegisterOrderServiceServer(s, b) })
	w.Serve("payment", func(s *grpc.Server) { paymentpb.RegisterPaymentServiceServer(s, b) })
	w.Serve("greeter", func(s *grpc.Server) { greeterpb.RegisterGreetingServiceServer(s, b) })
}

// site is a gateway in front of a backend.
type site struct {
	*backend
	t     *testing.T
	url   string
	log   *logLines
	spans *tracetest.InMemoryExporter
	stop  func()
}

func start(t *testing.T, env map[string]string, opts ...Options) *site {
	t.Helper()
	w := apptest.New(t)
	s := &site{backend: &backend{changes: make(chan *orderpb.WatchOrderResponse, 16)}, t: t, log: &logLines{}, spans: tracetest.NewInMemoryExporter()}
	s.serve(w)
	w.Log, w.Spans = s.log, sdktrace.NewSimpleSpanProcessor(s.spans)
	all := map[string]string{"HTTP_ADDR": "127.0.0.1:0"}
	for k, v := range env {
		all[k] = v
	}
	s.stop = w.Start(New(opts...), all)
	s.url = fmt.Sprint("http://", s.log.find(t, "msg", "serving HTTP")["addr"])
	return s
}

// reply is a response that has been read.
type reply struct {
	*http.Response
	body   string
	status struct {
		Code    int
		Message string
		Details []struct {
			Type            string `json:"@type"`
			Reason          string
			FieldViolations []struct{ Field, Description string } `json:"field_violations"`
		}
	}
}

func (r *reply) fields() []string {
	var fs []string
	for _, d := range r.status.Details {
		for _, v := range d.FieldViolations {
			fs = append(fs, v.Field)
		}
	}
	return fs
}

// send sends a request; headers are "Name: value".
func (s *site) send(method, path, body string, headers ...string) *http.Response {
	s.t.Helper()
	var r io.Reader
	if body != "" {
		r = strings.NewReader(body)
	}
	return s.sendFrom(method, path, r, headers...)
}

func (s *site) sendFrom(method, path string, body io.Reader, headers ...string) *http.Response {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, body)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, h := range headers {
		k, v, _ := strings.Cut(h, ": ")
		req.Header.Add(k, v)
	}
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { res.Body.Close() })
	return res
}

// do sends a request and reads the whole response.
func (s *site) do(method, path, body string, headers ...string) *reply {
	s.t.Helper()
	res := s.send(method, path, body, headers...)
	b, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	r := &reply{Response: res, body: string(b)}
	if res.StatusCode >= 400 && method != http.MethodHead {
		if err := json.Unmarshal(b, &r.status); err != nil {
			s.t.Errorf("%s %s: the body of status %d is no JSON: %q", method, path, res.StatusCode, b)
		}
	}
	return r
}

// logLines keeps what is logged.
type logLines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logLines) all() []map[string]any {
	l.mu.Lock()
	defer l.mu.Unlock()
	var lines []map[string]any
	sc := bufio.NewScanner(bytes.NewReader(l.buf.Bytes()))
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		m := map[string]any{}
		if json.Unmarshal(sc.Bytes(), &m) == nil {
			lines = append(lines, m)
		}
	}
	return lines
}

// find waits for the last line in which key is value: a request is logged when
// its response is out already.
func (l *logLines) find(t *testing.T, key, value string) map[string]any {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		for _, m := range slices.Backward(l.all()) {
			if m[key] == value {
				return m
			}
		}
	}
	t.Fatalf("nothing is logged with %s %q", key, value)
	return nil
}

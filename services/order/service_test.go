package order

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	moneypb "google.golang.org/genproto/googleapis/type/money"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	inventorypb "github.com/meshmart/meshmart/proto/inventory/v1"
	orderpb "github.com/meshmart/meshmart/proto/order/v1"
	paymentpb "github.com/meshmart/meshmart/proto/payment/v1"
	productpb "github.com/meshmart/meshmart/proto/product/v1"
	"github.com/meshmart/meshmart/services/internal/app/apptest"
	"github.com/meshmart/meshmart/services/internal/db"
	"github.com/meshmart/meshmart/services/internal/db/dbtest"
	"github.com/meshmart/meshmart/services/internal/events"
	"github.com/meshmart/meshmart/services/internal/fault"
)

func TestMain(m *testing.M) { apptest.Main(m) }

func contains(s, part string) bool { return strings.Contains(s, part) }

// Products, stock and payments as far as the service calls them over gRPC.
type products struct {
	productpb.UnimplementedProductServiceServer
}

const absent = "00000000-0000-7000-8000-000000000000"

func (products) BatchGetProducts(_ context.Context, req *productpb.BatchGetProductsRequest) (*productpb.BatchGetProductsResponse, error) {
	resp := &productpb.BatchGetProductsResponse{}
	for _, id := range req.GetIds() {
		if id == absent {
			return nil, fault.NotFound("there is no product %s", id).With("product_id", id)
		}
		resp.Products = append(resp.Products, &productpb.Product{
			Id: id, Sku: "MUG-1", Name: "Blue Mug", Price: &moneypb.Money{CurrencyCode: "EUR", Units: 12, Nanos: 500_000_000},
		})
	}
	return resp, nil
}

type stocks struct {
	inventorypb.UnimplementedInventoryServiceServer
}

func (stocks) Reserve(_ context.Context, req *inventorypb.ReserveRequest) (*inventorypb.ReserveResponse, error) {
	if item := req.GetItems()[0]; item.GetQuantity() > 100 {
		return nil, fault.Refused("OUT_OF_STOCK", "only 3 of %s are left", item.GetProductId())
	}
	return &inventorypb.ReserveResponse{}, nil
}

func (stocks) Release(context.Context, *inventorypb.ReleaseRequest) (*inventorypb.ReleaseResponse, error) {
	return &inventorypb.ReleaseResponse{}, nil
}

type cards struct {
	paymentpb.UnimplementedPaymentServiceServer

	mu     sync.Mutex
	undone []string
}

func (*cards) Authorize(_ context.Context, req *paymentpb.AuthorizeRequest) (*paymentpb.AuthorizeResponse, error) {
	p := &paymentpb.Payment{Id: uuid.NewString(), OrderId: req.GetOrderId(), State: paymentpb.Payment_AUTHORIZED}
	if req.GetPaymentToken() != "tok_visa" {
		p.State, p.Reason, p.Message = paymentpb.Payment_DECLINED, "INSUFFICIENT_FUNDS", "too little money"
	}
	return &paymentpb.AuthorizeResponse{Payment: p}, nil
}

func (*cards) Void(context.Context, *paymentpb.VoidRequest) (*paymentpb.VoidResponse, error) {
	return nil, fault.Refused("CAPTURED", "refund it")
}

func (c *cards) Refund(_ context.Context, req *paymentpb.RefundRequest) (*paymentpb.RefundResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.undone = append(c.undone, req.GetOrderId())
	return &paymentpb.RefundResponse{}, nil
}

// town is an order service as it runs for real, between such neighbours.
type town struct {
	*apptest.World
	orderpb.OrderServiceClient
	spans *tracetest.SpanRecorder
	cards *cards
	stop  func()
	tell  func(subject string, m proto.Message)
}

func newTown(t *testing.T, database string) *town {
	w := apptest.New(t)
	tn := &town{World: w, spans: tracetest.NewSpanRecorder(), cards: &cards{}, tell: teller(t, w)}
	w.Spans = sdktrace.SpanProcessor(tn.spans)
	w.ServeKeys()
	w.Serve("product", func(s *grpc.Server) { productpb.RegisterProductServiceServer(s, products{}) })
	w.Serve("inventory", func(s *grpc.Server) { inventorypb.RegisterInventoryServiceServer(s, stocks{}) })
	w.Serve("payment", func(s *grpc.Server) { paymentpb.RegisterPaymentServiceServer(s, tn.cards) })
	tn.stop = w.Start(New(), map[string]string{"DATABASE_URL": database})
	tn.OrderServiceClient = orderpb.NewOrderServiceClient(w.Conn("order"))
	return tn
}

// teller returns what announces an event as another service does.
func teller(t *testing.T, w *apptest.World) func(string, proto.Message) {
	bus, err := events.Connect(events.Config{Conn: w.Broker, Name: "neighbour"})
	if err != nil {
		t.Fatal(err)
	}
	d := dbtest.Open(t, dbtest.SQLite(t), events.Schema)
	out := events.NewOutbox(d, bus)
	t.Cleanup(func() { bus.Close() })
	return func(subject string, m proto.Message) {
		t.Helper()
		err := d.InTx(t.Context(), func(tx *db.DB) error { return out.Add(t.Context(), tx, subject, m) })
		if err := errors.Join(err, out.Flush(within(t))); err != nil {
			t.Fatal(err)
		}
	}
}

func ask(card string, quantity int32) *orderpb.CreateOrderRequest {
	return &orderpb.CreateOrderRequest{
		RequestId: uuid.NewString(), PaymentToken: card,
		Items: []*orderpb.OrderItem{{ProductId: strings.ToUpper(uuid.NewString()), Quantity: quantity}},
	}
}

func TestServiceSeesAnOrderThrough(t *testing.T) {
	dbtest.EachURL(t, func(t *testing.T, database string) {
		tn := newTown(t, database)
		ann := tn.As(within(t), "ann")
		req := ask("tok_visa", 2)
		created, err := tn.CreateOrder(ann, req)
		if err != nil {
			t.Fatal(err)
		}
		o := created.GetOrder()
		if o.GetState() != orderpb.Order_CONFIRMED || o.GetTotal().GetUnits() != 25 || o.GetPaymentId() == "" || o.GetUserId() != "ann" {
			t.Errorf("got %v", o)
		}
		again, err := tn.CreateOrder(ann, req)
		if err != nil || again.GetOrder().GetId() != o.GetId() {
			t.Errorf("repeated: %v, %v", again, err)
		}
		req.Items[0].Quantity++
		if _, err := tn.CreateOrder(ann, req); fault.As(fault.FromStatus(err)).Fields()[0].Reason != "REQUEST_ID_REUSED" {
			t.Errorf("reused: %v", err)
		}

		watch, err := tn.WatchOrder(ann, &orderpb.WatchOrderRequest{Id: o.GetId()})
		if err != nil {
			t.Fatal(err)
		}
		tn.tell("stock.committed", &inventorypb.StockCommitted{OrderId: o.GetId()})
		tn.tell("payment.captured", &paymentpb.PaymentCaptured{Payment: &paymentpb.Payment{OrderId: o.GetId()}})
		want := []orderpb.Order_State{orderpb.Order_PENDING, orderpb.Order_CONFIRMED, orderpb.Order_COMPLETED}
		if diff := cmp.Diff(received(t, watch), want); diff != "" {
			t.Error(diff)
		}

		cancelled, err := tn.CancelOrder(ann, &orderpb.CancelOrderRequest{Id: o.GetId()})
		if err != nil || cancelled.GetOrder().GetState() != orderpb.Order_CANCELLED || cancelled.GetOrder().GetVersion() != 5 {
			t.Errorf("cancelled: %v, %v", cancelled, err)
		}
		if diff := cmp.Diff(tn.cards.undone, []string{o.GetId()}); diff != "" {
			t.Error(diff)
		}
		tn.stop()
		tn.traced(t, o.GetTraceId(), "saga reserve", "saga authorize", "saga confirm", "publish order.confirmed")
	})
}

func received(t *testing.T, watch grpc.ServerStreamingClient[orderpb.WatchOrderResponse]) (states []orderpb.Order_State) {
	t.Helper()
	for {
		resp, err := watch.Recv()
		if errors.Is(err, io.EOF) {
			return states
		}
		if err != nil {
			t.Fatal(err)
		}
		states = append(states, resp.GetChange().GetState())
	}
}

// traced checks that the spans are in the trace.
func (tn *town) traced(t *testing.T, traceID string, names ...string) {
	t.Helper()
	found := map[string]bool{}
	for _, s := range tn.spans.Ended() {
		if s.SpanContext().TraceID().String() == traceID {
			found[s.Name()] = true
		}
	}
	for _, name := range names {
		if !found[name] {
			t.Errorf("trace %s has no span %q", traceID, name)
		}
	}
}

func TestServiceRefuses(t *testing.T) {
	tn := newTown(t, dbtest.SQLite(t))
	ann := tn.As(within(t), "ann")
	for _, tt := range []struct {
		card            string
		quantity        int32
		reason, message string
	}{
		{"tok_poor", 1, "INSUFFICIENT_FUNDS", "too little money"},
		{"tok_visa", 101, "OUT_OF_STOCK", "only 3 of Blue Mug are left"},
	} {
		resp, err := tn.CreateOrder(ann, ask(tt.card, tt.quantity))
		o := resp.GetOrder()
		if err != nil || o.GetState() != orderpb.Order_REJECTED || o.GetReason() != tt.reason || o.GetMessage() != tt.message {
			t.Errorf("%s: %v, %v", tt.reason, o, err)
		}
	}

	none := ask("tok_visa", 1)
	none.Items = append(none.Items, &orderpb.OrderItem{ProductId: absent, Quantity: 1})
	twice := ask("tok_visa", 1)
	twice.Items = append(twice.Items, &orderpb.OrderItem{ProductId: strings.ToLower(twice.Items[0].ProductId), Quantity: 1})
	for _, req := range []*orderpb.CreateOrderRequest{none, twice} {
		_, err := tn.CreateOrder(ann, req)
		f := fault.As(fault.FromStatus(err))
		if f == nil || f.Code() != codes.InvalidArgument || f.Fields()[0].Field != "items[1].product_id" {
			t.Errorf("got %v", err)
		}
	}
	if _, err := tn.CreateOrder(within(t), ask("tok_visa", 1)); fault.Code(fault.FromStatus(err)) != codes.Unauthenticated {
		t.Errorf("without a token: %v", err)
	}
}

func TestConfigNamesTheVariable(t *testing.T) {
	if err := (&config{}).Validate(); err == nil || !contains(err.Error(), "ORDER_DECISION_TIMEOUT") {
		t.Errorf("got %v", err)
	}
}

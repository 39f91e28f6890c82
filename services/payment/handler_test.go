package payment

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	moneypb "google.golang.org/genproto/googleapis/type/money"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	orderpb "github.com/meshmart/meshmart/proto/order/v1"
	paymentpb "github.com/meshmart/meshmart/proto/payment/v1"
	"github.com/meshmart/meshmart/services/internal/app"
	"github.com/meshmart/meshmart/services/internal/app/apptest"
	"github.com/meshmart/meshmart/services/internal/db"
	"github.com/meshmart/meshmart/services/internal/db/dbtest"
	"github.com/meshmart/meshmart/services/internal/events"
	"github.com/meshmart/meshmart/services/internal/fault"
)

// running is the whole service on the runtime.
type running struct {
	*apptest.World
	paymentpb.PaymentServiceClient
}

// serve runs a test against the service on both engines.
func serve(t *testing.T, fn func(t *testing.T, s running)) {
	t.Helper()
	dbtest.EachURL(t, func(t *testing.T, url string) {
		w := apptest.New(t)
		w.ServeKeys()
		w.Start(New(), map[string]string{"DATABASE_URL": url, "SIMULATOR_LATENCY": "1ms"})
		fn(t, running{w, paymentpb.NewPaymentServiceClient(w.Conn("payment"))})
	})
}

func authorizeRequest() *paymentpb.AuthorizeRequest {
	return &paymentpb.AuthorizeRequest{
		OrderId: uuid.NewString(), UserId: user, PaymentToken: "tok_visa",
		Amount: &moneypb.Money{CurrencyCode: "EUR", Units: 12, Nanos: 500_000_000},
	}
}

func (s running) authorize(t *testing.T) *paymentpb.Payment {
	t.Helper()
	r, err := s.Authorize(t.Context(), authorizeRequest())
	if err != nil {
		t.Fatal(err)
	}
	return r.GetPayment()
}

func TestPaymentsOverTheWire(t *testing.T) {
	serve(t, func(t *testing.T, s running) {
		p := s.authorize(t)
		want := &paymentpb.Payment{
			UserId: user, State: paymentpb.Payment_AUTHORIZED, Etag: "2",
			Amount: &moneypb.Money{CurrencyCode: "EUR", Units: 12, Nanos: 500_000_000},
		}
		unforeseen := protocmp.IgnoreFields(want, "id", "order_id", "processor_ref", "create_time", "update_time")
		if diff := cmp.Diff(want, p, protocmp.Transform(), unforeseen); diff != "" {
			t.Error(diff)
		}
		captured, err := s.Capture(t.Context(), &paymentpb.CaptureRequest{OrderId: strings.ToUpper(p.GetOrderId())})
		if err != nil || captured.GetPayment().GetState() != paymentpb.Payment_CAPTURED {
			t.Errorf("capture: %v, %v", captured, err)
		}
		_, err = s.Void(t.Context(), &paymentpb.VoidRequest{OrderId: p.GetOrderId()})
		if f := fault.As(fault.FromStatus(err)); f == nil || f.Reason() != reasonCaptured {
			t.Errorf("void: %v", err)
		}
		refunded, err := s.Refund(t.Context(), &paymentpb.RefundRequest{OrderId: p.GetOrderId()})
		if err != nil || refunded.GetPayment().GetState() != paymentpb.Payment_REFUNDED {
			t.Errorf("refund: %v, %v", refunded, err)
		}
		nobodys := uuid.NewString()
		void, err := s.Void(t.Context(), &paymentpb.VoidRequest{OrderId: nobodys})
		if err != nil || void.GetPayment() != nil {
			t.Errorf("void of an order without a payment: %v, %v", void, err)
		}
		refund, err := s.Refund(t.Context(), &paymentpb.RefundRequest{OrderId: nobodys})
		if err != nil || refund.GetPayment() != nil {
			t.Errorf("refund of the same: %v, %v", refund, err)
		}
	})
}

func TestPaymentIsSeenByItsUserAndAdministrators(t *testing.T) {
	serve(t, func(t *testing.T, s running) {
		p := s.authorize(t)
		req := &paymentpb.GetPaymentRequest{Id: p.GetId()}
		for who, ctx := range map[string]func() (*paymentpb.GetPaymentResponse, error){
			"the user": func() (*paymentpb.GetPaymentResponse, error) {
				return s.GetPayment(s.As(t.Context(), user, "user"), req)
			},
			"an administrator": func() (*paymentpb.GetPaymentResponse, error) {
				return s.GetPayment(s.As(t.Context(), "admin", "admin"), req)
			},
		} {
			got, err := ctx()
			if err != nil {
				t.Fatalf("%s: %v", who, err)
			}
			if diff := cmp.Diff(p, got.GetPayment(), protocmp.Transform()); diff != "" {
				t.Errorf("%s: %s", who, diff)
			}
		}
		other := s.As(t.Context(), "somebody", "user")
		_, theirs := s.GetPayment(other, req)
		_, nobodys := s.GetPayment(other, &paymentpb.GetPaymentRequest{Id: p.GetOrderId()})
		if status.Code(theirs) != codes.NotFound || status.Code(nobodys) != codes.NotFound {
			t.Errorf("somebody else's: %v; one that is not there: %v", theirs, nobodys)
		}
		if _, err := s.GetPayment(t.Context(), req); status.Code(err) != codes.Unauthenticated {
			t.Errorf("nobody: %v", err)
		}
	})
}

// publish announces m as another service would.
func publish(t *testing.T, s running, subject string, m proto.Message) {
	t.Helper()
	bus, err := events.Connect(events.Config{Conn: s.Broker})
	if err != nil {
		t.Fatal(err)
	}
	defer bus.Close()
	d := dbtest.Open(t, dbtest.SQLite(t), events.Schema)
	out := events.NewOutbox(d, bus)
	if err := d.InTx(t.Context(), func(tx *db.DB) error { return out.Add(t.Context(), tx, subject, m) }); err != nil {
		t.Fatal(err)
	}
	if err := out.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestHearsOfConfirmedOrders(t *testing.T) {
	serve(t, func(t *testing.T, s running) {
		p := s.authorize(t)
		publish(t, s, "order.confirmed", &orderpb.OrderConfirmed{Order: &orderpb.Order{Id: p.GetOrderId()}})
		admin := s.As(t.Context(), "admin", "admin")
		eventually(t, "captured", func() bool {
			r, err := s.GetPayment(admin, &paymentpb.GetPaymentRequest{Id: p.GetId()})
			return err == nil && r.GetPayment().GetState() == paymentpb.Payment_CAPTURED
		})
	})
}

func TestBadRequestsNameTheField(t *testing.T) {
	serve(t, func(t *testing.T, s running) {
		tests := map[string]func(*paymentpb.AuthorizeRequest){
			"order_id":             func(r *paymentpb.AuthorizeRequest) { r.OrderId = "x" },
			"user_id":              func(r *paymentpb.AuthorizeRequest) { r.UserId = "" },
			"amount":               func(r *paymentpb.AuthorizeRequest) { r.Amount = nil },
			"amount.currency_code": func(r *paymentpb.AuthorizeRequest) { r.Amount.CurrencyCode = "XXX" },
			"amount.nanos":         func(r *paymentpb.AuthorizeRequest) { r.Amount.Nanos = 1 },
			"amount.units":         func(r *paymentpb.AuthorizeRequest) { r.Amount.Units = 1 << 62 },
			"payment_token":        func(r *paymentpb.AuthorizeRequest) { r.PaymentToken = "4242424242424242" },
		}
		for field, spoil := range tests {
			req := authorizeRequest()
			spoil(req)
			_, err := s.Authorize(t.Context(), req)
			f := fault.As(fault.FromStatus(err))
			if f == nil || f.Code() != codes.InvalidArgument || f.Fields()[0].Field != field {
				t.Errorf("%s: %v", field, err)
			}
		}
	})
}

func TestWrongConfigurationNamesTheVariable(t *testing.T) {
	for name, value := range map[string]string{
		"SIMULATOR_LATENCY": "-1s", "SIMULATOR_JITTER": "soon", "SIMULATOR_FAILURE_RATE": "NaN",
		"SIMULATOR_SEED": "-1", "PROCESSOR_TIMEOUT": "0s",
	} {
		err := app.LoadEnv(New().Config, map[string]string{name: value})
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s=%s: %v", name, value, err)
		}
	}
}

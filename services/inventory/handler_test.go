package inventory

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	inventorypb "github.com/meshmart/meshmart/proto/inventory/v1"
	orderpb "github.com/meshmart/meshmart/proto/order/v1"
	productpb "github.com/meshmart/meshmart/proto/product/v1"
	"github.com/meshmart/meshmart/services/internal/app/apptest"
	"github.com/meshmart/meshmart/services/internal/db"
	"github.com/meshmart/meshmart/services/internal/db/dbtest"
	"github.com/meshmart/meshmart/services/internal/events"
	"github.com/meshmart/meshmart/services/internal/fault"
)

const order = "01890000-0000-7000-8000-0000000000ff"

// running is the whole service on the runtime.
type running struct {
	*apptest.World
	inventorypb.InventoryServiceClient
	stop func()
}

// serve runs a test against the service on both engines.
func serve(t *testing.T, fn func(t *testing.T, s running)) {
	t.Helper()
	dbtest.EachURL(t, func(t *testing.T, url string) {
		w := apptest.New(t)
		w.ServeKeys()
		stop := w.Start(New(), map[string]string{"DATABASE_URL": url})
		fn(t, running{w, inventorypb.NewInventoryServiceClient(w.Conn("inventory")), stop})
	})
}

// set makes n available, as an administrator.
func (s running) set(t *testing.T, productID string, n int32) *inventorypb.Stock {
	t.Helper()
	r, err := s.SetStock(s.As(t.Context(), "admin", "admin"), &inventorypb.SetStockRequest{ProductId: productID, Available: proto.Int32(n)})
	if err != nil {
		t.Fatal(err)
	}
	return r.GetStock()
}

func TestGetStock(t *testing.T) {
	serve(t, func(t *testing.T, s running) {
		want := s.set(t, mug, 10)
		s.set(t, pen, 5)
		got, err := s.GetStock(t.Context(), &inventorypb.GetStockRequest{ProductId: mug})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got.GetStock(), protocmp.Transform()); diff != "" {
			t.Error(diff)
		}
		batch, err := s.BatchGetStock(t.Context(), &inventorypb.BatchGetStockRequest{ProductIds: []string{pen, mug}})
		if err != nil || len(batch.GetStocks()) != 2 || batch.GetStocks()[0].GetProductId() != pen || batch.GetStocks()[1].GetAvailable() != 10 {
			t.Errorf("batch: %v, %v", batch, err)
		}
		_, err = s.GetStock(t.Context(), &inventorypb.GetStockRequest{ProductId: hat})
		_, batchErr := s.BatchGetStock(t.Context(), &inventorypb.BatchGetStockRequest{ProductIds: []string{mug, hat}})
		for _, err := range []error{err, batchErr} {
			if st := status.Convert(err); st.Code() != codes.NotFound || st.Message() != "there is no product "+hat {
				t.Errorf("not known: %v", err)
			}
		}
	})
}

func TestRepeatedChangesAreAnsweredAlike(t *testing.T) {
	serve(t, func(t *testing.T, s running) {
		admin := s.As(t.Context(), "admin", "admin")
		set := &inventorypb.SetStockRequest{ProductId: mug, Available: proto.Int32(10), RequestId: uuid.NewString()}
		first, err := s.SetStock(admin, set)
		if err != nil {
			t.Fatal(err)
		}
		adjust := &inventorypb.AdjustStockRequest{ProductId: mug, Delta: -3, RequestId: uuid.NewString()}
		for range 3 {
			r, err := s.AdjustStock(admin, adjust)
			if err != nil || r.GetStock().GetAvailable() != 7 || r.GetStock().GetEtag() != "2" {
				t.Errorf("adjust: %v, %v", r, err)
			}
		}
		again, err := s.SetStock(admin, set)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(first, again, protocmp.Transform()); diff != "" {
			t.Error(diff)
		}
		set.Available = proto.Int32(11)
		if _, err = s.SetStock(admin, set); status.Code(err) != codes.InvalidArgument {
			t.Errorf("another request with the same id: %v", err)
		}
	})
}

func TestOrdersOverTheWire(t *testing.T) {
	serve(t, func(t *testing.T, s running) {
		s.set(t, mug, 10)
		items := []*inventorypb.Item{{ProductId: "01890000-0000-7000-8000-00000000000A", Quantity: 4}} // mug
		calls := []func() error{
			func() error {
				_, err := s.Reserve(t.Context(), &inventorypb.ReserveRequest{OrderId: order, Items: items})
				return err
			},
			func() error { _, err := s.Commit(t.Context(), &inventorypb.CommitRequest{OrderId: order}); return err },
			func() error {
				_, err := s.Release(t.Context(), &inventorypb.ReleaseRequest{OrderId: order})
				return err
			},
		}
		for i, call := range calls {
			for range 2 {
				if err := call(); err != nil {
					t.Errorf("call %d: %v", i, err)
				}
			}
		}
		r, err := s.GetStock(t.Context(), &inventorypb.GetStockRequest{ProductId: mug})
		if err != nil || r.GetStock().GetAvailable() != 10 || r.GetStock().GetEtag() != "4" {
			t.Errorf("at the end: %v, %v", r, err)
		}
		_, err = s.Reserve(t.Context(), &inventorypb.ReserveRequest{OrderId: uuid.NewString(), Items: []*inventorypb.Item{{ProductId: mug, Quantity: 11}}})
		if f := fault.As(fault.FromStatus(err)); f == nil || f.Reason() != "OUT_OF_STOCK" {
			t.Errorf("too many: %v", err)
		}
	})
}

// publish announces m as another service would.
func (s running) publish(t *testing.T, subject string, m proto.Message) {
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
	for { // the connection is made in the background
		if err = out.Flush(t.Context()); err == nil {
			return
		}
		if t.Context().Err() != nil {
			t.Fatal(err)
		}
	}
}

// eventually waits until the stock of a product is as it should be.
func (s running) eventually(t *testing.T, productID string, want [3]int32) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		r, err := s.GetStock(t.Context(), &inventorypb.GetStockRequest{ProductId: productID})
		got := [3]int32{r.GetStock().GetAvailable(), r.GetStock().GetReserved(), r.GetStock().GetSold()}
		if err == nil && got == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("stock of %s: %v, %v; want %v", productID, got, err, want)
		}
	}
}

func TestHearsOfProductsAndOrders(t *testing.T) {
	serve(t, func(t *testing.T, s running) {
		s.publish(t, "product.created", &productpb.ProductCreated{Product: &productpb.Product{Id: hat}, InitialStock: 6})
		s.eventually(t, hat, [3]int32{6, 0, 0})
		items := []*inventorypb.Item{{ProductId: hat, Quantity: 2}}
		if _, err := s.Reserve(t.Context(), &inventorypb.ReserveRequest{OrderId: order, Items: items}); err != nil {
			t.Fatal(err)
		}
		s.publish(t, "order.confirmed", &orderpb.OrderConfirmed{Order: &orderpb.Order{Id: order}})
		s.eventually(t, hat, [3]int32{4, 0, 2})
		s.publish(t, "order.cancelled", &orderpb.OrderCancelled{Order: &orderpb.Order{Id: order}})
		s.eventually(t, hat, [3]int32{6, 0, 0})
	})
}

func TestOnlyAdministratorsCount(t *testing.T) {
	serve(t, func(t *testing.T, s running) {
		req := &inventorypb.SetStockRequest{ProductId: mug, Available: proto.Int32(1)}
		if _, err := s.SetStock(t.Context(), req); status.Code(err) != codes.Unauthenticated {
			t.Errorf("nobody: %v", err)
		}
		if _, err := s.SetStock(s.As(t.Context(), "somebody", "user"), req); status.Code(err) != codes.PermissionDenied {
			t.Errorf("a user: %v", err)
		}
		stream, err := s.SyncStock(t.Context())
		if err == nil {
			_, err = stream.Recv()
		}
		if status.Code(err) != codes.Unauthenticated {
			t.Errorf("stream of nobody: %v", err)
		}
	})
}

func TestSyncStockConfirmsEachCount(t *testing.T) {
	serve(t, func(t *testing.T, s running) {
		stream, err := s.SyncStock(s.As(t.Context(), "admin", "admin"))
		if err != nil {
			t.Fatal(err)
		}
		const n = 300 // several transactions
		go func() {
			for i := range int64(n) {
				_ = stream.Send(&inventorypb.SyncStockRequest{Source: "w-1", Sequence: i/2 + 1, ProductId: mug, Available: proto.Int32(int32(i))})
			}
			_ = stream.CloseSend()
		}()
		for i := range int64(n) {
			r, err := stream.Recv()
			if err != nil {
				t.Fatal(err)
			}
			if r.GetSequence() != i/2+1 || r.GetApplied() != (i%2 == 0) || r.GetStock().GetAvailable() != int32(i-i%2) {
				t.Fatalf("confirmation %d: %v", i, r)
			}
		}
		if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
			t.Errorf("at the end: %v", err)
		}
	})
}

func TestSyncStockEndsAtABadCount(t *testing.T) {
	tests := map[string]*inventorypb.SyncStockRequest{
		"source":     {Source: "No spaces", Sequence: 2, ProductId: mug, Available: proto.Int32(1)},
		"sequence":   {Source: "w", Sequence: 0, ProductId: mug, Available: proto.Int32(1)},
		"product_id": {Source: "w", Sequence: 2, ProductId: "mug", Available: proto.Int32(1)},
		"available":  {Source: "w", Sequence: 2, ProductId: mug, Available: proto.Int32(-1)},
	}
	serve(t, func(t *testing.T, s running) {
		for field, bad := range tests {
			stream, err := s.SyncStock(s.As(t.Context(), "admin", "admin"))
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range []*inventorypb.SyncStockRequest{{Source: "w", Sequence: 1, ProductId: mug, Available: proto.Int32(1)}, bad} {
				if err := stream.Send(m); err != nil {
					t.Fatal(err)
				}
			}
			if r, err := stream.Recv(); err != nil || r.GetSequence() != 1 {
				t.Errorf("the good count before: %v, %v", r, err)
			}
			_, err = stream.Recv()
			f := fault.As(fault.FromStatus(err))
			if f == nil || f.Code() != codes.InvalidArgument || f.Fields()[0].Field != field {
				t.Errorf("bad %s: %v", field, err)
			}
		}
	})
}

func TestSyncStockEndsWhenTheServiceStops(t *testing.T) {
	serve(t, func(t *testing.T, s running) {
		stream, err := s.SyncStock(s.As(t.Context(), "admin", "admin"))
		if err != nil {
			t.Fatal(err)
		}
		sent := make(chan struct{})
		go func() { // a client that does not wait for confirmations
			defer close(sent)
			for i := int64(1); stream.Send(&inventorypb.SyncStockRequest{Source: "w", Sequence: i, ProductId: mug, Available: proto.Int32(1)}) == nil; i++ {
			}
		}()
		last, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		stopped := make(chan struct{})
		go func() { s.stop(); close(stopped) }()
		for next := last; err == nil; next, err = stream.Recv() {
			last = next
		}
		if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "not confirmed") {
			t.Errorf("got %v, want unavailable", err)
		}
		if d := time.Since(start); d > 4*time.Second {
			t.Errorf("the stream held up the shutdown for %v", d)
		}
		<-stopped
		<-sent
		if !last.GetApplied() {
			t.Errorf("last confirmation: %v", last)
		}
	})
}

func TestBadRequestsNameTheField(t *testing.T) {
	serve(t, func(t *testing.T, s running) {
		admin := s.As(t.Context(), "admin", "admin")
		many := make([]*inventorypb.Item, 101)
		for i := range many {
			many[i] = &inventorypb.Item{ProductId: fmt.Sprintf("01890000-0000-7000-8000-%012d", i), Quantity: 1}
		}
		tests := []struct {
			call  func() error
			field string
		}{
			{func() error {
				_, err := s.GetStock(t.Context(), &inventorypb.GetStockRequest{ProductId: "x"})
				return err
			}, "product_id"},
			{func() error { _, err := s.BatchGetStock(t.Context(), &inventorypb.BatchGetStockRequest{}); return err }, "product_ids"},
			{func() error {
				_, err := s.SetStock(admin, &inventorypb.SetStockRequest{ProductId: mug, Available: proto.Int32(-1)})
				return err
			}, "available"},
			{func() error {
				_, err := s.AdjustStock(admin, &inventorypb.AdjustStockRequest{ProductId: mug, Delta: 1})
				return err
			}, "request_id"},
			{func() error {
				_, err := s.Reserve(t.Context(), &inventorypb.ReserveRequest{OrderId: order, Items: many})
				return err
			}, "items"},
			{func() error { _, err := s.Release(t.Context(), &inventorypb.ReleaseRequest{}); return err }, "order_id"},
		}
		for _, tt := range tests {
			err := tt.call()
			f := fault.As(fault.FromStatus(err))
			if f == nil || f.Code() != codes.InvalidArgument || f.Fields()[0].Field != tt.field {
				t.Errorf("%s: %v", tt.field, err)
			}
		}
	})
}

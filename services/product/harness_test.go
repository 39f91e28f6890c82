package product

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	moneypb "google.golang.org/genproto/googleapis/type/money"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	productpb "github.com/meshmart/meshmart/proto/product/v1"
	"github.com/meshmart/meshmart/services/internal/app/apptest"
	"github.com/meshmart/meshmart/services/internal/db/dbtest"
)

// running is a product service with a client.
type running struct {
	productpb.ProductServiceClient
	*apptest.World
	admin, anyone context.Context
	stop          func()
}

// each runs a test with a service on each engine.
func each(t *testing.T, fn func(t *testing.T, r *running)) {
	dbtest.EachURL(t, func(t *testing.T, url string) { fn(t, serve(t, url, nil)) })
}

func serve(t *testing.T, url string, env map[string]string) *running {
	t.Helper()
	w := apptest.New(t)
	w.ServeKeys()
	all := map[string]string{"DATABASE_URL": url}
	for k, v := range env {
		all[k] = v
	}
	stop := w.Start(New(), all)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return &running{
		ProductServiceClient: productpb.NewProductServiceClient(w.Conn("product")),
		World:                w, admin: w.As(ctx, "boss", "admin"), anyone: ctx, stop: stop,
	}
}

// mug is a product that is all right.
func mug(sku string) *productpb.Product {
	return &productpb.Product{
		Sku: sku, Name: "Mug", Description: "Holds coffee.", Category: "kitchen", Price: euros(14, 50), Image: "☕",
	}
}

func euros(units int64, cents int32) *moneypb.Money {
	return &moneypb.Money{CurrencyCode: "EUR", Units: units, Nanos: cents * 10_000_000}
}

// with returns a copy of a message after change.
func with[M proto.Message](m M, change func(M)) M {
	c := proto.Clone(m).(M)
	change(c)
	return c
}

func (r *running) create(t *testing.T, p *productpb.Product) *productpb.Product {
	t.Helper()
	res, err := r.CreateProduct(r.admin, &productpb.CreateProductRequest{Product: p, InitialStock: 7})
	if err != nil {
		t.Fatal(err)
	}
	return res.GetProduct()
}

// list returns the skus that a request finds on all its pages, in their order.
func (r *running) list(t *testing.T, req *productpb.ListProductsRequest) []string {
	t.Helper()
	skus := []string{}
	for {
		res, err := r.ListProducts(r.anyone, req)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range res.GetProducts() {
			skus = append(skus, p.GetSku())
		}
		if res.GetNextPageToken() == "" {
			return skus
		}
		req = with(req, func(m *productpb.ListProductsRequest) { m.PageToken = res.GetNextPageToken() })
	}
}

// watch returns a stream of changes that has begun.
func (r *running) watch(t *testing.T, token string) productpb.ProductService_WatchProductsClient {
	t.Helper()
	ss, err := r.WatchProducts(r.anyone, &productpb.WatchProductsRequest{ResumeToken: token})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ss.Header(); err != nil {
		t.Fatal(err)
	}
	return ss
}

// checkChange reads the next change and returns its resume token.
func checkChange(t *testing.T, ss productpb.ProductService_WatchProductsClient, change productpb.WatchProductsResponse_Change, p *productpb.Product) string {
	t.Helper()
	got, err := ss.Recv()
	if err != nil {
		t.Fatal(err)
	}
	want := &productpb.WatchProductsResponse{Change: change, Product: p, ResumeToken: got.GetResumeToken()}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("change (-want +got):\n%s", diff)
	}
	return got.GetResumeToken()
}

// checkRefused checks the code of an error, and that it names the field if
// there is one to be named.
func checkRefused(t *testing.T, err error, code codes.Code, field string) {
	t.Helper()
	s := status.Convert(err)
	if s.Code() != code {
		t.Errorf("error = %v, want code %v", err, code)
		return
	}
	var fields []string
	for _, d := range s.Details() {
		if bad, ok := d.(*errdetails.BadRequest); ok {
			for _, v := range bad.GetFieldViolations() {
				fields = append(fields, v.GetField())
			}
		}
	}
	if field != "" && !slices.Contains(fields, field) {
		t.Errorf("error = %v, naming %q, want %q", err, fields, field)
	}
}

func checkEqual(t *testing.T, got, want proto.Message) {
	t.Helper()
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func newID() string { return uuid.Must(uuid.NewV7()).String() }

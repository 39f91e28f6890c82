package product

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	moneypb "google.golang.org/genproto/googleapis/type/money"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	productpb "github.com/meshmart/meshmart/proto/product/v1"
)

// send imports products, one a line.
func (r *running) send(t *testing.T, ps ...*productpb.Product) *productpb.ImportProductsResponse {
	t.Helper()
	ss, err := r.ImportProducts(r.admin)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range ps {
		if err := ss.Send(&productpb.ImportProductsRequest{Product: p, InitialStock: 3}); err != nil {
			t.Fatal(err)
		}
	}
	res, err := ss.CloseAndRecv()
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func named(sku, name string) *productpb.Product {
	return with(mug(sku), func(p *productpb.Product) { p.Name = name })
}

// many returns n products that are all right.
func many(n int) []*productpb.Product {
	ps := make([]*productpb.Product, n)
	for i := range ps {
		ps[i] = mug(fmt.Sprintf("MANY-%05d", i))
	}
	return ps
}

func TestImportCreatesUpdatesAndLeaves(t *testing.T) {
	each(t, func(t *testing.T, r *running) {
		ss := r.watch(t, "")
		a, b := r.create(t, mug("A")), r.create(t, mug("B"))
		got := r.send(t, mug("A"), named("B", "Cup"), mug("C"), named("C", "Later"))
		checkEqual(t, got, &productpb.ImportProductsResponse{Received: 4, Created: 1, Updated: 2, Unchanged: 1})
		checkChange(t, ss, productpb.WatchProductsResponse_CHANGE_CREATED, a)
		checkChange(t, ss, productpb.WatchProductsResponse_CHANGE_CREATED, b)
		for _, want := range []string{"B Cup CHANGE_UPDATED", "C Mug CHANGE_CREATED", "C Later CHANGE_UPDATED"} {
			c, err := ss.Recv()
			if err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprint(c.GetProduct().GetSku(), " ", c.GetProduct().GetName(), " ", c.GetChange()); got != want {
				t.Errorf("change = %s, want %s", got, want)
			}
		}
	})
}

func TestImportRejectsBadLinesAndTakesTheOthers(t *testing.T) {
	each(t, func(t *testing.T, r *running) {
		bad := func(change func(*productpb.Product)) *productpb.Product { return with(mug("BAD"), change) }
		long := strings.Repeat("S", 1000)
		got := r.send(t,
			mug("A"),
			nil,
			bad(func(p *productpb.Product) { p.Sku = "" }),
			bad(func(p *productpb.Product) { p.Name = "" }),
			bad(func(p *productpb.Product) { p.Price = nil }),
			bad(func(p *productpb.Product) { p.Price.CurrencyCode = "XXX" }),
			bad(func(p *productpb.Product) { p.Price = &moneypb.Money{CurrencyCode: "EUR", Units: -5} }),
			bad(func(p *productpb.Product) { p.Category = "Not a category" }),
			bad(func(p *productpb.Product) { p.Image = "javascript:alert(1)" }),
			bad(func(p *productpb.Product) { p.Sku = long }),
			mug("B"),
		)
		want := &productpb.ImportProductsResponse{Received: 11, Created: 2, Rejected: 9}
		for i, field := range []string{"product", "sku", "name", "price", "price.currency_code", "price", "category", "image", "sku"} {
			one := &productpb.ImportRejection{Line: int64(i + 2), Sku: "BAD", Field: field, Reason: got.GetRejections()[i].GetReason()}
			switch i {
			case 0, 1:
				one.Sku = ""
			case 8:
				one.Sku = long[:maxQuoted] + "..."
			}
			if one.GetReason() == "" {
				t.Errorf("line %d is rejected for no reason", one.GetLine())
			}
			want.Rejections = append(want.Rejections, one)
		}
		checkEqual(t, got, want)
		if got := strings.Join(r.list(t, &productpb.ListProductsRequest{}), " "); got != "A B" {
			t.Errorf("products = %q, want A B", got)
		}
	})
}

func TestImportTellsTheFirstHundredRejections(t *testing.T) {
	each(t, func(t *testing.T, r *running) {
		ps := many(3 * maxTold)
		for _, p := range ps[maxTold:] {
			p.Category = "!"
		}
		got := r.send(t, ps...)
		if got.GetRejected() != 2*maxTold || len(got.GetRejections()) != maxTold || got.GetCreated() != maxTold {
			t.Errorf("rejected %d, told %d, created %d", got.GetRejected(), len(got.GetRejections()), got.GetCreated())
		}
	})
}

func TestBrokenImportLeavesWholeBatchesAndCanBeSentAgain(t *testing.T) {
	each(t, func(t *testing.T, r *running) {
		changes := r.watch(t, "")
		ps := many(2*batchSize + 50)
		ctx, breakOff := context.WithCancel(r.admin)
		ss, err := r.ImportProducts(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range ps {
			if err := ss.Send(&productpb.ImportProductsRequest{Product: p}); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 * batchSize {
			if _, err := changes.Recv(); err != nil {
				t.Fatal(err)
			}
		}
		breakOff()
		if err := ss.RecvMsg(&productpb.ImportProductsResponse{}); status.Code(err) != codes.Canceled {
			t.Errorf("broken stream: %v", err)
		}
		want := &productpb.ImportProductsResponse{Received: 2*batchSize + 50, Created: 50, Unchanged: 2 * batchSize}
		checkEqual(t, r.send(t, ps...), want)
	})
}

func TestTwoImportsOfTheSameLinesMakeEachProductOnce(t *testing.T) {
	each(t, func(t *testing.T, r *running) {
		ps := many(batchSize + 50)
		replies := make([]*productpb.ImportProductsResponse, 2)
		var wg sync.WaitGroup
		for i := range replies {
			wg.Go(func() { replies[i] = r.send(t, ps...) })
		}
		wg.Wait()
		created, unchanged := int64(0), int64(0)
		for _, got := range replies {
			created += got.GetCreated()
			unchanged += got.GetUnchanged()
		}
		if n := int64(len(ps)); created != n || unchanged != n {
			t.Errorf("created %d and left %d, want %d each", created, unchanged, n)
		}
	})
}

func TestImportBringsADeletedProductBack(t *testing.T) {
	each(t, func(t *testing.T, r *running) {
		gone := r.gone(t, "A")
		checkEqual(t, r.send(t, mug("A")), &productpb.ImportProductsResponse{Received: 1, Created: 1})
		got, err := r.GetProduct(r.anyone, &productpb.GetProductRequest{Id: gone.GetId()})
		if err != nil {
			t.Fatal(err)
		}
		if got.GetProduct().GetEtag() == gone.GetEtag() {
			t.Error("it has the etag of before")
		}
	})
}

func TestImportChecksTheStockToo(t *testing.T) {
	_, err := line(&productpb.ImportProductsRequest{Product: mug("A"), InitialStock: -1})
	checkRefused(t, err, codes.InvalidArgument, "initial_stock")
}

package product

import (
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	productpb "github.com/meshmart/meshmart/proto/product/v1"
)

func TestCreatedProductIsReadBackAndAnnounced(t *testing.T) {
	each(t, func(t *testing.T, r *running) {
		ss := r.watch(t, "")
		p := r.create(t, mug("MUG-1"))
		want := with(mug("MUG-1"), func(w *productpb.Product) {
			w.Id, w.Etag, w.CreateTime, w.UpdateTime = p.GetId(), p.GetEtag(), p.GetCreateTime(), p.GetCreateTime()
		})
		checkEqual(t, p, want)
		got, err := r.GetProduct(r.anyone, &productpb.GetProductRequest{Id: strings.ToUpper(p.GetId())})
		if err != nil {
			t.Fatal(err)
		}
		checkEqual(t, got.GetProduct(), p)
		checkChange(t, ss, productpb.WatchProductsResponse_CHANGE_CREATED, p)
	})
}

func TestOnlyAdministratorsChangeTheCatalog(t *testing.T) {
	each(t, func(t *testing.T, r *running) {
		req := &productpb.CreateProductRequest{Product: mug("MUG-1")}
		_, err := r.CreateProduct(r.anyone, req)
		checkRefused(t, err, codes.Unauthenticated, "")
		_, err = r.CreateProduct(r.As(r.anyone, "someone"), req)
		checkRefused(t, err, codes.PermissionDenied, "")
	})
}

func TestEightCreatesWithOneRequestIDMakeOneProduct(t *testing.T) {
	each(t, func(t *testing.T, r *running) {
		req := &productpb.CreateProductRequest{Product: mug("MUG-1"), RequestId: newID()}
		replies := make([]*productpb.CreateProductResponse, 8)
		var wg sync.WaitGroup
		for i := range replies {
			wg.Go(func() {
				var err error
				if replies[i], err = r.CreateProduct(r.admin, req); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		for _, got := range replies[1:] {
			checkEqual(t, got, replies[0])
		}
		_, err := r.CreateProduct(r.admin, with(req, func(m *productpb.CreateProductRequest) { m.Product.Name = "Cup" }))
		checkRefused(t, err, codes.InvalidArgument, "request_id")
		if got := r.list(t, &productpb.ListProductsRequest{}); len(got) != 1 {
			t.Errorf("products = %q, want one", got)
		}
	})
}

func TestTakenSKUIsRefusedByName(t *testing.T) {
	each(t, func(t *testing.T, r *running) {
		r.create(t, mug("MUG-1"))
		_, err := r.CreateProduct(r.admin, &productpb.CreateProductRequest{Product: mug("MUG-1"), RequestId: newID()})
		checkRefused(t, err, codes.AlreadyExists, "")
		if !strings.Contains(status.Convert(err).Message(), "MUG-1") {
			t.Errorf("error %q does not name the sku", err)
		}
	})
}

func TestBadInputNamesTheField(t *testing.T) {
	each(t, func(t *testing.T, r *running) {
		for name, tt := range map[string]struct {
			field  string
			change func(*productpb.Product)
		}{
			"unknown currency":    {"product.price.currency_code", func(p *productpb.Product) { p.Price.CurrencyCode = "XXX" }},
			"no currency":         {"product.price.currency_code", func(p *productpb.Product) { p.Price.CurrencyCode = "" }},
			"half a cent":         {"product.price.nanos", func(p *productpb.Product) { p.Price.Nanos = 5_000_000 }},
			"a tenth of a yen":    {"product.price.nanos", func(p *productpb.Product) { p.Price.CurrencyCode, p.Price.Nanos = "JPY", 100_000_000 }},
			"negative price":      {"product.price", func(p *productpb.Product) { p.Price.Units, p.Price.Nanos = -1, 0 }},
			"overflowing price":   {"product.price", func(p *productpb.Product) { p.Price.Units = 1 << 62 }},
			"no price":            {"product.price", func(p *productpb.Product) { p.Price = nil }},
			"no sku":              {"product.sku", func(p *productpb.Product) { p.Sku = "" }},
			"sku with a space":    {"product.sku", func(p *productpb.Product) { p.Sku = "MUG 1" }},
			"blank name":          {"product.name", func(p *productpb.Product) { p.Name = " \t" }},
			"long name":           {"product.name", func(p *productpb.Product) { p.Name = strings.Repeat("x", 201) }},
			"zero byte in name":   {"product.name", func(p *productpb.Product) { p.Name = "mug\x00" }},
			"escape in text":      {"product.description", func(p *productpb.Product) { p.Description = "\x1b[31m" }},
			"shouted category":    {"product.category", func(p *productpb.Product) { p.Category = "KITCHEN" }},
			"script for an image": {"product.image", func(p *productpb.Product) { p.Image = "javascript:alert(1)" }},
			"image over http":     {"product.image", func(p *productpb.Product) { p.Image = "http://example.com/mug.png" }},
			"image with a quote":  {"product.image", func(p *productpb.Product) { p.Image = `https://example.com/" onload="` }},
		} {
			_, err := r.CreateProduct(r.admin, &productpb.CreateProductRequest{Product: with(mug("MUG-1"), tt.change)})
			t.Log(name, "->", err)
			checkRefused(t, err, codes.InvalidArgument, tt.field)
		}
		_, err := r.CreateProduct(r.admin, &productpb.CreateProductRequest{Product: mug("MUG-1"), InitialStock: -1})
		checkRefused(t, err, codes.InvalidArgument, "initial_stock")
		if got := r.list(t, &productpb.ListProductsRequest{}); len(got) != 0 {
			t.Errorf("products = %q, want none", got)
		}
	})
}

func TestUpdateChangesWhatTheMaskNames(t *testing.T) {
	each(t, func(t *testing.T, r *running) {
		for name, tt := range map[string]struct {
			mask []string
			from *productpb.Product
			want func(*productpb.Product)
		}{
			"no mask takes what is set": {
				nil, &productpb.Product{Name: "Cup", Sku: "MUG-1"},
				func(p *productpb.Product) { p.Name = "Cup" },
			},
			"mask takes what it names": {
				[]string{"name", "description"}, &productpb.Product{Name: "Cup", Category: "bar", Sku: "other"},
				func(p *productpb.Product) { p.Name, p.Description = "Cup", "" },
			},
			"a star takes all": {
				[]string{"*"}, &productpb.Product{Name: "Cup", Category: "bar", Price: euros(3, 0)},
				func(p *productpb.Product) {
					p.Name, p.Description, p.Category, p.Price, p.Image = "Cup", "", "bar", euros(3, 0), ""
				},
			},
			"a part of the price takes the whole": {
				[]string{"price.currency_code", "price.units"}, &productpb.Product{Price: euros(5, 0)},
				func(p *productpb.Product) { p.Price = euros(5, 0) },
			},
		} {
			t.Run(name, func(t *testing.T) {
				old := r.create(t, mug("MUG-"+newID()))
				from := with(tt.from, func(p *productpb.Product) {
					p.Id = old.GetId()
					if p.GetSku() == "MUG-1" {
						p.Sku = old.GetSku()
					}
				})
				res, err := r.UpdateProduct(r.admin, &productpb.UpdateProductRequest{Product: from, UpdateMask: &fieldmaskpb.FieldMask{Paths: tt.mask}})
				if err != nil {
					t.Fatal(err)
				}
				got := res.GetProduct()
				checkEqual(t, got, with(with(old, tt.want), func(p *productpb.Product) { p.Etag, p.UpdateTime = got.GetEtag(), got.GetUpdateTime() }))
				if got.GetEtag() == old.GetEtag() {
					t.Error("the etag is the old one")
				}
				read, err := r.GetProduct(r.anyone, &productpb.GetProductRequest{Id: old.GetId()})
				if err != nil {
					t.Fatal(err)
				}
				checkEqual(t, read.GetProduct(), got)
			})
		}
	})
}

func TestUpdateRefusesWhatCannotChange(t *testing.T) {
	each(t, func(t *testing.T, r *running) {
		old := r.create(t, mug("MUG-1"))
		for name, tt := range map[string]struct {
			mask  []string
			from  *productpb.Product
			field string
		}{
			"unknown path":            {[]string{"colour"}, &productpb.Product{}, "update_mask"},
			"path into a text":        {[]string{"name.first"}, &productpb.Product{Name: "x"}, "update_mask"},
			"unknown path in price":   {[]string{"price.cents"}, &productpb.Product{Price: euros(1, 0)}, "update_mask"},
			"sku":                     {[]string{"name", "sku"}, &productpb.Product{Name: "x", Sku: "y"}, "update_mask"},
			"id":                      {[]string{"id"}, &productpb.Product{}, "update_mask"},
			"create_time":             {[]string{"create_time"}, &productpb.Product{}, "update_mask"},
			"star and more":           {[]string{"*", "name"}, &productpb.Product{Name: "x"}, "update_mask"},
			"empty path":              {[]string{""}, &productpb.Product{}, "update_mask"},
			"another sku":             {nil, &productpb.Product{Sku: "MUG-2"}, "product.sku"},
			"name to nothing":         {[]string{"name"}, &productpb.Product{}, "product.name"},
			"category to nothing":     {[]string{"category"}, &productpb.Product{}, "product.category"},
			"price to nothing":        {[]string{"price"}, &productpb.Product{}, "product.price"},
			"units without currency":  {[]string{"price.units"}, &productpb.Product{Price: euros(5, 0)}, "product.price.currency_code"},
			"star without a category": {[]string{"*"}, &productpb.Product{Name: "x", Price: euros(1, 0)}, "product.category"},
		} {
			from := with(tt.from, func(p *productpb.Product) {
				p.Id = old.GetId()
				if name == "units without currency" {
					p.Price.CurrencyCode = ""
				}
			})
			_, err := r.UpdateProduct(r.admin, &productpb.UpdateProductRequest{Product: from, UpdateMask: &fieldmaskpb.FieldMask{Paths: tt.mask}})
			t.Log(name, "->", err)
			checkRefused(t, err, codes.InvalidArgument, tt.field)
		}
		got, err := r.GetProduct(r.anyone, &productpb.GetProductRequest{Id: old.GetId()})
		if diff := cmp.Diff(old, got.GetProduct(), protocmp.Transform()); err != nil || diff != "" {
			t.Errorf("product changed (-want +got): %v\n%s", err, diff)
		}
		_, err = r.UpdateProduct(r.admin, &productpb.UpdateProductRequest{Product: &productpb.Product{Id: newID(), Name: "x"}})
		checkRefused(t, err, codes.NotFound, "")
	})
}

func TestOfTwoUpdatesWithOneEtagTheSecondIsAborted(t *testing.T) {
	each(t, func(t *testing.T, r *running) {
		old := r.create(t, mug("MUG-1"))
		req := &productpb.UpdateProductRequest{Product: &productpb.Product{Id: old.GetId(), Name: "Cup", Etag: old.GetEtag()}, RequestId: newID()}
		first, err := r.UpdateProduct(r.admin, req)
		if err != nil {
			t.Fatal(err)
		}
		for _, stale := range []string{old.GetEtag(), "nonsense"} {
			_, err = r.UpdateProduct(r.admin, with(req, func(m *productpb.UpdateProductRequest) {
				m.RequestId, m.Product.Etag = "", stale
			}))
			checkRefused(t, err, codes.Aborted, "")
			_, err = r.DeleteProduct(r.admin, &productpb.DeleteProductRequest{Id: old.GetId(), Etag: stale})
			checkRefused(t, err, codes.Aborted, "")
		}
		again, err := r.UpdateProduct(r.admin, req) // the first one repeated is no second one
		if err != nil {
			t.Fatal(err)
		}
		checkEqual(t, again, first)
	})
}

func TestConcurrentUpdatesWithOneEtagLetOneThrough(t *testing.T) {
	each(t, func(t *testing.T, r *running) {
		old := r.create(t, mug("MUG-1"))
		codes := make(chan codes.Code, 8)
		var wg sync.WaitGroup
		for i := range cap(codes) {
			wg.Go(func() {
				p := &productpb.Product{Id: old.GetId(), Price: euros(int64(100+i), 0), Etag: old.GetEtag()}
				_, err := r.UpdateProduct(r.admin, &productpb.UpdateProductRequest{Product: p})
				codes <- status.Code(err)
			})
		}
		wg.Wait()
		close(codes)
		got := map[string]int{}
		for c := range codes {
			got[c.String()]++
		}
		if diff := cmp.Diff(map[string]int{"OK": 1, "Aborted": 7}, got); diff != "" {
			t.Errorf("codes (-want +got):\n%s", diff)
		}
	})
}

func TestUpdateThatChangesNothingIsNotAnnounced(t *testing.T) {
	each(t, func(t *testing.T, r *running) {
		ss := r.watch(t, "")
		old := r.create(t, mug("MUG-1"))
		checkChange(t, ss, productpb.WatchProductsResponse_CHANGE_CREATED, old)
		same, err := r.UpdateProduct(r.admin, &productpb.UpdateProductRequest{Product: old})
		if err != nil {
			t.Fatal(err)
		}
		checkEqual(t, same.GetProduct(), old)
		changed, err := r.UpdateProduct(r.admin, &productpb.UpdateProductRequest{Product: &productpb.Product{Id: old.GetId(), Name: "Cup"}})
		if err != nil {
			t.Fatal(err)
		}
		checkChange(t, ss, productpb.WatchProductsResponse_CHANGE_UPDATED, changed.GetProduct())
	})
}

func TestDeletedProductIsGoneAndKeepsItsSKU(t *testing.T) {
	each(t, func(t *testing.T, r *running) {
		ss := r.watch(t, "")
		p, kept := r.create(t, mug("MUG-1")), r.create(t, mug("MUG-2"))
		checkChange(t, ss, productpb.WatchProductsResponse_CHANGE_CREATED, p)
		checkChange(t, ss, productpb.WatchProductsResponse_CHANGE_CREATED, kept)
		for range 2 { // the second one changes nothing, with an etag that is no longer true
			if _, err := r.DeleteProduct(r.admin, &productpb.DeleteProductRequest{Id: p.GetId(), Etag: p.GetEtag()}); err != nil {
				t.Fatal(err)
			}
		}
		checkChange(t, ss, productpb.WatchProductsResponse_CHANGE_DELETED, p)
		_, err := r.GetProduct(r.anyone, &productpb.GetProductRequest{Id: p.GetId()})
		checkRefused(t, err, codes.NotFound, "")
		_, err = r.BatchGetProducts(r.anyone, &productpb.BatchGetProductsRequest{Ids: []string{kept.GetId(), p.GetId()}})
		checkRefused(t, err, codes.NotFound, "")
		_, err = r.UpdateProduct(r.admin, &productpb.UpdateProductRequest{Product: &productpb.Product{Id: p.GetId(), Name: "x"}})
		checkRefused(t, err, codes.NotFound, "")
		_, err = r.CreateProduct(r.admin, &productpb.CreateProductRequest{Product: mug("MUG-1")})
		checkRefused(t, err, codes.AlreadyExists, "")
		_, err = r.DeleteProduct(r.admin, &productpb.DeleteProductRequest{Id: newID()})
		checkRefused(t, err, codes.NotFound, "")
		if diff := cmp.Diff([]string{"MUG-2"}, r.list(t, &productpb.ListProductsRequest{})); diff != "" {
			t.Errorf("list (-want +got):\n%s", diff)
		}
	})
}

func TestBatchGetKeepsTheOrderOfTheIDs(t *testing.T) {
	each(t, func(t *testing.T, r *running) {
		a, b, c := r.create(t, mug("A")), r.create(t, mug("B")), r.create(t, mug("C"))
		got, err := r.BatchGetProducts(r.anyone, &productpb.BatchGetProductsRequest{Ids: []string{c.GetId(), a.GetId(), b.GetId()}})
		if err != nil {
			t.Fatal(err)
		}
		checkEqual(t, got, &productpb.BatchGetProductsResponse{Products: []*productpb.Product{c, a, b}})
		absent := newID()
		_, err = r.BatchGetProducts(r.anyone, &productpb.BatchGetProductsRequest{Ids: []string{a.GetId(), absent}})
		checkRefused(t, err, codes.NotFound, "")
		if !strings.Contains(err.Error(), absent) {
			t.Errorf("error %q does not name the id", err)
		}
	})
}

package product

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	productpb "github.com/meshmart/meshmart/proto/product/v1"
	"github.com/meshmart/meshmart/services/internal/app"
	"github.com/meshmart/meshmart/services/internal/app/apptest"
	"github.com/meshmart/meshmart/services/internal/db"
	"github.com/meshmart/meshmart/services/internal/db/dbtest"
	"github.com/meshmart/meshmart/services/internal/events"
	"github.com/meshmart/meshmart/services/internal/idem"
)

func TestBuiltinCatalogIsThereWhenTheServiceIsReady(t *testing.T) {
	dbtest.EachURL(t, func(t *testing.T, url string) {
		r := serve(t, url, map[string]string{"CATALOG_FILE": Builtin})
		ps, categories := r.catalog(t)
		if len(ps) < 72 || len(categories) < 8 {
			t.Errorf("%d products in %d categories, want 72 in 8 at least", len(ps), len(categories))
		}
		for _, p := range ps {
			if p.GetPrice().GetCurrencyCode() != "EUR" || p.GetDescription() == "" || p.GetImage() == "" {
				t.Errorf("product %v: want a price in EUR, a description and an image", p)
			}
		}
	})
}

func (r *running) catalog(t *testing.T) (ps []*productpb.Product, categories map[string]int) {
	t.Helper()
	res, err := r.ListProducts(r.anyone, &productpb.ListProductsRequest{PageSize: 1000})
	if err != nil {
		t.Fatal(err)
	}
	categories = map[string]int{}
	for _, p := range res.GetProducts() {
		categories[p.GetCategory()]++
	}
	return res.GetProducts(), categories
}

func TestCatalogFileIsReadAtTheFirstStartOnly(t *testing.T) {
	dbtest.EachURL(t, func(t *testing.T, url string) {
		r := serve(t, url, map[string]string{"CATALOG_FILE": Builtin})
		ps, _ := r.catalog(t)
		for _, p := range ps {
			if _, err := r.DeleteProduct(r.admin, &productpb.DeleteProductRequest{Id: p.GetId()}); err != nil {
				t.Fatal(err)
			}
		}
		r.stop()
		again := serve(t, url, map[string]string{"CATALOG_FILE": Builtin})
		if ps, _ := again.catalog(t); len(ps) != 0 {
			t.Errorf("%d products are back", len(ps))
		}
	})
}

func TestCatalogThatHasHadAProductIsNotSeeded(t *testing.T) {
	dbtest.EachURL(t, func(t *testing.T, url string) {
		r := serve(t, url, nil)
		r.gone(t, "A")
		r.stop()
		again := serve(t, url, map[string]string{"CATALOG_FILE": Builtin})
		if ps, _ := again.catalog(t); len(ps) != 0 {
			t.Errorf("%d products, want none", len(ps))
		}
	})
}

func TestWrongLinesOfTheCatalogFileAreNamedInTheLog(t *testing.T) {
	file := filepath.Join(t.TempDir(), "mine.jsonl")
	lines := []string{
		`{"product":{"sku":"A","name":"Mug","category":"kitchen","price":{"currency_code":"EUR","units":"5"}},"initial_stock":2}`,
		``,
		`{"product":{"sku":"B","name":"Mug","category":"kitchen","price":{"currency_code":"XXX","units":"5"}}}`,
		`{"product":`,
		`{"product":{"sku":"C","name":"Mug","category":"kitchen","price":{"currency_code":"EUR","units":"5"},"colour":"red"}}`,
		`{"product":{"sku":"D","name":"Mug","category":"kitchen","price":{"currency_code":"EUR","units":"5"}}}`,
	}
	if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	var log safeBuffer
	w := apptest.New(t)
	w.ServeKeys()
	w.Log = &log
	stop := w.Start(New(), map[string]string{"CATALOG_FILE": file})
	r := &running{ProductServiceClient: productpb.NewProductServiceClient(w.Conn("product")), anyone: t.Context()}
	if diff := cmp.Diff([]string{"A", "D"}, r.list(t, &productpb.ListProductsRequest{})); diff != "" {
		t.Errorf("products (-want +got):\n%s", diff)
	}
	stop()
	for _, want := range []string{`"line":3,"sku":"B","field":"price.currency_code"`, `"line":4,`, `"line":5,`, file} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log does not say %s:\n%s", want, log.String())
		}
	}
}

type safeBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func TestMissingCatalogFileNamesItsVariable(t *testing.T) {
	for _, file := range []string{filepath.Join(t.TempDir(), "none.jsonl"), t.TempDir()} {
		err := app.Run(t.Context(), New(), app.Options{Environ: map[string]string{"CATALOG_FILE": file}})
		if err == nil || !strings.Contains(err.Error(), "CATALOG_FILE") || !strings.Contains(err.Error(), file) {
			t.Errorf("CATALOG_FILE=%s: %v", file, err)
		}
	}
}

func TestOfTwoReplicasThatStartTogetherOneSeeds(t *testing.T) {
	dbtest.EachURL(t, func(t *testing.T, url string) {
		bus, err := events.Connect(events.Config{URL: "nats://127.0.0.1:1"}) // nothing is published
		if err != nil {
			t.Fatal(err)
		}
		defer bus.Close()
		schemas := []db.Schema{idem.Schema, events.Schema, {Name: "product", FS: schema}}
		sums := make(chan *Summary, 4)
		var wg sync.WaitGroup
		for range cap(sums) {
			d := dbtest.Open(t, url, schemas...)
			c := &Catalog{store: &store{d}, events: &announcer{events.NewOutbox(d, bus)}, clock: time.Now}
			wg.Go(func() {
				sum, err := c.Seed(t.Context(), func(ctx context.Context, in *Import) error {
					return readLines(ctx, strings.NewReader(builtin), in)
				})
				if err != nil {
					t.Error(err)
				}
				sums <- sum
			})
		}
		wg.Wait()
		close(sums)
		seeded := 0
		for s := range sums {
			if s != nil {
				seeded++
				if lines := int64(strings.Count(builtin, "\n")); s.Created != lines || s.Rejected != 0 {
					t.Errorf("created %d and rejected %d of %d lines: %v", s.Created, s.Rejected, lines, s.Rejections)
				}
			}
		}
		if seeded != 1 {
			t.Errorf("%d replicas seeded, want one", seeded)
		}
	})
}

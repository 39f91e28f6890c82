package importfile

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	moneypb "google.golang.org/genproto/googleapis/type/money"
	"google.golang.org/protobuf/testing/protocmp"

	productpb "github.com/meshmart/meshmart/proto/product/v1"
)

// read returns the products of a file, and its bad lines by number.
func read(t *testing.T, text string, o Options) ([]*productpb.ImportProductsRequest, map[int64]string) {
	t.Helper()
	r, err := NewReader(strings.NewReader(text), o)
	if err != nil {
		t.Fatal(err)
	}
	var got []*productpb.ImportProductsRequest
	bad := map[int64]string{}
	for {
		req, line, err := r.Next()
		b, wrong := errors.AsType[*BadLine](err)
		switch {
		case errors.Is(err, io.EOF):
			return got, bad
		case wrong:
			bad[line] = b.Error()
		case err != nil:
			t.Fatal(err)
		default:
			got = append(got, req)
		}
	}
}

func TestCSV(t *testing.T) {
	got, bad := read(t, "\ufeffPrice, sku ,name,category,stock,currency,description\n"+
		`12.50,A-1,"Mug, tall",kitchen,7,usd,"two`+"\n"+`lines"`+"\n"+
		"3,A-2,Hat,clothes,,,\n"+
		"\n"+
		"x,A-3,Hat,clothes,,,\n"+
		"3,A-4,Hat,clothes,many,,\n"+
		"3,A-5,Hat\n"+
		`3,"A"-6,Hat,clothes,1,,`+"\n"+
		"3,A-7,\xff,clothes,1,,\n", Options{Currency: "EUR"})
	want := []*productpb.ImportProductsRequest{
		{InitialStock: 7, Product: &productpb.Product{
			Sku: "A-1", Name: "Mug, tall", Category: "kitchen", Description: "two\nlines",
			Price: &moneypb.Money{CurrencyCode: "USD", Units: 12, Nanos: 500_000_000},
		}},
		{Product: &productpb.Product{Sku: "A-2", Name: "Hat", Category: "clothes", Price: &moneypb.Money{CurrencyCode: "EUR", Units: 3}}},
	}
	if diff := cmp.Diff(got, want, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
	wantBad := map[int64]string{
		6:  `price "x" is not a price such as 12.50`,
		7:  `stock "many" is not a whole number`,
		8:  "has 3 fields and not 7 as the first line",
		9:  `is not CSV: column 5: extraneous or missing " in quoted-field`,
		10: "is not UTF-8",
	}
	if diff := cmp.Diff(bad, wantBad); diff != "" {
		t.Error(diff)
	}
}

func TestHeadersThatAreNone(t *testing.T) {
	for text, want := range map[string]string{
		"":                                  "the file is empty",
		"sku,name,category\n":               `there must be a column "price"`,
		"sku,name,category,price,color\n":   `"color" is not a column`,
		"sku,name,category,price,sku\n":     "is there twice",
		"sku,name,category,price,\"stock\n": "line 1",
		strings.Repeat("x", 3*maxRecord):    "longer",
	} {
		_, err := NewReader(strings.NewReader(text), Options{Format: "csv"})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, want %q", text, err, want)
		}
	}
}

func TestJSONLines(t *testing.T) {
	got, bad := read(t, "\n"+
		`{"product":{"sku":"A-1","price":{"currency_code":"EUR","units":"5"}},"initial_stock":3}`+"\r\n"+
		"{nonsense\n"+
		`{"product":{"colour":"red"}}`+"\n"+
		`{"initial_stock":99999999999}`+"\n"+
		`{"product":{"sku":"A-2"}}`, Options{})
	want := []*productpb.ImportProductsRequest{
		{InitialStock: 3, Product: &productpb.Product{Sku: "A-1", Price: &moneypb.Money{CurrencyCode: "EUR", Units: 5}}},
		{Product: &productpb.Product{Sku: "A-2"}},
	}
	if diff := cmp.Diff(got, want, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
	if len(bad) != 3 || bad[3] == "" || !strings.Contains(bad[4], "colour") || bad[5] == "" {
		t.Errorf("bad lines %v, want 3 to 5", bad)
	}
}

func TestFormatIsToldByNameOrBeginning(t *testing.T) {
	const header = "sku,name,category,price\n"
	for _, tt := range []struct {
		text string
		o    Options
		csv  bool
	}{
		{header, Options{}, true},
		{"  \n {}", Options{}, false},
		{header, Options{Name: "x.jsonl"}, false},
		{header, Options{Name: "x.CSV"}, true},
		{header, Options{Name: "x.json", Format: "csv"}, true},
		{header, Options{Name: "x.csv", Format: "jsonl"}, false},
	} {
		r, err := NewReader(strings.NewReader(tt.text), tt.o)
		if err != nil || r.records.csv != tt.csv {
			t.Errorf("%q %+v: CSV is not %v: %v", tt.text, tt.o, tt.csv, err)
		}
	}
}

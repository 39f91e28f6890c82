package product

import (
	"strings"
	"testing"

	moneypb "google.golang.org/genproto/googleapis/type/money"
	"google.golang.org/grpc/codes"

	productpb "github.com/meshmart/meshmart/proto/product/v1"
	"github.com/meshmart/meshmart/services/internal/db"
	"github.com/meshmart/meshmart/services/internal/db/dbtest"
)

func TestListFiltersSortsAndPages(t *testing.T) {
	each(t, func(t *testing.T, r *running) {
		for _, p := range []*productpb.Product{
			{Sku: "A", Name: "Mug", Category: "kitchen", Price: euros(14, 50)},
			{Sku: "B", Name: "Tent", Category: "outdoors", Price: euros(289, 0)},
			{Sku: "C", Name: "Smug Cat Mug", Category: "kitchen", Price: euros(9, 99)},
			{Sku: "D", Name: "Knife", Category: "kitchen", Price: &moneypb.Money{CurrencyCode: "JPY", Units: 9000}},
			{Sku: "E", Name: "Pole", Category: "outdoors", Price: euros(50, 0)},
		} {
			r.create(t, p)
		}
		r.gone(t, "F")
		for _, tt := range []struct{ filter, order, want string }{
			{"", "", "A B C D E"},
			{"", "price.units desc", "D B E A C"},
			{"", "category desc, price.units", "E B C A D"},
			{"", "create_time desc", "E D C B A"},
			{"", "update_time, name", "A B C D E"},
			{`category = "kitchen" AND price.units < 50`, "name", "A C"},
			{`name:"mug"`, "name desc", "C A"},
			{`price.currency_code = JPY`, "", "D"},
			{`price.units <= 9.99`, "", "C"},
			{`sku = "B" OR sku = "F"`, "", "B"},
			{`NOT category = "kitchen"`, "", "B E"},
			{`create_time > "2999-01-01T00:00:00Z"`, "", ""},
			{`name = "%"`, "", ""},
		} {
			for _, size := range []int32{1, 2, 50} {
				req := &productpb.ListProductsRequest{Filter: tt.filter, OrderBy: tt.order, PageSize: size}
				if got := strings.Join(r.list(t, req), " "); got != tt.want {
					t.Errorf("filter %q, order_by %q, page_size %d: %q, want %q", tt.filter, tt.order, size, got, tt.want)
				}
			}
			for _, size := range []int32{1, 4, 5, 50} { // some of them are read without a count
				res, err := r.ListProducts(r.anyone, &productpb.ListProductsRequest{Filter: tt.filter, PageSize: size})
				if err == nil && res.GetNextPageToken() != "" { // and each page says the same
					res, err = r.ListProducts(r.anyone, &productpb.ListProductsRequest{Filter: tt.filter, PageSize: size, PageToken: res.GetNextPageToken()})
				}
				if err != nil || int(res.GetTotalSize()) != len(strings.Fields(tt.want)) {
					t.Errorf("filter %q, page_size %d: total_size %d, %v, want that of %q", tt.filter, size, res.GetTotalSize(), err, tt.want)
				}
			}
		}
	})
}

// gone creates a product and deletes it.
func (r *running) gone(t *testing.T, sku string) *productpb.Product {
	t.Helper()
	p := r.create(t, mug(sku))
	if _, err := r.DeleteProduct(r.admin, &productpb.DeleteProductRequest{Id: p.GetId()}); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestListThatMakesNoSenseIsRefused(t *testing.T) {
	each(t, func(t *testing.T, r *running) {
		r.create(t, mug("A"))
		r.create(t, mug("B"))
		page, err := r.ListProducts(r.anyone, &productpb.ListProductsRequest{PageSize: 1})
		if err != nil {
			t.Fatal(err)
		}
		for field, reqs := range map[string][]*productpb.ListProductsRequest{
			"filter": {
				{Filter: `colour = "red"`}, {Filter: `name = `}, {Filter: `price.units:5`}, {Filter: "name = \"a\x00b\""},
				{Filter: `price.currency_code = "XXX"`}, {Filter: strings.Repeat("(", 500)}, {Filter: strings.Repeat("x", 2001)},
			},
			"order_by":  {{OrderBy: "description"}, {OrderBy: "name, name"}, {OrderBy: "name; DROP TABLE products"}},
			"page_size": {{PageSize: -1}},
			"page_token": {
				{PageToken: "nonsense"}, {PageToken: page.GetNextPageToken(), OrderBy: "name"},
			},
		} {
			for _, req := range reqs {
				_, err := r.ListProducts(r.anyone, req)
				checkRefused(t, err, codes.InvalidArgument, field)
			}
		}
	})
}

func TestListsUseAnIndex(t *testing.T) {
	d := dbtest.Open(t, dbtest.SQLite(t), db.Schema{Name: "product", FS: schema})
	spec := listed()
	if err := spec.Check(); err != nil {
		t.Fatal(err)
	}
	for _, req := range []*productpb.ListProductsRequest{
		{},
		{OrderBy: "name"}, {OrderBy: "name desc"}, {OrderBy: "price.units"}, {OrderBy: "price.units desc"},
		{OrderBy: "category"}, {OrderBy: "create_time desc"}, {OrderBy: "update_time desc"},
		{Filter: `category = "kitchen"`}, {Filter: `sku = "MUG"`},
		{Filter: `category = "kitchen"`, OrderBy: "price.units"}, {Filter: `category = "kitchen"`, OrderBy: "price.units desc"},
		{Filter: `price.units < 50`, OrderBy: "price.units"},
		{Filter: `create_time > "2026-01-01T00:00:00Z"`, OrderBy: "create_time"},
	} {
		t.Run(req.String(), func(t *testing.T) {
			q, err := spec.Parse(req)
			if err != nil {
				t.Fatal(err)
			}
			tail, args := q.Page(inCatalog)
			checkPlan(t, d, "SELECT "+columns+", "+q.Keys()+" FROM products"+tail, args)
			if req.GetFilter() == "" {
				return // all are counted, which reads all up to the bound
			}
			count, args := q.Count("products", inCatalog)
			checkPlan(t, d, count, args)
		})
	}
}

func TestLaterPagesUseTheIndexToo(t *testing.T) {
	r := serve(t, dbtest.SQLite(t), nil)
	r.create(t, mug("A"))
	r.create(t, mug("B"))
	d := dbtest.Open(t, dbtest.SQLite(t), db.Schema{Name: "product", FS: schema})
	for _, order := range []string{"", "name", "price.units desc", "create_time desc"} {
		page, err := r.ListProducts(r.anyone, &productpb.ListProductsRequest{PageSize: 1, OrderBy: order})
		if err != nil {
			t.Fatal(err)
		}
		q, err := listed().Parse(&productpb.ListProductsRequest{OrderBy: order, PageToken: page.GetNextPageToken()})
		if err != nil {
			t.Fatal(err)
		}
		tail, args := q.Page(inCatalog)
		checkPlan(t, d, "SELECT "+columns+", "+q.Keys()+" FROM products"+tail, args)
	}
}

// checkPlan checks that SQLite finds and sorts by an index.
func checkPlan(t *testing.T, d *db.DB, query string, args []any) {
	t.Helper()
	rows, err := d.Query(t.Context(), "EXPLAIN QUERY PLAN "+query, args...)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var plan []string
	for rows.Next() {
		var id, parent, unused int
		var detail string
		if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
			t.Fatal(err)
		}
		plan = append(plan, detail)
	}
	text := strings.Join(plan, "; ")
	if !strings.Contains(text, "INDEX") || strings.Contains(text, "TEMP B-TREE") {
		t.Errorf("%s\n  is done by %s", query, text)
	}
}

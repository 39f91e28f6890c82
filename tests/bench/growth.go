package main

import (
	"context"
	"fmt"
	"math/rand/v2"

	orderpb "github.com/meshmart/meshmart/proto/order/v1"
	productpb "github.com/meshmart/meshmart/proto/product/v1"
	"github.com/meshmart/meshmart/tests/bench/drive"
	"github.com/meshmart/meshmart/tests/bench/procs"
	"github.com/meshmart/meshmart/tests/bench/rig"
	"github.com/meshmart/meshmart/tests/bench/stats"
)

// leastRows is what growth is compared with.
const leastRows = 1000

// size is a catalog or the orders of a shop, with so many rows, and the service
// that has it.
type size struct {
	rows   int
	target *target
	procs  []*procs.Proc
}

// growing are the calls whose cost is looked at, and how the tables of their
// service are filled, by one statement after another: $1 is the number of rows,
// and $2 a user who has fifty of the orders, however many others have. Then they
// are vacuumed, as tables are by themselves after a while.
var growing = []struct {
	service string
	fill    []string
	calls   map[string]maker
}{
	{"product", []string{`INSERT INTO products (id, sku, name, description, category, price_currency, price_micros, image, version, create_time, update_time)
		SELECT '01a1fe32-1be4-7f12-897d-' || lpad(to_hex(i), 12, '0'), 'GROW-' || i, 'Halden Stoneware Mug ' || i, repeat('stoneware ', 12), 'category-' || i % 50,
			'EUR', (i % 1000) * 1000000, '☕', 1, i, i FROM generate_series(1, $1::int) i WHERE $2::text <> ''`, `VACUUM ANALYZE`},
		map[string]maker{"GetProduct": getProduct(1), "ListProducts": listProducts, "ListProducts, filter": listFiltered}},
	{"order", []string{`INSERT INTO orders (id, user_id, request_id, fingerprint, state, reason, message, currency, total, payment_id, traceparent, version,
			create_time, update_time, step, attempts, due_time, payment_token, stock_committed, payment_captured, revision)
		SELECT '01a1fe32-1be4-7f12-897d-' || lpad(to_hex(i), 12, '0'), CASE WHEN i <= 50 THEN $2::text ELSE '01a1fe32-1be4-7f12-897d-' || lpad(to_hex(i / 50), 12, '0') END,
			i, '\x00', 'COMPLETED', '', '', 'EUR', 14900000, i, '', 3, i, i, 'DONE', 0, NULL, '', TRUE, TRUE, 5 FROM generate_series(1, $1::int) i`,
		`INSERT INTO order_items (order_id, position, product_id, sku, name, quantity, unit_price)
			SELECT id, 0, id, 'BENCH-000001', 'Halden Stoneware Mug', 1, total FROM orders WHERE $1::int > 0 AND $2::text <> ''`,
		`INSERT INTO order_changes (order_id, version, state, reason, change_time)
			SELECT id, v, 'COMPLETED', '', create_time FROM orders, generate_series(1, 3) v WHERE $1::int > 0 AND $2::text <> ''`, `VACUUM ANALYZE`},
		map[string]maker{"GetOrder": getOrder, "ListOrders": listOrders, "CreateOrder": createOrder}},
}

var getOrder = unary("order", 1, orderpb.NewOrderServiceClient, func(ctx context.Context, t *target, c orderpb.OrderServiceClient) error {
	_, err := c.GetOrder(ctx, &orderpb.GetOrderRequest{Id: grown(1 + rand.IntN(50))})
	return err
})

var listOrders = unary("order", 1, orderpb.NewOrderServiceClient, func(ctx context.Context, _ *target, c orderpb.OrderServiceClient) error {
	reply, err := c.ListOrders(ctx, &orderpb.ListOrdersRequest{PageSize: pageSize})
	if err == nil && len(reply.GetOrders()) != pageSize {
		err = fmt.Errorf("a page has %d orders", len(reply.GetOrders()))
	}
	return err
})

// listFiltered lists nine tenths of the catalog, by name.
var listFiltered = unary("product", 1, productpb.NewProductServiceClient, func(ctx context.Context, _ *target, c productpb.ProductServiceClient) error {
	reply, err := c.ListProducts(ctx, &productpb.ListProductsRequest{PageSize: pageSize, Filter: "price.units > 100", OrderBy: "name"})
	if err == nil && len(reply.GetProducts()) != pageSize {
		err = fmt.Errorf("a page has %d products", len(reply.GetProducts()))
	}
	return err
})

// grown is the id of the i-th row, from 1.
func grown(i int) string { return fmt.Sprintf("01a1fe32-1be4-7f12-897d-%012x", i) }

// growth measures calls by one client, with 1,000 rows, 10,000 and so on. All
// sizes are there at once, and take turns.
func (b *bench) growth(ctx context.Context) error {
	shop := b.targets[onPostgres]
	if shop == nil {
		b.leaveOut("growth: it is measured on PostgreSQL")
		return nil
	}
	for _, g := range growing {
		var sizes []size
		for rows := leastRows; rows <= b.cfg.Rows; rows *= 10 {
			b.say("growth: %d rows of %s", rows, g.service)
			s, err := b.filled(ctx, shop, g.service, rows, g.fill)
			if err != nil {
				return err
			}
			sizes = append(sizes, s)
		}
		for _, name := range names(g.calls) {
			if err := b.grow(ctx, name, g.calls[name], sizes); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		for _, s := range sizes {
			b.rig.Stop(s.procs[0])
		}
	}
	return nil
}

// filled starts a service that finds its tables full: it runs once before, to
// make them.
func (b *bench) filled(ctx context.Context, shop *target, service string, rows int, fill []string) (size, error) {
	database := fmt.Sprintf("grown_%s_%d", service, rows)
	url, err := b.rig.Postgres.Create(ctx, database)
	if err != nil {
		return size{}, err
	}
	p, _, err := b.rig.Extra(ctx, service, database, url)
	if err != nil {
		return size{}, err
	}
	b.rig.Stop(p)
	user, err := subject(shop.tokens[0])
	if err != nil {
		return size{}, err
	}
	if err := b.rig.Postgres.Fill(ctx, database, fill, rows, user); err != nil {
		return size{}, err
	}
	p, addr, err := b.rig.Extra(ctx, service, database, url)
	if err != nil {
		return size{}, err
	}
	t := &target{shop: &rig.Shop{Name: database, Addr: map[string]string{service: addr}}, tokens: shop.tokens[:1], products: shop.products}
	if service == "product" {
		t.products = nil
		for range 1000 {
			t.products = append(t.products, grown(1+rand.IntN(rows)))
		}
	}
	return size{rows, t, []*procs.Proc{p}}, nil
}

// grow measures one call.
func (b *bench) grow(ctx context.Context, name string, make maker, sizes []size) error {
	figures := map[int][]float64{}
	for range b.cfg.Rounds {
		for _, s := range sizes {
			call, shut, err := make(s.target, 1)
			if err != nil {
				return err
			}
			drive.Closed(ctx, 1, min(warm, b.cfg.Time/2), call)
			l := drive.Closed(ctx, 1, b.cfg.Time, call)
			shut()
			if l.Calls == 0 {
				return l.Err
			}
			figures[s.rows] = append(figures[s.rows], us(l, 0.5))
		}
	}
	for _, s := range sizes {
		b.results.Growth = append(b.results.Growth, Growth{Call: name, Rows: s.rows,
			P50: stats.Of(figures[s.rows]), ToLeast: stats.Ratios(figures[s.rows], figures[leastRows])})
	}
	return nil
}

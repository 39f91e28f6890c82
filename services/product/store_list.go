package product

import (
	"context"
	"fmt"

	"github.com/meshmart/meshmart/services/internal/list"
	"github.com/meshmart/meshmart/services/internal/money"
)

// listed is what a list of products can be filtered and sorted by. Each field
// has an index (schema/).
func listed() *list.Spec {
	currencies := list.Named(money.Currencies()...)
	return &list.Spec{
		Key: "id",
		Fields: map[string]list.Field{
			"sku":                 {Column: "sku", Filter: true},
			"name":                {Column: "name", Filter: true, Sort: true},
			"category":            {Column: "category", Filter: true, Sort: true},
			"price.units":         {Column: "price_micros", Kind: list.Int, Scale: 1_000_000, Filter: true, Sort: true},
			"price.currency_code": {Column: "price_currency", Kind: list.Enum, Values: currencies, Filter: true},
			"create_time":         {Column: "create_time", Kind: list.Time, Filter: true, Sort: true},
			"update_time":         {Column: "update_time", Kind: list.Time, Filter: true, Sort: true},
		},
	}
}

// inCatalog is the condition of the partial indexes, so that they are used.
const inCatalog = "delete_time IS NULL"

// page returns a page of the products in the catalog and the token of the next.
func (s *store) page(ctx context.Context, q *list.Query) ([]Product, string, error) {
	tail, args := q.Page(inCatalog)
	rows, err := s.db.Query(ctx, "SELECT "+columns+", "+q.Keys()+" FROM products"+tail, args...)
	if err != nil {
		return nil, "", fmt.Errorf("list products: %w", err)
	}
	ps, next, err := list.Scan(q, rows, scan)
	if err != nil {
		return nil, "", fmt.Errorf("list products: %w", err)
	}
	return ps, next, nil
}

// count returns how many products all pages have, as far as they are counted.
func (s *store) count(ctx context.Context, q *list.Query) (n int32, err error) {
	query, args := q.Count("products", inCatalog)
	if err := s.db.Row(ctx, query, args...).Scan(&n); err != nil {
		return 0, fmt.Errorf("count products: %w", err)
	}
	return n, nil
}

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

// page returns a page of the products in the catalog, the token of the next, and
// how many all pages have, as far as they are counted.
func (s *store) page(ctx context.Context, q *list.Query) (ps []Product, next string, total int, err error) {
	tail, args := q.Page(inCatalog)
	rows, err := s.db.Query(ctx, "SELECT "+columns+", "+q.Keys()+" FROM products"+tail, args...)
	if err != nil {
		return nil, "", 0, fmt.Errorf("list products: %w", err)
	}
	ps, next, err = list.Scan(q, rows, scan)
	if err != nil {
		return nil, "", 0, fmt.Errorf("list products: %w", err)
	}
	if q.Whole(next) {
		return ps, next, len(ps), nil
	}
	count, args := q.Count("products", inCatalog)
	if err := s.db.Row(ctx, count, args...).Scan(&total); err != nil {
		return nil, "", 0, fmt.Errorf("count products: %w", err)
	}
	return ps, next, total, nil
}

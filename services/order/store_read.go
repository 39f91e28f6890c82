package order

import (
	"context"
	"fmt"

	"github.com/meshmart/meshmart/services/internal/list"
)

// listing says how orders can be listed.
func listing() *list.Spec {
	return &list.Spec{
		Fields: map[string]list.Field{
			"state": {Column: "state", Kind: list.Enum, Filter: true, Values: list.Named(
				string(Pending), string(Confirmed), string(Completed), string(Rejected), string(Cancelling), string(Cancelled))},
			"user_id":     {Column: "user_id", Filter: true},
			"create_time": {Column: "create_time", Kind: list.Time, Filter: true, Sort: true},
			"update_time": {Column: "update_time", Kind: list.Time, Filter: true, Sort: true},
		},
		Order: "create_time desc",
		Key:   "id",
	}
}

// page is one page of a list.
type page struct {
	Orders    []Order
	NextToken string // "" on the last page
	Total     int    // of all pages
}

// list returns a page of the orders of the user, or of all users for "".
func (s *store) list(ctx context.Context, userID string, q *list.Query) (page, error) {
	var cond string
	var args []any
	if userID != "" {
		cond, args = "user_id = $1", []any{userID}
	}
	var p page
	tail, values := q.Page(cond, args...)
	rows, err := s.db.Query(ctx, `SELECT `+orderColumns+`, `+q.Keys()+` FROM orders`+tail, values...)
	if err != nil {
		return page{}, fmt.Errorf("list orders: %w", err)
	}
	p.Orders, p.NextToken, err = list.Scan(q, rows, func(r list.Row) (Order, error) { return scanOrder(r) })
	if err != nil {
		return page{}, fmt.Errorf("list orders: %w", err)
	}
	if p.Total = len(p.Orders); !q.Whole(p.NextToken) {
		count, values := q.Count("orders", cond, args...)
		if err := s.db.Row(ctx, count, values...).Scan(&p.Total); err != nil {
			return page{}, fmt.Errorf("count orders: %w", err)
		}
	}
	return p, s.fillItems(ctx, p.Orders)
}

func (s *store) withItems(ctx context.Context, o Order) (Order, error) {
	one := []Order{o}
	err := s.fillItems(ctx, one)
	return one[0], err
}

// fillItems reads the items of all the orders at once.
func (s *store) fillItems(ctx context.Context, orders []Order) error {
	if len(orders) == 0 {
		return nil
	}
	byID := make(map[string]*Order, len(orders))
	ids := make([]any, len(orders))
	for i := range orders {
		byID[orders[i].ID], ids[i] = &orders[i], orders[i].ID
	}
	rows, err := s.db.Query(ctx, `SELECT order_id, product_id, sku, name, quantity, unit_price FROM order_items
		WHERE order_id IN (`+places(0, len(ids))+`) ORDER BY order_id, position`, ids...)
	if err != nil {
		return fmt.Errorf("items of orders: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		var item Item
		if err := rows.Scan(&id, &item.ProductID, &item.SKU, &item.Name, &item.Quantity, &item.UnitPrice.Micros); err != nil {
			return fmt.Errorf("items of orders: %w", err)
		}
		o := byID[id]
		item.UnitPrice.Currency = o.Total.Currency
		o.Items = append(o.Items, item)
	}
	return rows.Err()
}

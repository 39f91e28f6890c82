package order

import (
	"context"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"google.golang.org/grpc/codes"

	orderpb "github.com/meshmart/meshmart/proto/order/v1"
	"github.com/meshmart/meshmart/services/internal/auth"
	"github.com/meshmart/meshmart/services/internal/db"
	"github.com/meshmart/meshmart/services/internal/fault"
)

func as(ctx context.Context, user string, roles ...string) context.Context {
	return auth.With(ctx, &auth.Principal{Subject: user, Roles: roles})
}

func newHandler(s *Orders) *handler {
	return &handler{orders: s, store: s.store, spec: listing()}
}

func create(ctx context.Context, t *testing.T, h *handler) *orderpb.Order {
	t.Helper()
	resp, err := h.CreateOrder(ctx, &orderpb.CreateOrderRequest{
		RequestId:    uuid.NewString(),
		PaymentToken: "tok_visa",
		Items:        []*orderpb.OrderItem{{ProductId: uuid.NewString(), Quantity: 3}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return resp.GetOrder()
}

func TestOthersDoNotSeeAnOrder(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		h := newHandler(newWorld().replica(d))
		o := create(as(within(t), "ann"), t, h)
		for _, tt := range []struct {
			name, id string
			ctx      context.Context
			want     codes.Code
		}{
			{"owner", o.GetId(), as(t.Context(), "ann"), codes.OK},
			{"admin", o.GetId(), as(t.Context(), "bob", auth.RoleAdmin), codes.OK},
			{"other", o.GetId(), as(t.Context(), "bob"), codes.NotFound},
			{"unknown", uuid.NewString(), as(t.Context(), "ann"), codes.NotFound},
			{"nobody", o.GetId(), t.Context(), codes.Unauthenticated},
		} {
			_, err := h.GetOrder(tt.ctx, &orderpb.GetOrderRequest{Id: tt.id})
			if fault.Code(err) != tt.want {
				t.Errorf("%s gets: %v", tt.name, err)
			}
			if tt.want == codes.OK {
				continue
			}
			if _, err := h.CancelOrder(tt.ctx, &orderpb.CancelOrderRequest{Id: tt.id}); fault.Code(err) != tt.want {
				t.Errorf("%s cancels: %v", tt.name, err)
			}
		}
	})
}

func TestAdministratorCancelsForTheShop(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		h := newHandler(newWorld().replica(d))
		o := create(as(within(t), "ann"), t, h)
		resp, err := h.CancelOrder(as(within(t), "root", auth.RoleAdmin), &orderpb.CancelOrderRequest{Id: o.GetId()})
		if err != nil || resp.GetOrder().GetReason() != "CANCELLED_BY_ADMIN" {
			t.Errorf("reason %q, %v", resp.GetOrder().GetReason(), err)
		}
	})
}

func TestListOrders(t *testing.T) {
	if err := listing().Check(); err != nil {
		t.Fatal(err)
	}
	each(t, func(t *testing.T, d *db.DB) {
		w := newWorld()
		h := newHandler(w.replica(d))
		var anns []string // newest first
		for i := range 5 {
			w.soldOut = i == 2
			anns = append([]string{create(as(within(t), "ann"), t, h).GetId()}, anns...)
		}
		bobs := create(as(within(t), "bob"), t, h).GetId()
		ann, root := as(t.Context(), "ann"), as(t.Context(), "root", auth.RoleAdmin)
		for _, tt := range []struct {
			ctx  context.Context
			req  *orderpb.ListOrdersRequest
			want []string
		}{
			{ann, &orderpb.ListOrdersRequest{}, anns},
			{ann, &orderpb.ListOrdersRequest{PageSize: 2}, anns},
			{ann, &orderpb.ListOrdersRequest{OrderBy: "update_time", PageSize: 1, Filter: `state = "CONFIRMED"`},
				[]string{anns[4], anns[3], anns[1], anns[0]}},
			{ann, &orderpb.ListOrdersRequest{Filter: `state = REJECTED`}, anns[2:3]},
			{ann, &orderpb.ListOrdersRequest{Filter: `user_id = "bob"`}, nil},
			{root, &orderpb.ListOrdersRequest{Filter: `user_id = "bob"`}, []string{bobs}},
			{root, &orderpb.ListOrdersRequest{}, append([]string{bobs}, anns...)},
			{root, &orderpb.ListOrdersRequest{Filter: `create_time < "2001-01-01T00:00:00Z"`}, nil},
		} {
			if diff := cmp.Diff(pages(tt.ctx, t, h, tt.req, len(tt.want)), tt.want); diff != "" {
				t.Errorf("%v: %s", tt.req, diff)
			}
		}
		_, err := h.ListOrders(ann, &orderpb.ListOrdersRequest{OrderBy: "total"})
		if f := fault.As(err); f == nil || f.Fields()[0].Field != "order_by" {
			t.Errorf("order by total: %v", err)
		}
	})
}

// pages returns the ids of all pages.
func pages(ctx context.Context, t *testing.T, h *handler, req *orderpb.ListOrdersRequest, total int) (ids []string) {
	t.Helper()
	for {
		resp, err := h.ListOrders(ctx, req)
		if err != nil {
			t.Fatal(err)
		}
		if int(resp.GetTotalSize()) != total {
			t.Errorf("total_size %d, want %d", resp.GetTotalSize(), total)
		}
		for _, o := range resp.GetOrders() {
			ids = append(ids, o.GetId())
			if len(o.GetItems()) != 1 || o.GetItems()[0].GetQuantity() != 3 || o.GetItems()[0].GetUnitPrice().GetUnits() != 2 {
				t.Errorf("items: %v", o.GetItems())
			}
		}
		if req.PageToken = resp.GetNextPageToken(); req.PageToken == "" {
			return ids
		}
	}
}

// A list must not read more than its page, however many orders there are.
func TestListsUseAnIndex(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		if t.Name() != "TestListsUseAnIndex/sqlite" {
			t.Skip("PostgreSQL plans by the number of rows")
		}
		for query, index := range map[string]string{
			`WHERE user_id = 'a' AND (create_time, id) < (1, 'b') ORDER BY create_time DESC, id DESC`: "orders_user_create_time",
			`WHERE user_id = 'a' AND (update_time, id) > (1, 'b') ORDER BY update_time, id`:           "orders_user_update_time",
			`WHERE (create_time, id) < (1, 'b') ORDER BY create_time DESC, id DESC`:                   "orders_create_time",
			`WHERE (update_time, id) < (1, 'b') ORDER BY update_time DESC, id DESC`:                   "orders_update_time",
			`WHERE due_time <= 1 ORDER BY due_time`:                                                   "orders_due",
			`WHERE due_time IS NOT NULL ORDER BY due_time`:                                            "orders_due",
		} {
			rows, err := d.Query(t.Context(), `EXPLAIN QUERY PLAN SELECT id FROM orders `+query+` LIMIT 10`)
			if err != nil {
				t.Fatal(err)
			}
			var plan []string
			for rows.Next() {
				var a, b, c int
				var line string
				if err := rows.Scan(&a, &b, &c, &line); err != nil {
					t.Fatal(err)
				}
				plan = append(plan, line)
			}
			rows.Close()
			if len(plan) != 1 || !contains(plan[0], "INDEX "+index) {
				t.Errorf("%s: %v, want %s alone", query, plan, index)
			}
		}
	})
}

func TestReasonShowsOnceItIsTrue(t *testing.T) {
	o := Order{State: Pending}.refuse(&refusal{Reason: "OUT_OF_STOCK", Message: "gone"}, stepUndoStock)
	if m := o.proto(); m.GetReason() != "" || m.GetMessage() != "" {
		t.Errorf("PENDING with the reason %s", m.GetReason())
	}
	o.State = Rejected
	if m := o.proto(); m.GetReason() != "OUT_OF_STOCK" || m.GetMessage() != "gone" {
		t.Error(fmt.Sprint(m))
	}
}

package order

import (
	"context"
	"strings"

	"google.golang.org/grpc"

	orderpb "github.com/meshmart/meshmart/proto/order/v1"
	"github.com/meshmart/meshmart/services/internal/auth"
	"github.com/meshmart/meshmart/services/internal/fault"
	"github.com/meshmart/meshmart/services/internal/idem"
	"github.com/meshmart/meshmart/services/internal/list"
)

// handler speaks order.v1. What only reads goes to the store, what changes
// something to Orders. Requests have been checked against the contract's rules
// before they arrive here, and their caller's token against its issuer.
type handler struct {
	orderpb.UnsafeOrderServiceServer // a missing method must not compile

	orders *Orders
	store  *store
	spec   *list.Spec
}

func (h *handler) CreateOrder(ctx context.Context, req *orderpb.CreateOrderRequest) (*orderpb.CreateOrderResponse, error) {
	user, err := caller(ctx)
	if err != nil {
		return nil, err
	}
	r := Request{
		UserID:      user.Subject,
		ID:          id(req.GetRequestId()),
		Fingerprint: idem.KeyOf(ctx, req).Fingerprint,
		Token:       req.GetPaymentToken(),
	}
	for _, item := range req.GetItems() {
		r.Items = append(r.Items, Item{ProductID: id(item.GetProductId()), Quantity: item.GetQuantity()})
	}
	o, err := h.orders.Place(ctx, r)
	if err != nil {
		return nil, err
	}
	return &orderpb.CreateOrderResponse{Order: o.proto()}, nil
}

func (h *handler) GetOrder(ctx context.Context, req *orderpb.GetOrderRequest) (*orderpb.GetOrderResponse, error) {
	o, err := h.visible(ctx, id(req.GetId()))
	if err != nil {
		return nil, err
	}
	return &orderpb.GetOrderResponse{Order: o.proto()}, nil
}

func (h *handler) ListOrders(ctx context.Context, req *orderpb.ListOrdersRequest) (*orderpb.ListOrdersResponse, error) {
	user, err := caller(ctx)
	if err != nil {
		return nil, err
	}
	q, err := h.spec.Parse(req)
	if err != nil {
		return nil, err
	}
	owner := user.Subject
	if user.Admin() {
		owner = ""
	}
	p, err := h.store.list(ctx, owner, q)
	if err != nil {
		return nil, err
	}
	resp := &orderpb.ListOrdersResponse{NextPageToken: p.NextToken, TotalSize: int32(p.Total)}
	for _, o := range p.Orders {
		resp.Orders = append(resp.Orders, o.proto())
	}
	return resp, nil
}

func (h *handler) CancelOrder(ctx context.Context, req *orderpb.CancelOrderRequest) (*orderpb.CancelOrderResponse, error) {
	o, err := h.visible(ctx, id(req.GetId()))
	if err != nil {
		return nil, err
	}
	reason, message := "CANCELLED_BY_USER", "cancelled as you asked"
	if user, _ := auth.From(ctx); user.Subject != o.UserID {
		reason, message = "CANCELLED_BY_ADMIN", "cancelled by the shop"
	}
	o, err = h.orders.Cancel(ctx, o.ID, reason, message)
	if err != nil {
		return nil, err
	}
	return &orderpb.CancelOrderResponse{Order: o.proto()}, nil
}

func (h *handler) WatchOrder(req *orderpb.WatchOrderRequest, stream grpc.ServerStreamingServer[orderpb.WatchOrderResponse]) error {
	user, err := caller(stream.Context())
	if err != nil {
		return err
	}
	return h.orders.Watch(stream.Context(), id(req.GetId()), Watcher{
		After: req.GetAfterVersion(),
		May:   func(o Order) error { return mayRead(user, o) },
		Send: func(c Change, o *Order) error {
			return stream.Send(&orderpb.WatchOrderResponse{Change: c.proto(), Order: o.proto()})
		},
	})
}

// visible returns the order if the caller may see it.
func (h *handler) visible(ctx context.Context, id string) (Order, error) {
	user, err := caller(ctx)
	if err != nil {
		return Order{}, err
	}
	o, err := h.store.order(ctx, id)
	if err == nil {
		err = mayRead(user, o)
	}
	if err != nil {
		return Order{}, err
	}
	return o, nil
}

// mayRead returns an error to others than may see the order: to them it does not
// exist, so that nobody learns whose orders there are.
func mayRead(user *auth.Principal, o Order) error {
	if !user.MayRead(o.UserID) {
		return errUnknown
	}
	return nil
}

func caller(ctx context.Context) (*auth.Principal, error) {
	user, ok := auth.From(ctx)
	if !ok {
		return nil, fault.Unauthenticated("TOKEN_MISSING", "sign in first")
	}
	return user, nil
}

// id returns a UUID as it is stored; it may come in capitals (RFC 9562).
func id(s string) string { return strings.ToLower(s) }

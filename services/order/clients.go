package order

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"

	inventorypb "github.com/meshmart/meshmart/proto/inventory/v1"
	paymentpb "github.com/meshmart/meshmart/proto/payment/v1"
	productpb "github.com/meshmart/meshmart/proto/product/v1"
	"github.com/meshmart/meshmart/services/internal/fault"
	"github.com/meshmart/meshmart/services/internal/money"
)

// productClient is the catalog behind gRPC.
type productClient struct {
	client productpb.ProductServiceClient
}

func (c productClient) Products(ctx context.Context, ids []string) ([]Product, error) {
	resp, err := c.client.BatchGetProducts(ctx, &productpb.BatchGetProductsRequest{Ids: ids})
	if fault.Code(err) == codes.NotFound {
		return nil, noProduct(ids, err)
	}
	if err != nil {
		return nil, err
	}
	if len(resp.GetProducts()) != len(ids) {
		return nil, fmt.Errorf("%d products for %d ids", len(resp.GetProducts()), len(ids))
	}
	products := make([]Product, len(ids))
	for i, p := range resp.GetProducts() {
		price, err := money.FromProto("price", p.GetPrice())
		if err != nil { // the catalog's mistake, not our caller's: its text only
			return nil, fmt.Errorf("product %s: %v", p.GetId(), err)
		}
		products[i] = Product{ID: p.GetId(), SKU: p.GetSku(), Name: p.GetName(), Price: price}
	}
	return products, nil
}

// noProduct names the item whose product does not exist, if the catalog says
// which one that is.
func noProduct(ids []string, err error) error {
	if i := slices.Index(ids, fault.As(err).Detail("product_id")); i >= 0 {
		return fault.Invalid(fmt.Sprintf("items[%d].product_id", i), "there is no product %s", ids[i])
	}
	return fault.Invalid("items", "a product does not exist")
}

// inventoryClient is the stock behind gRPC.
type inventoryClient struct {
	client inventorypb.InventoryServiceClient
}

func (c inventoryClient) Reserve(ctx context.Context, orderID string, items []Item) error {
	req := &inventorypb.ReserveRequest{OrderId: orderID}
	for _, item := range items {
		req.Items = append(req.Items, &inventorypb.Item{ProductId: item.ProductID, Quantity: item.Quantity})
	}
	_, err := c.client.Reserve(ctx, req)
	err = outcome(err, "PRODUCT_UNAVAILABLE")
	if r := refused(err); r != nil {
		r.Message = named(r.Message, items)
	}
	return err
}

// named puts the products' names in the place of their ids, which the inventory
// knows them by.
func named(text string, items []Item) string {
	for _, item := range items {
		text = strings.ReplaceAll(text, item.ProductID, item.Name)
	}
	return text
}

func (c inventoryClient) Release(ctx context.Context, orderID string) error {
	_, err := c.client.Release(ctx, &inventorypb.ReleaseRequest{OrderId: orderID})
	return err
}

func (c inventoryClient) Commit(ctx context.Context, orderID string) error {
	_, err := c.client.Commit(ctx, &inventorypb.CommitRequest{OrderId: orderID})
	return outcome(err, "ORDER_RELEASED")
}

// paymentClient is the payments behind gRPC.
type paymentClient struct {
	client paymentpb.PaymentServiceClient
}

func (c paymentClient) Authorize(ctx context.Context, o Order) (string, error) {
	resp, err := c.client.Authorize(ctx, &paymentpb.AuthorizeRequest{
		OrderId: o.ID, UserId: o.UserID, Amount: o.Total.Proto(), PaymentToken: o.token,
	})
	if err != nil {
		return "", outcome(err, "PAYMENT_REFUSED")
	}
	p := resp.GetPayment()
	switch p.GetState() {
	case paymentpb.Payment_AUTHORIZED, paymentpb.Payment_CAPTURED:
		return p.GetId(), nil
	case paymentpb.Payment_DECLINED:
		return p.GetId(), &refusal{
			Reason:  cmp.Or(p.GetReason(), "CARD_DECLINED"),
			Message: cmp.Or(p.GetMessage(), "the card was declined"),
			Settled: true,
		}
	case paymentpb.Payment_VOIDED, paymentpb.Payment_REFUNDED:
		return p.GetId(), &refusal{Reason: "PAYMENT_VOIDED", Message: "the payment was given back"}
	}
	return "", fmt.Errorf("payment %s is still %s", p.GetId(), p.GetState())
}

func (c paymentClient) Void(ctx context.Context, orderID string) error {
	_, err := c.client.Void(ctx, &paymentpb.VoidRequest{OrderId: orderID})
	return err
}

func (c paymentClient) Refund(ctx context.Context, orderID string) error {
	_, err := c.client.Refund(ctx, &paymentpb.RefundRequest{OrderId: orderID})
	return err
}

func (c paymentClient) Capture(ctx context.Context, orderID string) error {
	_, err := c.client.Capture(ctx, &paymentpb.CaptureRequest{OrderId: orderID})
	if r := refused(outcome(err, "")); r != nil {
		return &refusal{Reason: reasonPaymentFailed, Message: r.Message}
	}
	return err
}

// outcome returns a *refusal for an error that is an answer to the request:
// repeating it would bring the same. Other errors, also those that a mesh or a
// limit answers with, are no outcome.
func outcome(err error, reason string) error {
	switch fault.Code(err) {
	case codes.FailedPrecondition:
		return &refusal{Reason: cmp.Or(fault.Reason(err), reason), Message: err.Error()}
	case codes.NotFound, codes.InvalidArgument, codes.OutOfRange, codes.AlreadyExists:
		return &refusal{Reason: reason, Message: err.Error()}
	}
	return err
}

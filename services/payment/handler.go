package payment

import (
	"context"
	"strconv"
	"strings"

	"google.golang.org/protobuf/types/known/timestamppb"

	paymentpb "github.com/meshmart/meshmart/proto/payment/v1"
	"github.com/meshmart/meshmart/services/internal/auth"
	"github.com/meshmart/meshmart/services/internal/fault"
	"github.com/meshmart/meshmart/services/internal/money"
)

// handler speaks payment.v1. It converts and delegates: what moves money goes
// to the Payments, what only reads goes to the store.
type handler struct {
	paymentpb.UnsafePaymentServiceServer // a missing method must not compile

	payments *Payments
	store    *store
}

func (h *handler) Authorize(ctx context.Context, req *paymentpb.AuthorizeRequest) (*paymentpb.AuthorizeResponse, error) {
	amount, err := money.FromProto("amount", req.GetAmount())
	if err != nil {
		return nil, err
	}
	p, err := h.payments.Authorize(ctx, AuthorizeRequest{
		OrderID: id(req.GetOrderId()),
		UserID:  id(req.GetUserId()),
		Amount:  amount,
		Token:   req.GetPaymentToken(),
	})
	if err != nil {
		return nil, err
	}
	return &paymentpb.AuthorizeResponse{Payment: p.proto()}, nil
}

func (h *handler) Capture(ctx context.Context, req *paymentpb.CaptureRequest) (*paymentpb.CaptureResponse, error) {
	p, err := h.payments.Capture(ctx, id(req.GetOrderId()))
	if err != nil {
		return nil, err
	}
	return &paymentpb.CaptureResponse{Payment: p.proto()}, nil
}

func (h *handler) Void(ctx context.Context, req *paymentpb.VoidRequest) (*paymentpb.VoidResponse, error) {
	p, err := h.payments.Void(ctx, id(req.GetOrderId()))
	if err != nil {
		return nil, err
	}
	if p.tombstone() {
		return &paymentpb.VoidResponse{}, nil
	}
	return &paymentpb.VoidResponse{Payment: p.proto()}, nil
}

func (h *handler) Refund(ctx context.Context, req *paymentpb.RefundRequest) (*paymentpb.RefundResponse, error) {
	p, err := h.payments.Refund(ctx, id(req.GetOrderId()))
	if err != nil {
		return nil, err
	}
	if p.tombstone() {
		return &paymentpb.RefundResponse{}, nil
	}
	return &paymentpb.RefundResponse{Payment: p.proto()}, nil
}

func (h *handler) GetPayment(ctx context.Context, req *paymentpb.GetPaymentRequest) (*paymentpb.GetPaymentResponse, error) {
	p, found, err := h.store.byID(ctx, id(req.GetId()))
	if err != nil {
		return nil, err
	}
	who, _ := auth.From(ctx)
	if !found || !who.MayRead(p.UserID) {
		return nil, fault.NotFound("there is no payment %s", req.GetId())
	}
	return &paymentpb.GetPaymentResponse{Payment: p.proto()}, nil
}

// id returns a UUID as it is stored; it may come in capitals (RFC 9562).
func id(s string) string { return strings.ToLower(s) }

func (p Payment) proto() *paymentpb.Payment {
	m := &paymentpb.Payment{
		Id:           p.ID,
		OrderId:      p.OrderID,
		UserId:       p.UserID,
		State:        p.public(),
		Reason:       p.Reason,
		Message:      p.Message,
		ProcessorRef: p.ProcessorRef,
		CreateTime:   timestamppb.New(p.Created),
		UpdateTime:   timestamppb.New(p.Updated),
		Etag:         strconv.FormatInt(p.Version, 10),
	}
	if !p.tombstone() {
		m.Amount = p.Amount.Proto()
	}
	return m
}

// public returns the state of the contract: of a change under way the one that
// it began in.
func (p Payment) public() paymentpb.Payment_State {
	switch p.State {
	case capturing:
		return paymentpb.Payment_AUTHORIZED
	case refunding:
		return paymentpb.Payment_CAPTURED
	case voiding:
		if p.ProcessorRef == "" {
			return paymentpb.Payment_PENDING
		}
		return paymentpb.Payment_AUTHORIZED
	}
	return paymentpb.Payment_State(paymentpb.Payment_State_value[string(p.State)])
}

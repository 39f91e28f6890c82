package order

import (
	"strconv"

	"google.golang.org/protobuf/types/known/timestamppb"

	orderpb "github.com/meshmart/meshmart/proto/order/v1"
)

// proto returns the order as the contract has it.
func (o Order) proto() *orderpb.Order {
	m := &orderpb.Order{
		Id:         o.ID,
		UserId:     o.UserID,
		State:      o.State.proto(),
		Total:      o.Total.Proto(),
		PaymentId:  o.PaymentID,
		TraceId:    o.TraceID(),
		Version:    o.Version,
		CreateTime: timestamppb.New(o.CreateTime),
		UpdateTime: timestamppb.New(o.UpdateTime),
		Etag:       strconv.FormatInt(o.Version, 10),
	}
	if o.State != Pending { // till then the reason is only why it may become REJECTED
		m.Reason, m.Message = o.Reason, o.Message
	}
	for _, item := range o.Items {
		m.Items = append(m.Items, &orderpb.LineItem{
			ProductId: item.ProductID, Sku: item.SKU, Name: item.Name,
			Quantity: item.Quantity, UnitPrice: item.UnitPrice.Proto(),
		})
	}
	return m
}

func (c Change) proto() *orderpb.OrderChange {
	return &orderpb.OrderChange{Version: c.Version, State: c.State.proto(), Reason: c.Reason, Time: timestamppb.New(c.Time)}
}

// proto returns the state as the contract has it: under the same name.
func (s State) proto() orderpb.Order_State {
	return orderpb.Order_State(orderpb.Order_State_value[string(s)])
}

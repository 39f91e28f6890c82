package shopctl

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	orderpb "github.com/meshmart/meshmart/proto/order/v1"
	"github.com/meshmart/meshmart/services/shopctl/price"
	"github.com/meshmart/meshmart/services/shopctl/rest"
)

func (c *cli) orderCommand() *cobra.Command {
	g := group("order", "place orders and follow them",
		c.orderCreateCommand(), c.orderGetCommand(), c.orderListCommand(), c.orderWatchCommand(), c.orderCancelCommand())
	g.Aliases = []string{"orders"}
	return g
}

func (c *cli) orderCreateCommand() *cobra.Command {
	var items []string
	var watch bool
	in := &orderpb.CreateOrderRequest{}
	cmd := &cobra.Command{
		Use: "create --item PRODUCT=QUANTITY", Short: "place an order and wait for the decision", Args: cobra.NoArgs,
		Long: `Place an order, for products by their sku or id, and wait for the decision:
CONFIRMED, or REJECTED with a reason (exit code 1).

The request has an id. While the shop does not answer, the same request is sent
again; because of the id the order is placed once, however often it arrives. If it
stays in doubt, the same command with --request-id finds out.`,
		Example: "  shopctl order create --item KIT-001=2 --item KIT-003 --card tok_visa --watch",
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			var err error
			if in.Items, err = c.orderItems(ctx, items); err != nil {
				return err
			}
			o, raw, err := c.placeOrder(ctx, in)
			if err != nil {
				return err
			}
			if !watch {
				c.out.reply(raw, func() *table { return orderDetails(o) })
				return c.verdict(o)
			}
			if c.out.json {
				c.out.reply(raw, nil)
			}
			return c.followOrder(ctx, o)
		},
	}
	f := cmd.Flags()
	f.StringArrayVarP(&items, "item", "i", nil, "PRODUCT=QUANTITY, or PRODUCT for one of it; several times for several")
	f.StringVar(&in.PaymentToken, "card", "tok_visa", "what the payment processor knows the card by")
	f.StringVar(&in.RequestId, "request-id", "", "a UUID: the command repeated with it places one order")
	f.BoolVar(&watch, "watch", false, "follow the order to its end")
	return cmd
}

// orderItems reads PRODUCT=QUANTITY arguments.
func (c *cli) orderItems(ctx context.Context, args []string) ([]*orderpb.OrderItem, error) {
	if len(args) == 0 {
		return nil, usagef("order what? give --item PRODUCT=QUANTITY")
	}
	refs := make([]string, len(args))
	items := make([]*orderpb.OrderItem, len(args))
	for i, arg := range args {
		ref, text, given := strings.Cut(arg, "=")
		n := int64(1)
		if given {
			var err error
			if n, err = strconv.ParseInt(text, 10, 32); err != nil {
				return nil, usagef("--item %s: %q is not a quantity", arg, text)
			}
		}
		refs[i], items[i] = ref, &orderpb.OrderItem{Quantity: int32(n)}
	}
	ids, err := c.productIDs(ctx, refs)
	if err != nil {
		return nil, err
	}
	for i, id := range ids {
		items[i].ProductId = id
	}
	return items, nil
}

// placeOrder places an order under a request id, which an error names if the
// order may have been placed all the same.
func (c *cli) placeOrder(ctx context.Context, in *orderpb.CreateOrderRequest) (*orderpb.Order, []byte, error) {
	if in.RequestId == "" {
		in.RequestId = uuid.NewString()
	}
	out := &orderpb.CreateOrderResponse{}
	raw, err := c.shop.Call(ctx, orderpb.OrderService_CreateOrder_FullMethodName, in, out)
	if err != nil && (rest.Transient(err) || ctx.Err() != nil) {
		c.notice("the order may have been placed; the same command with --request-id %s finds out", in.RequestId)
	}
	return out.GetOrder(), raw, err
}

// verdict tells what is next for an order, or why it is refused.
func (c *cli) verdict(o *orderpb.Order) error {
	switch o.GetState() {
	case orderpb.Order_REJECTED, orderpb.Order_CANCELLED, orderpb.Order_CANCELLING:
		return fmt.Errorf("the order is %s: %s", o.GetState(), because(o))
	case orderpb.Order_PENDING:
		c.notice("not decided yet; follow it with: shopctl order watch %s", o.GetId())
	}
	return nil
}

func because(o *orderpb.Order) string {
	if o.GetMessage() == "" {
		return o.GetReason()
	}
	return o.GetReason() + ": " + o.GetMessage()
}

// followOrder shows the rest of an order's way, and the order at its end.
func (c *cli) followOrder(ctx context.Context, o *orderpb.Order) error {
	ctx, cancel := c.unhurried(ctx)
	defer cancel()
	last, err := c.watchOrder(ctx, o.GetId(), c.showOrderChange)
	if err != nil {
		return err
	}
	if !c.out.json {
		c.out.say("")
		c.out.table(orderDetails(last))
	}
	return c.verdict(last)
}

// watchOrder follows an order from its first state and returns it as it is at
// the end.
func (c *cli) watchOrder(ctx context.Context, id string, show func(*orderpb.WatchOrderResponse)) (*orderpb.Order, error) {
	var last *orderpb.Order
	e := &orderpb.WatchOrderResponse{}
	err := c.shop.Watch(ctx, orderpb.OrderService_WatchOrder_FullMethodName, &orderpb.WatchOrderRequest{Id: id}, e, func(raw []byte) error {
		if c.out.json {
			c.out.reply(raw, nil)
		} else {
			show(e)
		}
		last = e.GetOrder()
		return nil
	})
	if err == nil && last == nil {
		err = errors.New("the shop tells nothing of the order")
	}
	return last, err
}

func (c *cli) showOrderChange(e *orderpb.WatchOrderResponse) {
	t := &table{head: []string{"", "", ""}, flexible: 2}
	t.add(e.GetChange().GetTime().AsTime().Local().Format("15:04:05.000"), e.GetChange().GetState(), e.GetChange().GetReason())
	c.out.table(t)
}

func orderDetails(o *orderpb.Order) *table {
	t := details()
	t.field("id", o.GetId())
	t.field("state", o.GetState())
	t.field("reason", because(o))
	for i, it := range o.GetItems() {
		name := ""
		if i == 0 {
			name = "items"
		}
		t.add(name, fmt.Sprintf("%d x %s  %s  %s", it.GetQuantity(), it.GetSku(), price.Show(it.GetUnitPrice()), it.GetName()))
	}
	t.field("total", price.Show(o.GetTotal()))
	t.field("payment", o.GetPaymentId())
	t.field("created", clock(o.GetCreateTime()))
	t.field("updated", clock(o.GetUpdateTime()))
	t.field("trace", o.GetTraceId())
	return t
}

func (c *cli) orderGetCommand() *cobra.Command {
	return &cobra.Command{
		Use: "get ORDER", Short: "show an order", Args: orderID,
		RunE: func(cmd *cobra.Command, args []string) error {
			out := &orderpb.GetOrderResponse{}
			raw, err := c.shop.Call(cmd.Context(), orderpb.OrderService_GetOrder_FullMethodName, &orderpb.GetOrderRequest{Id: args[0]}, out)
			if err != nil {
				return err
			}
			c.out.reply(raw, func() *table { return orderDetails(out.GetOrder()) })
			return nil
		},
	}
}

// orderID wants the id of an order as the only argument.
func orderID(cmd *cobra.Command, args []string) error {
	if err := cobra.ExactArgs(1)(cmd, args); err != nil {
		return err
	}
	if !isUUID(args[0]) {
		return fmt.Errorf("%q is not the id of an order", args[0])
	}
	return nil
}

func (c *cli) orderListCommand() *cobra.Command {
	var q query
	var state string
	cmd := &cobra.Command{
		Use: "list", Short: "list your orders, newest first (administrators: all)", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if state != "" {
				q.and("state = " + literal(strings.ToUpper(state)))
			}
			return q.pages(c, "orders", func(token string, size int32) (page, error) {
				out := &orderpb.ListOrdersResponse{}
				in := &orderpb.ListOrdersRequest{PageSize: size, PageToken: token, Filter: q.filter, OrderBy: q.order}
				raw, err := c.shop.Call(cmd.Context(), orderpb.OrderService_ListOrders_FullMethodName, in, out)
				return page{raw, out, len(out.GetOrders()), func() *table { return orderTable(out.GetOrders()) }}, err
			})
		},
	}
	q.flags(cmd, `create_time > "2026-01-01T00:00:00Z"`, "create_time")
	cmd.Flags().StringVar(&state, "state", "", `in this state only, such as "completed"`)
	return cmd
}

func orderTable(orders []*orderpb.Order) *table {
	t := &table{head: []string{"ID", "STATE", "REASON", ">ITEMS", ">TOTAL", "CREATED"}, flexible: 2}
	for _, o := range orders {
		n := int32(0)
		for _, it := range o.GetItems() {
			n += it.GetQuantity()
		}
		t.add(o.GetId(), o.GetState(), o.GetReason(), n, price.Show(o.GetTotal()), clock(o.GetCreateTime()))
	}
	return t
}

func (c *cli) orderWatchCommand() *cobra.Command {
	return &cobra.Command{
		Use: "watch ORDER", Short: "follow an order through its states to the end", Args: orderID,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := c.unhurried(cmd.Context())
			defer cancel()
			_, err := c.watchOrder(ctx, args[0], c.showOrderChange)
			return err
		},
	}
}

func (c *cli) orderCancelCommand() *cobra.Command {
	return &cobra.Command{
		Use: "cancel ORDER", Short: "take an order back", Args: orderID,
		RunE: func(cmd *cobra.Command, args []string) error {
			out := &orderpb.CancelOrderResponse{}
			raw, err := c.shop.Call(cmd.Context(), orderpb.OrderService_CancelOrder_FullMethodName, &orderpb.CancelOrderRequest{Id: args[0]}, out)
			if err != nil {
				return err
			}
			c.out.reply(raw, func() *table { return orderDetails(out.GetOrder()) })
			if out.GetOrder().GetState() == orderpb.Order_CANCELLING {
				c.notice("under way; follow it with: shopctl order watch %s", args[0])
			}
			return nil
		},
	}
}

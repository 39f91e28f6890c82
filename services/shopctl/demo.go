package shopctl

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	inventorypb "github.com/meshmart/meshmart/proto/inventory/v1"
	orderpb "github.com/meshmart/meshmart/proto/order/v1"
	productpb "github.com/meshmart/meshmart/proto/product/v1"
	userpb "github.com/meshmart/meshmart/proto/user/v1"
	"github.com/meshmart/meshmart/services/shopctl/price"
	"github.com/meshmart/meshmart/services/shopctl/signin"
)

// demo is one visit of a new customer.
type demo struct {
	*cli
	card, product string
	first         time.Time // when the order came into being
}

func (c *cli) demoCommand() *cobra.Command {
	d := &demo{cli: c}
	cmd := &cobra.Command{
		Use: "demo", Short: "be a new customer: register, order, watch, see the trace", Args: cobra.NoArgs,
		Long: `Register a new user, order one of a product that is there, and watch the order to its
end. Succeeds if the order is COMPLETED or, with a card that is known to be declined
such as tok_chargeDeclined, refused as it should be. Who is signed in stays so.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := c.unhurried(cmd.Context())
			defer cancel()
			return d.run(ctx)
		},
	}
	cmd.Flags().StringVar(&d.card, "card", "tok_visa", "what the payment processor knows the card by")
	cmd.Flags().StringVar(&d.product, "product", "", "what to order, by sku or id; else any that is there")
	return cmd
}

func (d *demo) run(ctx context.Context) error {
	if err := d.register(ctx); err != nil {
		return err
	}
	p, before, err := d.choose(ctx)
	if err != nil {
		return err
	}
	d.say("product", "%s  %s, %s, %s available", p.GetSku(), p.GetName(), price.Show(p.GetPrice()), count(int64(before)))
	o, raw, err := d.placeOrder(ctx, &orderpb.CreateOrderRequest{
		Items: []*orderpb.OrderItem{{ProductId: p.GetId(), Quantity: 1}}, PaymentToken: d.card,
	})
	if err != nil {
		return err
	}
	if d.out.json {
		d.out.reply(raw, nil)
	}
	d.say("order", "%s  with %s", o.GetId(), d.card)
	d.first = o.GetCreateTime().AsTime()
	if o, err = d.watchOrder(ctx, o.GetId(), d.step); err != nil {
		return err
	}
	after, err := d.stock(ctx, p.GetId())
	if err != nil {
		return err
	}
	d.say("stock", "%s available", count(int64(after)))
	d.showTrace(ctx, o.GetTraceId())
	d.say("console", "%s/#/orders/%s (for administrators)", d.shop.Server, o.GetId())
	return d.judge(o)
}

func (d *demo) say(name, format string, args ...any) {
	d.out.say("%-9s"+format, append([]any{name}, args...)...)
}

// register makes this run the session of a user of its own.
func (d *demo) register(ctx context.Context) error {
	name := strings.ToLower(rand.Text())
	email, password := "demo-"+name[:10]+"@example.com", rand.Text()
	in := &userpb.CreateUserRequest{Email: email, Password: password, DisplayName: "Demo"}
	if _, err := d.shop.Call(ctx, userpb.UserService_CreateUser_FullMethodName, in, &userpb.CreateUserResponse{}); err != nil {
		return err
	}
	out := &userpb.LoginResponse{}
	if _, err := d.shop.Call(ctx, userpb.AuthService_Login_FullMethodName, &userpb.LoginRequest{Email: email, Password: password}, out); err != nil {
		return err
	}
	d.shop.Session = signin.Passing(out.GetAccessToken())
	d.say("user", "%s", email)
	return nil
}

// choose returns a product and how many of it are available.
func (d *demo) choose(ctx context.Context) (*productpb.Product, int32, error) {
	if d.product != "" {
		p, _, err := d.cli.product(ctx, d.product)
		if err != nil {
			return nil, 0, err
		}
		n, err := d.stock(ctx, p.GetId())
		return p, n, err
	}
	out := &productpb.ListProductsResponse{}
	if _, err := d.shop.Call(ctx, productpb.ProductService_ListProducts_FullMethodName, &productpb.ListProductsRequest{PageSize: 20}, out); err != nil {
		return nil, 0, err
	}
	products := out.GetProducts()
	mathrand.Shuffle(len(products), func(i, j int) { products[i], products[j] = products[j], products[i] })
	for _, p := range products {
		if n, err := d.stock(ctx, p.GetId()); err == nil && n > 0 {
			return p, n, nil
		}
	}
	return nil, 0, errors.New("there is nothing to buy; fill the catalog with: shopctl products import FILE")
}

func (d *demo) stock(ctx context.Context, id string) (int32, error) {
	out := &inventorypb.GetStockResponse{}
	_, err := d.shop.Call(ctx, inventorypb.InventoryService_GetStock_FullMethodName, &inventorypb.GetStockRequest{ProductId: id}, out)
	return out.GetStock().GetAvailable(), err
}

// step shows one state and how long after the order's beginning it was reached.
func (d *demo) step(e *orderpb.WatchOrderResponse) {
	after := e.GetChange().GetTime().AsTime().Sub(d.first)
	t := &table{head: []string{"", "", ""}, flexible: 2}
	t.add(fmt.Sprintf("%15v", short(after)), e.GetChange().GetState(), e.GetChange().GetReason())
	d.out.table(t)
}

// showTrace tells where the trace is and, if the shop itself keeps it, which
// services it goes through.
func (d *demo) showTrace(ctx context.Context, id string) {
	d.say("trace", "%s", id)
	var t traceReply
	for last := -1; len(t.Spans) > last; { // the last spans come a little later
		last = len(t.Spans)
		if d.pause(ctx, 300*time.Millisecond) != nil {
			return
		}
		raw, err := d.shop.Get(ctx, "/console/traces/"+url.PathEscape(id))
		if err != nil || json.Unmarshal(raw, &t) != nil {
			return // it is kept elsewhere, and no part of the demo
		}
	}
	var services []string
	for _, s := range t.Spans {
		if !slices.Contains(services, s.Service) {
			services = append(services, s.Service)
		}
	}
	d.say("", "%d spans in %s", len(t.Spans), strings.Join(services, ", "))
	d.say("", "%s", cmp.Or(t.URL, d.shop.Server+"/console/traces/"+id))
}

// traceReply is what the gateway's console tells of a trace.
type traceReply struct {
	URL   string `json:"url"` // in Jaeger; "" if there is none
	Spans []struct {
		Service string `json:"service"`
	} `json:"spans"`
}

// declines reports whether a card's name says that it is declined, as those of
// Stripe's test tokens do.
func declines(card string) bool {
	card = strings.ToLower(card)
	for _, word := range []string{"declined", "customerfail", "cvccheckfail", "radarblock", "levelhighest", "required"} {
		if strings.Contains(card, word) {
			return true
		}
	}
	return false
}

// judge says whether the order ended as it should.
func (d *demo) judge(o *orderpb.Order) error {
	state, bad := o.GetState(), declines(d.card)
	refused := state == orderpb.Order_REJECTED || state == orderpb.Order_CANCELLED
	switch {
	case state == orderpb.Order_COMPLETED && !bad:
		d.notice("COMPLETED, as it should be")
		return nil
	case refused && bad:
		d.notice("%s, as it should be with %s: %s", state, d.card, because(o))
		return nil
	case refused:
		return fmt.Errorf("the order is %s: %s", state, because(o))
	}
	return fmt.Errorf("the order is %s, and should not be with %s", state, d.card)
}

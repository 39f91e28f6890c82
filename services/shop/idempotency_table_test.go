package shop

import (
	"fmt"

	"github.com/google/uuid"
	"google.golang.org/genproto/googleapis/type/money"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	inventorypb "github.com/meshmart/meshmart/proto/inventory/v1"
	orderpb "github.com/meshmart/meshmart/proto/order/v1"
	paymentpb "github.com/meshmart/meshmart/proto/payment/v1"
	productpb "github.com/meshmart/meshmart/proto/product/v1"
	userpb "github.com/meshmart/meshmart/proto/user/v1"
)

const (
	goodCard = "tok_visa"
	badCard  = "tok_chargeDeclined"

	// What is announced of an order that was completed, and of one rejected for
	// its card; with the customer and the product of which they are.
	soldEvents = "order.completed order.confirmed order.created payment.authorized payment.captured" +
		" product.created stock.committed stock.reserved user.created"
	declinedEvents  = "order.created order.rejected payment.declined product.created stock.released stock.reserved user.created"
	cancelledEvents = "order.cancelled order.cancelling " +
		"order.completed order.confirmed order.created payment.authorized payment.captured payment.refunded" +
		" product.created stock.committed stock.released stock.reserved user.created"
)

// repetitions is the table of all RPCs that change something.
func repetitions() []repetition {
	return []repetition{
		{rpc: "user.v1.UserService/CreateUser", setup: (*caller).createUser, announced: "user.created"},
		{rpc: "user.v1.UserService/UpdateUser", setup: (*caller).updateUser, announced: "user.created user.updated"},
		{rpc: "user.v1.UserService/DeleteUser", setup: (*caller).deleteUser, announced: "user.created user.deleted user.session_revoked"},
		{rpc: "user.v1.AuthService/Login", notRepeatable: "each sign-in is a session of its own"},
		{rpc: "user.v1.AuthService/Refresh", setup: (*caller).refresh, announced: "user.created", settle: settleRefresh},
		{rpc: "user.v1.AuthService/Logout", setup: (*caller).logout, announced: "user.created user.session_revoked"},

		{rpc: "product.v1.ProductService/CreateProduct", setup: (*caller).createProduct, announced: "product.created"},
		{rpc: "product.v1.ProductService/UpdateProduct", setup: (*caller).updateProduct, announced: "product.created product.updated"},
		{rpc: "product.v1.ProductService/DeleteProduct", setup: (*caller).deleteProduct, announced: "product.created product.deleted"},
		{
			rpc: "product.v1.ProductService/ImportProducts", setup: (*caller).importProducts,
			announced: "product.created product.created product.created product.updated",
			settle:    settleImport, claims: claimedByImport,
		},

		{rpc: "inventory.v1.InventoryService/SetStock", setup: (*caller).setStock, announced: "stock.changed stock.changed"},
		{rpc: "inventory.v1.InventoryService/AdjustStock", setup: (*caller).adjustStock, announced: "stock.changed stock.changed"},
		{rpc: "inventory.v1.InventoryService/Reserve", setup: (*caller).reserve, announced: "stock.reserved"},
		{rpc: "inventory.v1.InventoryService/Commit", setup: (*caller).commit, announced: "stock.committed stock.reserved"},
		{rpc: "inventory.v1.InventoryService/Release", about: "reserved", setup: (*caller).release, announced: "stock.released stock.reserved"},
		{rpc: "inventory.v1.InventoryService/Release", about: "sold", setup: (*caller).releaseSold, announced: "stock.committed stock.released stock.reserved"},
		{
			rpc: "inventory.v1.InventoryService/SyncStock", setup: (*caller).syncStock,
			announced: "stock.changed stock.changed stock.changed stock.changed",
			settle:    func(m proto.Message) { m.(*inventorypb.SyncStockResponse).Applied = false }, claims: claimedBySync,
		},

		{rpc: "payment.v1.PaymentService/Authorize", setup: (*caller).authorize, announced: "payment.authorized"},
		{rpc: "payment.v1.PaymentService/Authorize", about: "declined", setup: (*caller).authorizeDeclined, announced: "payment.declined"},
		{rpc: "payment.v1.PaymentService/Capture", setup: (*caller).capture, announced: "payment.authorized payment.captured"},
		{rpc: "payment.v1.PaymentService/Void", setup: (*caller).void, announced: "payment.authorized payment.voided"},
		{rpc: "payment.v1.PaymentService/Refund", setup: (*caller).refund, announced: "payment.authorized payment.captured payment.refunded"},

		{rpc: "order.v1.OrderService/CreateOrder", setup: (*caller).createOrder, announced: soldEvents, settle: settleOrder},
		{rpc: "order.v1.OrderService/CreateOrder", about: "declined", setup: (*caller).createOrderDeclined, announced: declinedEvents},
		{rpc: "order.v1.OrderService/CancelOrder", setup: (*caller).cancelOrder, announced: cancelledEvents},
	}
}

// Accounts and sign-ins.

// account is somebody who is signed in.
type account struct {
	*userpb.User
	tokens  *userpb.LoginResponse
	session string
}

func (c *caller) newAccount() account {
	c.t.Helper()
	req := newUser()
	u := ask[*userpb.CreateUserResponse](c, req).GetUser()
	tokens := c.login(req.GetEmail(), req.GetPassword())
	who := ask[*userpb.ValidateTokenResponse](c, &userpb.ValidateTokenRequest{AccessToken: tokens.GetAccessToken()})
	return account{u, tokens, who.GetSessionId()}
}

func newUser() *userpb.CreateUserRequest {
	return &userpb.CreateUserRequest{
		Email: uuid.NewString() + "@example.com", Password: userPassword, DisplayName: "Ada", RequestId: uuid.NewString(),
	}
}

func (a account) attempt(req proto.Message, effect func(last proto.Message) string) attempt {
	return attempt{send: []proto.Message{req}, keys: []string{a.GetId(), a.session}, effect: effect}
}

// codeOf tells how a call is answered that need not succeed.
func (c *caller) codeOf(req proto.Message) codes.Code {
	_, err := c.try("", req)
	return status.Code(err)
}

func (c *caller) createUser() attempt {
	req := newUser()
	return attempt{send: []proto.Message{req}, effect: func(proto.Message) string {
		found := ask[*userpb.ListUsersResponse](c, &userpb.ListUsersRequest{Filter: fmt.Sprintf("email = %q", req.GetEmail())})
		return fmt.Sprintf("%d accounts", len(found.GetUsers()))
	}}
}

func (c *caller) updateUser() attempt {
	a := c.newAccount()
	return a.attempt(&userpb.UpdateUserRequest{
		User:       &userpb.User{Id: a.GetId(), DisplayName: "Grace", Etag: a.GetEtag()},
		UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"display_name"}},
		RequestId:  uuid.NewString(),
	}, func(proto.Message) string {
		u := ask[*userpb.GetUserResponse](c, &userpb.GetUserRequest{Id: a.GetId()}).GetUser()
		return u.GetDisplayName() + ", etag " + u.GetEtag()
	})
}

// deleteUser is called by the administrator: a user's own token ends with the
// account.
func (c *caller) deleteUser() attempt {
	a := c.newAccount()
	return a.attempt(&userpb.DeleteUserRequest{Id: a.GetId(), Etag: a.GetEtag()}, func(proto.Message) string {
		return fmt.Sprintf("account %v, session %v", c.codeOf(&userpb.GetUserRequest{Id: a.GetId()}),
			c.codeOf(&userpb.ValidateTokenRequest{AccessToken: a.tokens.GetAccessToken()}))
	})
}

// refresh must not be taken for theft, which would end the session.
func (c *caller) refresh() attempt {
	a := c.newAccount()
	req := &userpb.RefreshRequest{RefreshToken: a.tokens.GetRefreshToken(), RequestId: uuid.NewString()}
	return a.attempt(req, func(last proto.Message) string {
		old := c.codeOf(&userpb.ValidateTokenRequest{AccessToken: a.tokens.GetAccessToken()})
		if last == nil {
			return fmt.Sprintf("session %v", old)
		}
		fresh := last.(*userpb.RefreshResponse).GetAccessToken()
		return fmt.Sprintf("session %v, new token %v", old, c.codeOf(&userpb.ValidateTokenRequest{AccessToken: fresh}))
	})
}

// settleRefresh: expires_in is what is left of the token's life.
func settleRefresh(m proto.Message) { m.(*userpb.RefreshResponse).ExpiresIn = 0 }

func (c *caller) logout() attempt {
	a := c.newAccount()
	return a.attempt(&userpb.LogoutRequest{RefreshToken: a.tokens.GetRefreshToken()}, func(proto.Message) string {
		return fmt.Sprintf("session %v", c.codeOf(&userpb.ValidateTokenRequest{AccessToken: a.tokens.GetAccessToken()}))
	})
}

// Products.

// draft is a product with a category of its own, if none is given.
func draft(category string) *productpb.Product {
	if category == "" {
		category = uuid.NewString()
	}
	return &productpb.Product{Sku: uuid.NewString(), Name: "Mug", Category: category, Price: &money.Money{CurrencyCode: "EUR", Units: 5}}
}

func (c *caller) newProduct() *productpb.Product {
	c.t.Helper()
	return ask[*productpb.CreateProductResponse](c, &productpb.CreateProductRequest{Product: draft(""), InitialStock: 10}).GetProduct()
}

// category returns the effect of changes of a category: what is in it, as
// created.
func (c *caller) category(name string) func(proto.Message) string {
	return func(proto.Message) string {
		list := ask[*productpb.ListProductsResponse](c, &productpb.ListProductsRequest{Filter: fmt.Sprintf("category = %q", name)})
		s := fmt.Sprintf("%d products", len(list.GetProducts()))
		for _, p := range list.GetProducts() {
			s += fmt.Sprintf(", %s etag %s", p.GetName(), p.GetEtag())
		}
		return s
	}
}

func (c *caller) createProduct() attempt {
	req := &productpb.CreateProductRequest{Product: draft(""), InitialStock: 10, RequestId: uuid.NewString()}
	return attempt{send: []proto.Message{req}, effect: c.category(req.GetProduct().GetCategory())}
}

func (c *caller) updateProduct() attempt {
	p := c.newProduct()
	req := &productpb.UpdateProductRequest{
		Product:    &productpb.Product{Id: p.GetId(), Name: "Cup", Etag: p.GetEtag()},
		UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"name"}},
		RequestId:  uuid.NewString(),
	}
	return attempt{send: []proto.Message{req}, effect: c.category(p.GetCategory())}
}

func (c *caller) deleteProduct() attempt {
	p := c.newProduct()
	req := &productpb.DeleteProductRequest{Id: p.GetId(), Etag: p.GetEtag()}
	return attempt{send: []proto.Message{req}, keys: []string{p.GetId()}, effect: c.category(p.GetCategory())}
}

// importProducts sends two new products and a change of one.
func (c *caller) importProducts() attempt {
	p := c.newProduct()
	change := draft(p.GetCategory())
	change.Sku, change.Name = p.GetSku(), "Cup"
	a := attempt{keys: []string{p.GetCategory()}, effect: c.category(p.GetCategory())}
	for _, line := range []*productpb.Product{draft(p.GetCategory()), change, draft(p.GetCategory())} {
		a.send = append(a.send, &productpb.ImportProductsRequest{Product: line, InitialStock: 10})
	}
	return a
}

// claimedByImport: a line that is known already is unchanged.
func claimedByImport(m proto.Message) int {
	return int(m.(*productpb.ImportProductsResponse).GetCreated() + m.(*productpb.ImportProductsResponse).GetUpdated())
}

func settleImport(m proto.Message) {
	r := m.(*productpb.ImportProductsResponse)
	r.Created, r.Updated, r.Unchanged = 0, 0, r.Created+r.Updated+r.Unchanged
}

// Stock.

// stocked returns a product of which there are ten.
func (c *caller) stocked() string {
	c.t.Helper()
	id := uuid.NewString()
	ask[*inventorypb.SetStockResponse](c, &inventorypb.SetStockRequest{ProductId: id, Available: proto.Int32(10)})
	return id
}

// stock returns the effect of changes of the stock of products.
func (c *caller) stock(products ...string) func(proto.Message) string {
	return func(proto.Message) (text string) {
		for _, s := range ask[*inventorypb.BatchGetStockResponse](c, &inventorypb.BatchGetStockRequest{ProductIds: products}).GetStocks() {
			text += fmt.Sprintf("[%d available, %d reserved, %d sold, %d stocked, etag %s]",
				s.GetAvailable(), s.GetReserved(), s.GetSold(), s.GetStocked(), s.GetEtag())
		}
		return text
	}
}

func (c *caller) setStock() attempt {
	id := c.stocked()
	etag := ask[*inventorypb.GetStockResponse](c, &inventorypb.GetStockRequest{ProductId: id}).GetStock().GetEtag()
	req := &inventorypb.SetStockRequest{ProductId: id, Available: proto.Int32(7), Etag: etag, RequestId: uuid.NewString()}
	return attempt{send: []proto.Message{req}, keys: []string{id}, effect: c.stock(id)}
}

func (c *caller) adjustStock() attempt {
	id := c.stocked()
	req := &inventorypb.AdjustStockRequest{ProductId: id, Delta: -3, RequestId: uuid.NewString()}
	return attempt{send: []proto.Message{req}, keys: []string{id}, effect: c.stock(id)}
}

func (c *caller) reserve() attempt {
	p, q, order := c.stocked(), c.stocked(), uuid.NewString()
	req := &inventorypb.ReserveRequest{OrderId: order, Items: []*inventorypb.Item{{ProductId: p, Quantity: 2}, {ProductId: q, Quantity: 3}}}
	return attempt{send: []proto.Message{req}, keys: []string{order}, effect: c.stock(p, q)}
}

func (c *caller) commit() attempt {
	a := c.reserve()
	ask[*inventorypb.ReserveResponse](c, a.send[0])
	a.send = []proto.Message{&inventorypb.CommitRequest{OrderId: a.keys[0]}}
	return a
}

// release is of an order that has reserved and not bought.
func (c *caller) release() attempt {
	a := c.commit()
	a.send = []proto.Message{&inventorypb.ReleaseRequest{OrderId: a.keys[0]}}
	return a
}

func (c *caller) releaseSold() attempt {
	a := c.release()
	ask[*inventorypb.CommitResponse](c, &inventorypb.CommitRequest{OrderId: a.keys[0]})
	return a
}

func (c *caller) syncStock() attempt {
	p, q, source := c.stocked(), c.stocked(), uuid.NewString()
	return attempt{
		send: []proto.Message{
			&inventorypb.SyncStockRequest{Source: source, Sequence: 1, ProductId: p, Available: proto.Int32(7)},
			&inventorypb.SyncStockRequest{Source: source, Sequence: 2, ProductId: q, Available: proto.Int32(8)},
		},
		keys: []string{p, q}, effect: c.stock(p, q),
	}
}

func claimedBySync(m proto.Message) int {
	if m.(*inventorypb.SyncStockResponse).GetApplied() {
		return 1
	}
	return 0
}

// Payments.

// payment tells a payment, if there is one.
func (c *caller) payment(id string) string {
	c.t.Helper()
	if id == "" {
		return "none"
	}
	p := ask[*paymentpb.GetPaymentResponse](c, &paymentpb.GetPaymentRequest{Id: id}).GetPayment()
	return fmt.Sprintf("%v %d %s %s, etag %s", p.GetState(), p.GetAmount().GetUnits(), p.GetAmount().GetCurrencyCode(), p.GetReason(), p.GetEtag())
}

func (c *caller) authorize() attempt { return c.pay(goodCard) }

func (c *caller) authorizeDeclined() attempt { return c.pay(badCard) }

// pay has a payment only once it is answered; that all answers are about the
// same one is for their comparison to show.
func (c *caller) pay(card string) attempt {
	order := uuid.NewString()
	req := &paymentpb.AuthorizeRequest{
		OrderId: order, UserId: uuid.NewString(), Amount: &money.Money{CurrencyCode: "EUR", Units: 5}, PaymentToken: card,
	}
	return attempt{send: []proto.Message{req}, keys: []string{order}, effect: func(last proto.Message) string {
		reply, _ := last.(*paymentpb.AuthorizeResponse)
		return c.payment(reply.GetPayment().GetId())
	}}
}

// authorized returns an attempt about an order whose payment is authorized.
func (c *caller) authorized() attempt {
	c.t.Helper()
	a := c.authorize()
	id := ask[*paymentpb.AuthorizeResponse](c, a.send[0]).GetPayment().GetId()
	a.effect = func(proto.Message) string { return c.payment(id) }
	return a
}

func (c *caller) capture() attempt {
	a := c.authorized()
	a.send = []proto.Message{&paymentpb.CaptureRequest{OrderId: a.keys[0]}}
	return a
}

func (c *caller) void() attempt {
	a := c.authorized()
	a.send = []proto.Message{&paymentpb.VoidRequest{OrderId: a.keys[0]}}
	return a
}

func (c *caller) refund() attempt {
	a := c.capture()
	ask[*paymentpb.CaptureResponse](c, a.send[0])
	a.send = []proto.Message{&paymentpb.RefundRequest{OrderId: a.keys[0]}}
	return a
}

// Orders.

func (c *caller) createOrder() attempt { return c.order(goodCard) }

func (c *caller) createOrderDeclined() attempt { return c.order(badCard) }

// order has a customer order two of a product that nobody else wants.
func (c *caller) order(card string) attempt {
	c.t.Helper()
	who, p := c.newAccount(), c.newProduct()
	c.until(func() bool { return c.codeOf(&inventorypb.GetStockRequest{ProductId: p.GetId()}) == codes.OK })
	req := &orderpb.CreateOrderRequest{
		RequestId: uuid.NewString(), Items: []*orderpb.OrderItem{{ProductId: p.GetId(), Quantity: 2}}, PaymentToken: card,
	}
	token := who.tokens.GetAccessToken()
	return attempt{
		token: token, send: []proto.Message{req}, keys: []string{who.GetId(), p.GetId()},
		effect: func(proto.Message) string { return c.orders(token) + " " + c.stock(p.GetId())(nil) },
	}
}

// orders tells all orders of a customer, with their payments, once they are at
// rest.
func (c *caller) orders(token string) (text string) {
	c.t.Helper()
	for _, o := range askAs[*orderpb.ListOrdersResponse](c, token, &orderpb.ListOrdersRequest{}).GetOrders() {
		c.until(func() bool {
			o = askAs[*orderpb.GetOrderResponse](c, token, &orderpb.GetOrderRequest{Id: o.GetId()}).GetOrder()
			return atRest(o)
		})
		text += fmt.Sprintf("[%v %s, version %d, payment %s]", o.GetState(), o.GetReason(), o.GetVersion(), c.payment(o.GetPaymentId()))
	}
	return text
}

func atRest(o *orderpb.Order) bool {
	switch o.GetState() {
	case orderpb.Order_PENDING, orderpb.Order_CONFIRMED, orderpb.Order_CANCELLING:
		return false
	}
	return true
}

// settleOrder: an order that was CONFIRMED in one reply may be COMPLETED in the
// next.
func settleOrder(m proto.Message) {
	o := m.(*orderpb.CreateOrderResponse).GetOrder()
	if o.GetState() == orderpb.Order_COMPLETED {
		o.State = orderpb.Order_CONFIRMED
	}
	o.Version, o.UpdateTime, o.Etag = 0, nil, ""
}

func (c *caller) cancelOrder() attempt {
	a := c.createOrder()
	id := askAs[*orderpb.CreateOrderResponse](c, a.token, a.send[0]).GetOrder().GetId()
	a.effect(nil) // waits until it is completed
	a.send = []proto.Message{&orderpb.CancelOrderRequest{Id: id}}
	return a
}

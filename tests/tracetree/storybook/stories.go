package storybook

import (
	"fmt"
	"strings"
	"sync"

	"github.com/google/uuid"
)

// story is what the customer does. Its name is that of its trees: one for each
// request that is made, in that order.
type story struct {
	name string
	tell func(*customer)
}

// stories are told in this order: what one has made the next ones need. Each one
// ends when its traces are complete, and that is when all is done.
func stories() []story {
	return []story{
		{"registered", registered},
		{"refreshed", refreshed},
		{"imported", imported},
		{"browsed", browsed},
		{"completed", func(c *customer) { c.buys(c.plenty, "tok_visa", "CONFIRMED") }},
		{"repeated", func(c *customer) { c.repeats(c.plenty, "tok_visa", "COMPLETED") }},
		{"watched", watched},
		{"cancelled", func(c *customer) { c.cancels(c.order) }},
		{"declined", func(c *customer) { c.buys(c.plenty, "tok_chargeDeclined", "REJECTED") }},
		{"sold-out", func(c *customer) { c.buys(c.rare, "tok_visa", "REJECTED") }},
		{"capture-declined", func(c *customer) { c.buys(c.plenty, "tok_chargeCustomerFail", "CONFIRMED") }},
		{"cancelled-while-pending", cancelledWhilePending},
		{"signed-out", func(c *customer) { c.call("POST", "/v1/auth:logout", "", object{"refresh_token": c.refresh}) }},
	}
}

// registered: somebody new registers and signs in.
func registered(c *customer) {
	c.email = uuid.NewString() + "@example.com"
	c.id, _ = c.call("POST", "/v1/users", "", object{"email": c.email, "password": password, "display_name": "Ada"})["id"].(string)
	c.refresh, _ = c.login(c.email, password)["refresh_token"].(string)
}

// refreshed: the tokens are changed for new ones.
func refreshed(c *customer) {
	reply := c.call("POST", "/v1/auth:refresh", "", object{"refresh_token": c.refresh})
	c.token, _ = reply["access_token"].(string)
	c.refresh, _ = reply["refresh_token"].(string)
}

// imported: the administrator imports two products, of which the inventory hears.
func imported(c *customer) {
	token, _ := c.login(c.shop.AdminEmail, c.shop.AdminPassword)["access_token"].(string)
	var lines strings.Builder
	for i, stock := range []int{1000, 1} {
		fmt.Fprintf(&lines, `{"product":{"sku":"STORY-%d","name":"Story %d","category":"stories","price":{"currency_code":"EUR","units":"20"}},"initial_stock":%d}`+"\n", i, i, stock)
	}
	reply := c.call("POST", "/v1/products:import", token, lines.String())
	if reply["created"] != "2" && reply["created"] != 2.0 {
		c.t.Errorf("the import: %v", reply)
	}
}

// browsed: the customer looks at the products, and at their orders.
func browsed(c *customer) {
	reply := c.call("GET", "/v1/products?filter=category%3D%22stories%22&order_by=name", "", nil)
	products, _ := reply["products"].([]any)
	if len(products) != 2 {
		c.t.Fatalf("products: %v", reply)
	}
	c.plenty, _ = products[0].(object)["id"].(string)
	c.rare, _ = products[1].(object)["id"].(string)
	c.call("GET", "/v1/orders", c.token, nil)
}

// watched: the customer follows the order to its end.
func watched(c *customer) {
	reply := c.call("GET", "/v1/orders/"+c.order+":watch", c.token, nil)
	if text, _ := reply["text"].(string); !strings.Contains(text, "COMPLETED") || !strings.Contains(text, "event: end") {
		c.t.Errorf("the stream is %q", text)
	}
}

// cancelledWhilePending: the customer cancels while the order is being paid, so
// that what comes of the payment is given back.
func cancelledWhilePending(c *customer) {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { c.buys(c.plenty, "tok_visa", "CANCELLING", "CANCELLED") })
	c.cancels(c.paying())
}

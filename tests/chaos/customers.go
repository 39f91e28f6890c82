package main

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
)

// sell has the customers order, one order after another each, until there are
// enough or ctx is done. Who has ordered goes on until there is an answer.
func (c *campaign) sell(ctx context.Context) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for n := range c.cfg.Clients {
		wg.Go(func() {
			who := c.shop.customers[n%len(c.shop.customers)]
			for ctx.Err() == nil {
				i := next.Add(1)
				if c.cfg.For == 0 && i > int64(c.cfg.Orders) {
					return
				}
				c.order(context.WithoutCancel(ctx), who, i)
				pause(ctx, rand.N(2*c.cfg.Think))
			}
		})
	}
	wg.Wait()
}

// cards are those of the customers: most are good. The last one is authorized
// and declined when the money is taken.
var cards = []string{"tok_visa", "tok_visa", "tok_visa", "tok_mastercard", "tok_chargeDeclined", "tok_chargeDeclinedInsufficientFunds", "tok_chargeCustomerFail"}

// answer is what a customer was told.
type answer struct {
	Request string // request_id
	Order   string
	State   string
	Cancel  string // the state after a cancellation, "" if there was none
}

// order places the i-th order of the campaign, and cancels some.
func (c *campaign) order(ctx context.Context, who *customer, i int64) {
	chance := rand.New(rand.NewPCG(c.cfg.Seed, uint64(i)))
	var items []map[string]any
	for _, p := range chance.Perm(len(c.shop.products))[:1+chance.IntN(3)] {
		items = append(items, map[string]any{"product_id": c.shop.products[p], "quantity": 1 + chance.IntN(3)})
	}
	id, err := uuid.NewRandomFromReader(chanceReader{chance})
	if err != nil {
		panic(err) // chanceReader does not fail
	}
	a := answer{Request: id.String()}
	body := map[string]any{"request_id": a.Request, "items": items, "payment_token": cards[chance.IntN(len(cards))]}
	began := time.Now()
	reply := c.insist(ctx, who, int(i), http.MethodPost, "/v1/orders", body)
	if reply == nil {
		return
	}
	a.Order, _ = reply["id"].(string)
	a.State, _ = reply["state"].(string)
	if chance.IntN(10) == 0 {
		if reply := c.insist(ctx, who, int(i), http.MethodPost, "/v1/orders/"+a.Order+":cancel", map[string]any{}); reply != nil {
			a.Cancel, _ = reply["state"].(string)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.report.answered(a, time.Since(began))
}

// insistFor bounds how long a customer repeats a request.
const insistFor = 3 * time.Minute

// insist repeats a request, at one gateway after another, until there is an
// answer; nil if it is a refusal.
func (c *campaign) insist(ctx context.Context, who *customer, at int, method, path string, body any) map[string]any {
	ctx, cancel := context.WithTimeout(ctx, insistFor)
	defer cancel()
	for ; ctx.Err() == nil; at++ {
		code, reply, err := who.call(ctx, at, method, path, body)
		c.mu.Lock()
		c.report.reply(code)
		c.mu.Unlock()
		switch {
		case err == nil && code == http.StatusOK:
			return reply
		case code == http.StatusUnauthorized:
			_ = who.signIn(ctx, at) // the token may be too old
		case code == http.StatusBadRequest && reason(reply) == "ORDER_REJECTED":
			return nil // there is nothing to cancel
		case err != nil, again[code]:
		default:
			c.mu.Lock()
			c.report.violated("%s %s was answered %d %v", method, path, code, reply)
			c.mu.Unlock()
			return nil
		}
		pause(ctx, 20*time.Millisecond)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.report.violated("%s %s had no answer in %v", method, path, insistFor)
	return nil
}

// again has the answers after which the same request is made once more: it was
// not carried out, or nobody knows.
var again = map[int]bool{
	http.StatusServiceUnavailable: true, http.StatusGatewayTimeout: true, http.StatusTooManyRequests: true,
	http.StatusInternalServerError: true,
}

// checkAnswers holds what the customers were told to what is in the books: each
// request made one order, and what was decided stays decided.
func (c *campaign) checkAnswers(ctx context.Context, orders *sql.DB) ([]string, error) {
	rows, err := orders.QueryContext(ctx, `SELECT request_id, id, state FROM orders`)
	if err != nil {
		return nil, fmt.Errorf("read the orders: %w", err)
	}
	defer rows.Close()
	type kept struct{ id, state string }
	byRequest := map[string]kept{}
	n := 0
	for rows.Next() {
		var request string
		var k kept
		if err := rows.Scan(&request, &k.id, &k.state); err != nil {
			return nil, fmt.Errorf("read the orders: %w", err)
		}
		byRequest[request] = k
		n++
	}
	var violations []string
	for _, a := range c.report.answers {
		k := byRequest[a.Request]
		switch {
		case k.id != a.Order:
			violations = append(violations, fmt.Sprintf("the request %s was answered with order %s, and its order is %q", a.Request, a.Order, k.id))
		case !follows(cmp.Or(a.Cancel, a.State), k.state):
			violations = append(violations, fmt.Sprintf("order %s was said to be %s (after a cancellation %q), and is %s", k.id, a.State, a.Cancel, k.state))
		}
	}
	if n != len(c.report.answers) {
		violations = append(violations, fmt.Sprintf("%d requests were answered with an order, and there are %d orders", len(c.report.answers), n))
	}
	return violations, rows.Err()
}

// follows reports whether an order that was in a state may have come to another.
func follows(from, to string) bool {
	switch from {
	case "COMPLETED", "REJECTED", "CANCELLED":
		return to == from
	case "CANCELLING":
		return to == "CANCELLED"
	}
	return true
}

// chanceReader makes bytes of chance.
type chanceReader struct{ *rand.Rand }

func (r chanceReader) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(r.Uint32())
	}
	return len(p), nil
}

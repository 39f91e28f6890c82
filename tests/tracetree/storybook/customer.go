package storybook

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
)

type object = map[string]any

// customer is the person of all stories, one after the other; and the
// administrator, whom nobody else is needed for.
type customer struct {
	shop Shop
	t    *testing.T

	id, email, token, refresh string
	plenty, rare              string // products
	order, request            string // the last order, and its request_id
	asked, placed             string // the traces that it was asked for in, and that it says it was placed in

	mu     sync.Mutex
	traces []string // of the requests in this story, in their order
}

const password = "s3cret-pass-phrase"

// begin begins a story.
func (c *customer) begin(t *testing.T) { c.t, c.traces = t, nil }

// call makes a request, which has to succeed, and returns the reply.
func (c *customer) call(method, path, token string, body any) object {
	c.t.Helper()
	reply, _ := c.traced(method, path, token, body)
	return reply
}

// traced is call that also returns the id of the request's trace.
func (c *customer) traced(method, path, token string, body any) (reply object, trace string) {
	c.t.Helper()
	c.mu.Lock()
	n := len(c.traces)
	c.traces = append(c.traces, "")
	c.mu.Unlock()
	trace, text, err := c.do(method, path, token, body)
	if err != nil {
		c.t.Errorf("%s %s: %v", method, path, err)
		return object{}, ""
	}
	c.mu.Lock()
	c.traces[n] = trace
	c.mu.Unlock()
	reply = object{}
	if json.Unmarshal(text, &reply) != nil { // a stream
		return object{"text": string(text)}, trace
	}
	return reply, trace
}

func (c *customer) do(method, path, token string, body any) (trace string, text []byte, err error) {
	in, ok := body.(string)
	if !ok && body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return "", nil, err
		}
		in = string(b)
	}
	req, err := http.NewRequestWithContext(c.t.Context(), method, c.shop.URL+path, strings.NewReader(in))
	if err != nil {
		return "", nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", nil, err
	}
	defer resp.Body.Close()
	text, err = io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(resp.Status + ": " + string(bytes.TrimSpace(text)))
	}
	return resp.Header.Get("X-Trace-Id"), text, err
}

func (c *customer) login(email, password string) object {
	c.t.Helper()
	return c.call("POST", "/v1/auth:login", "", object{"email": email, "password": password})
}

// buys places an order, and expects to be told one of the states, and the trace
// that it was placed in.
func (c *customer) buys(product, card string, states ...string) {
	c.t.Helper()
	c.request = uuid.NewString()
	if c.repeats(product, card, states...); c.placed != c.asked {
		c.t.Errorf("the order says that it is of trace %s, and was placed in %s", c.placed, c.asked)
	}
}

// repeats places the last order again.
func (c *customer) repeats(product, card string, states ...string) {
	c.t.Helper()
	var reply object
	reply, c.asked = c.traced("POST", "/v1/orders", c.token, object{
		"request_id": c.request, "payment_token": card,
		"items": []object{{"product_id": product, "quantity": 2}},
	})
	got, _ := reply["state"].(string)
	c.order, _ = reply["id"].(string)
	c.placed, _ = reply["trace_id"].(string)
	if !slices.Contains(states, got) {
		c.t.Errorf("the order is %q, want one of %q: %v", got, states, reply)
	}
}

// cancels takes an order back.
func (c *customer) cancels(order string) {
	c.t.Helper()
	if got := c.call("POST", "/v1/orders/"+order+":cancel", c.token, object{})["state"]; got != "CANCELLED" {
		c.t.Errorf("the order is %v after its cancellation", got)
	}
}

// paying waits until a payment of the customer is with the processor, and returns
// its order. It asks the database, for a request would leave a trace.
func (c *customer) paying() (order string) {
	c.t.Helper()
	for deadline := time.Now().Add(hang); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		row := c.shop.Payments.QueryRowContext(c.t.Context(), `SELECT order_id FROM payments WHERE user_id = $1 AND state = 'PENDING'`, c.id)
		if row.Scan(&order) == nil {
			return order
		}
	}
	c.t.Fatal("no payment is with the processor")
	return ""
}

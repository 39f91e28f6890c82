package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/meshmart/meshmart/tests/testbed"
)

// shop is what the campaign sells, and to whom.
type shop struct {
	customers []*customer
	products  []string
}

// Some of the products are scarce, so that they sell out.
const (
	plenty   = 1_000_000
	scarce   = 100
	onSale   = 12 // products
	scarceOf = 1  // of them
	people   = 8
)

// openShop stocks some products and registers the customers.
func openShop(ctx context.Context, bed *testbed.Bed) (*shop, error) {
	s := &shop{}
	d := &door{bed: bed, http: &http.Client{Timeout: 12 * time.Second}}
	admin := &customer{door: d, email: testbed.AdminEmail, password: testbed.AdminPassword}
	if err := retry(ctx, func() error { return admin.signIn(ctx, 0) }); err != nil {
		return nil, err
	}
	err := retry(ctx, func() error { // until the inventory has heard of the catalog
		s.products = nil
		list, err := admin.must(ctx, http.MethodGet, fmt.Sprintf("/v1/products?page_size=%d", onSale), nil)
		if err != nil {
			return err
		}
		products, _ := list["products"].([]any)
		for i, p := range products {
			id, _ := p.(map[string]any)["id"].(string)
			n := plenty
			if i < scarceOf {
				n = scarce
			}
			if _, err := admin.must(ctx, http.MethodPut, "/v1/stock/"+id, map[string]any{"available": n}); err != nil {
				return err
			}
			s.products = append(s.products, id)
		}
		if len(s.products) < onSale {
			return fmt.Errorf("the catalog has %d products, want %d", len(s.products), onSale)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for i := range people {
		c := &customer{door: d, email: fmt.Sprintf("customer-%d@example.com", i), password: "s3cret-pass-phrase"}
		if _, err := c.must(ctx, http.MethodPost, "/v1/users", map[string]any{"email": c.email, "password": c.password, "display_name": "Ada"}); err != nil {
			return nil, err
		}
		if err := c.signIn(ctx, 0); err != nil {
			return nil, err
		}
		s.customers = append(s.customers, c)
	}
	return s, nil
}

// retry calls fn until it returns nil, for half a minute at most.
func retry(ctx context.Context, fn func() error) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		err := fn()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// door is the way in: the gateways, whose addresses change when they are
// started again.
type door struct {
	bed  *testbed.Bed
	http *http.Client

	mu   sync.Mutex
	urls map[string]string // by the names of the gateways
}

// url returns where the i-th gateway was last seen, and what forgets that.
func (d *door) url(ctx context.Context, i int) (string, func(), error) {
	gateways := d.bed.Service("gateway")
	g := gateways[i%len(gateways)]
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.urls == nil {
		d.urls = map[string]string{}
	}
	if d.urls[g.Name] == "" {
		url, err := g.URL(ctx)
		if err != nil {
			return "", nil, err
		}
		d.urls[g.Name] = url
	}
	return d.urls[g.Name], func() { d.mu.Lock(); delete(d.urls, g.Name); d.mu.Unlock() }, nil
}

// customer is somebody who is signed in.
type customer struct {
	door            *door
	email, password string

	mu    sync.Mutex
	token string
}

func (c *customer) signIn(ctx context.Context, at int) error {
	code, reply, err := c.call(ctx, at, http.MethodPost, "/v1/auth:login", map[string]any{"email": c.email, "password": c.password})
	if err != nil || code != http.StatusOK {
		return fmt.Errorf("sign in: %d %v: %w", code, reply, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.token, _ = reply["access_token"].(string)
	return nil
}

func (c *customer) must(ctx context.Context, method, path string, body any) (map[string]any, error) {
	code, reply, err := c.call(ctx, 0, method, path, body)
	if err == nil && code != http.StatusOK {
		err = fmt.Errorf("%s %s: %d %v", method, path, code, reply)
	}
	return reply, err
}

// call makes a request at the i-th gateway.
func (c *customer) call(ctx context.Context, i int, method, path string, body any) (int, map[string]any, error) {
	base, forget, err := c.door.url(ctx, i)
	if err != nil {
		return 0, nil, err
	}
	var in io.Reader = http.NoBody
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return 0, nil, err
		}
		in = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, base+path, in)
	if err != nil {
		return 0, nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	c.mu.Lock()
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	c.mu.Unlock()
	resp, err := c.door.http.Do(req)
	if err != nil {
		forget()
		return 0, nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, nil, err
	}
	reply := map[string]any{}
	if err := json.Unmarshal(text, &reply); err != nil {
		return 0, nil, fmt.Errorf("%s %s: %d with %q: %w", method, path, resp.StatusCode, text, err)
	}
	return resp.StatusCode, reply, nil
}

// reason returns that of a refusal's ErrorInfo.
func reason(reply map[string]any) string {
	details, _ := reply["details"].([]any)
	for _, d := range details {
		if r, ok := d.(map[string]any)["reason"].(string); ok {
			return r
		}
	}
	return ""
}

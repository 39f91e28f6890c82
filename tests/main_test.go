// Package tests holds the shop as a whole to its promises: in containers, with
// replicas, PostgreSQL and a cluster of brokers, while it is under load and
// what it runs on is replaced, killed, frozen and cut off.
package tests

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/meshmart/meshmart/tests/testbed"
)

const (
	// hang is longer than anything here takes.
	hang = 2 * time.Minute
	// drainDelay is that of the services. It must be longer than a balancer needs
	// to notice that a replica is not ready (readyEvery), and than a client leaves
	// a connection idle (idleMost).
	drainDelay = time.Second
	// processing is how long the payment processor takes, twice for each order: so
	// there are always some under way.
	processing = 800 * time.Millisecond
)

// shop is the one that all tests of this package use. Each leaves it whole.
type shop struct {
	bed      *testbed.Bed
	gates    *balancer
	admin    string // token
	customer string // token
	products []string
}

// opened is called through open; closing what it has opened is TestMain's.
var opened = sync.OnceValues(openShop)

// bed is what TestMain closes.
var bed *testbed.Bed

func TestMain(m *testing.M) {
	code := m.Run()
	if bed != nil {
		if err := bed.Close(); err != nil {
			fmt.Fprintln(os.Stderr, "close the testbed:", err)
			code = max(code, 1)
		}
	}
	os.Exit(code)
}

func open(t *testing.T) *shop {
	t.Helper()
	testbed.NeedsDocker(t)
	s, err := opened()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func openShop() (*shop, error) {
	ctx := context.Background()
	var err error
	bed, err = testbed.Start(ctx, testbed.Options{
		Replicas: 2, Brokers: 3, Behind: []string{"postgres"},
		Environ: map[string]string{
			"DRAIN_DELAY": drainDelay.String(), "SIMULATOR_LATENCY": processing.String(), "TRACE_RATIO": "0",
		},
	})
	if err != nil {
		return nil, err
	}
	s := &shop{bed: bed, gates: newBalancer()}
	for _, g := range bed.Service("gateway") {
		if err := s.gates.add(ctx, g); err != nil {
			return nil, err
		}
	}
	go s.gates.watch(ctx) // until the process ends
	return s, s.stock(ctx)
}

// stock signs in who is needed, and has plenty of some products.
func (s *shop) stock(ctx context.Context) error {
	const password = "s3cret-pass-phrase"
	ctx, cancel := context.WithTimeout(ctx, hang)
	defer cancel()
	c := newClient(s.gates)
	defer c.close()
	user := map[string]any{"email": "ada@example.com", "password": password, "display_name": "Ada"}
	return until(ctx, func() (err error) { // the inventory must hear of the catalog first
		if s.admin, err = signIn(ctx, c, testbed.AdminEmail, testbed.AdminPassword); err != nil {
			return err
		}
		if _, err := c.call(ctx, http.MethodPost, "/v1/users", "", user); err != nil && statusOf(err) != http.StatusConflict {
			return err
		}
		if s.customer, err = signIn(ctx, c, "ada@example.com", password); err != nil {
			return err
		}
		list, err := c.call(ctx, http.MethodGet, "/v1/products?page_size=8", "", nil)
		if err != nil {
			return err
		}
		s.products = nil
		for _, p := range list["products"].([]any) {
			id := p.(map[string]any)["id"].(string)
			if _, err := c.call(ctx, http.MethodPut, "/v1/stock/"+id, s.admin, map[string]any{"available": 1_000_000}); err != nil {
				return err
			}
			s.products = append(s.products, id)
		}
		return nil
	})
}

func signIn(ctx context.Context, c *client, email, password string) (string, error) {
	reply, err := c.call(ctx, http.MethodPost, "/v1/auth:login", "", map[string]any{"email": email, "password": password})
	token, _ := reply["access_token"].(string)
	return token, err
}

// anOrder is a request for one.
func (s *shop) anOrder(i int) map[string]any {
	return map[string]any{
		"request_id": uuid.NewString(), "payment_token": "tok_visa",
		"items": []map[string]any{{"product_id": s.products[i%len(s.products)], "quantity": 1}},
	}
}

// until calls fn until it returns nil, or returns why it did not when ctx is done.
func until(ctx context.Context, fn func() error) error {
	for {
		err := fn()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// audit waits until the shop is at rest, and reports all that is wrong in its
// books.
func (s *shop) audit(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), hang)
	defer cancel()
	books, done, err := s.bed.Books(ctx)
	defer done()
	if err != nil {
		t.Fatal(err)
	}
	var violations []string
	err = until(ctx, func() error {
		pending, err := books.Pending(ctx)
		if err == nil && pending != "" {
			err = fmt.Errorf("the shop is not at rest: %s", pending)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	// The last events may still be on their way into the inboxes.
	inboxes, stop := context.WithTimeout(ctx, 20*time.Second)
	defer stop()
	err = until(inboxes, func() (err error) {
		if _, violations, err = books.Check(ctx); err == nil && len(violations) > 0 {
			err = fmt.Errorf("%d violations", len(violations))
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	for _, v := range violations[:min(len(violations), 20)] {
		t.Error(v)
	}
}

package tests

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"
)

// load is customers who call at a steady rate, however long each call takes,
// and repeat nothing.
type load struct {
	shop   *shop
	client *client
	// allow judges a call that has failed: nil is for a failure that may be.
	allow func(error) error

	mu     sync.Mutex
	calls  int
	wrong  []string        // failures that may not be, and wrong answers
	failed map[int]int     // others, by status
	lastly time.Time       // when the last of those was
	took   []time.Duration // of calls that ended well
	orders map[string]string
	last   string // order
}

func newLoad(s *shop) *load {
	return &load{
		shop: s, client: newClient(s.gates), failed: map[int]int{}, orders: map[string]string{},
		allow: func(err error) error { return err },
	}
}

// run makes rate calls a second until ctx is done, and waits for the last. Of
// four calls one places an order, one reads one, and two read the catalog.
func (l *load) run(ctx context.Context, rate int) {
	var wg sync.WaitGroup
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			wg.Wait()
			return
		case <-tick.C:
			wg.Go(func() { l.one(context.WithoutCancel(ctx), i) })
		}
	}
}

// during runs the load while fn does.
func (l *load) during(t *testing.T, rate int, fn func()) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { l.run(ctx, rate) })
	defer l.client.close()
	defer wg.Wait()
	defer stop()
	fn()
}

func (l *load) one(ctx context.Context, i int) {
	l.mu.Lock()
	last := l.last
	l.mu.Unlock()
	switch {
	case i%4 == 0:
		_, _ = l.place(ctx, i)
	case i%4 == 1 && last != "":
		l.counted(func() error {
			o, err := l.client.call(ctx, http.MethodGet, "/v1/orders/"+last, l.shop.customer, nil)
			return should(err, o["id"] == last, "order %s was read as %v", last, o)
		})
	default:
		l.counted(func() error {
			list, err := l.client.call(ctx, http.MethodGet, "/v1/products?page_size=5", "", nil)
			products, _ := list["products"].([]any)
			return should(err, len(products) == 5, "the catalog has %d products", len(products))
		})
	}
}

// place orders something and returns the order's id.
func (l *load) place(ctx context.Context, i int) (id string, err error) {
	body := l.shop.anOrder(i)
	err = l.counted(func() error {
		o, err := l.client.call(ctx, http.MethodPost, "/v1/orders", l.shop.customer, body)
		id, _ = o["id"].(string)
		return should(err, id != "" && o["state"] != "REJECTED", "an order was answered with %v", o)
	})
	if err == nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.last, l.orders[body["request_id"].(string)] = id, id
	}
	return id, err
}

// errWrong is an answer that is no failure and yet wrong.
type errWrong string

func (e errWrong) Error() string { return string(e) }

func should(err error, ok bool, format string, args ...any) error {
	if err == nil && !ok {
		return errWrong(fmt.Sprintf(format, args...))
	}
	return err
}

// counted makes a call and notes how it ended.
func (l *load) counted(fn func() error) error {
	began := time.Now()
	err := fn()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls++
	switch {
	case err == nil:
		l.took = append(l.took, time.Since(began))
	case l.allow(err) == nil:
		l.failed[statusOf(err)]++
		l.lastly = time.Now()
	default:
		l.wrong = append(l.wrong, fmt.Sprintf("%s after %v: %v", began.Format("15:04:05.000"), time.Since(began).Round(time.Millisecond), err))
	}
	return err
}

// report fails the test for every call that failed and may not.
func (l *load) report(t *testing.T) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.wrong) > 0 {
		t.Errorf("%d of %d calls failed", len(l.wrong), l.calls)
	}
	for _, w := range l.wrong[:min(len(l.wrong), 20)] {
		t.Log(w)
	}
	if len(l.took) == 0 {
		t.Error("no call ended well")
	}
}

// quantile of how long the calls took that ended well.
func (l *load) quantile(q float64) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.took) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(l.took))
	return s[int(q*float64(len(s)-1))]
}

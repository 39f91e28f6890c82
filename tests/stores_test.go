package tests

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestDatabaseGoesAway takes the database away from all services in the middle
// of orders, in three ways. Callers are told to come again, or that it is not
// known whether there is an order; nobody gets a wrong answer, and in the end
// every order is decided and the books are right.
func TestDatabaseGoesAway(t *testing.T) {
	s := open(t)
	db := s.bed.Database()
	// away is long enough for the pools to notice, and for breakers to open.
	const away = 3 * time.Second
	var connect func() error
	for _, tt := range []struct {
		name       string
		hurt, heal func(context.Context) error
	}{
		{"killed", db.Kill, db.Start},
		{"frozen", db.Pause, db.Resume},
		{"cut off", func(context.Context) (err error) {
			connect, err = s.bed.Disconnect("postgres")
			return err
		}, func(context.Context) error { return connect() }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), hang)
			defer cancel()
			l := newLoad(s)
			l.allow = outage
			var back time.Time
			l.during(t, 20, func() {
				time.Sleep(2 * time.Second)
				if err := tt.hurt(ctx); err != nil {
					t.Fatal(err)
				}
				time.Sleep(away)
				if err := tt.heal(ctx); err != nil {
					t.Error(err)
				}
				back = time.Now()
				s.waitWell(t, ctx)
				time.Sleep(2 * time.Second)
			})
			l.report(t)
			if len(l.failed) == 0 {
				t.Error("no call failed: nothing was tested")
			}
			s.audit(t)
			s.checkOrders(t, l)
			t.Logf("figure: database %s for %v under load: %d calls, failed by status %v, the last %.1f s after it was back",
				tt.name, away, l.calls, l.failed, max(0, l.lastly.Sub(back).Seconds()))
		})
	}
}

// outage is nil for what callers may be told while the database is away.
func outage(err error) error {
	switch statusOf(err) {
	case http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return nil
	case http.StatusInternalServerError:
		if strings.Contains(err.Error(), "OUTCOME_UNKNOWN") { // the answer to a commit did not come
			return nil
		}
	}
	return err
}

// waitWell returns when an order can be placed again.
func (s *shop) waitWell(t *testing.T, ctx context.Context) {
	t.Helper()
	c := newClient(s.gates)
	defer c.close()
	err := until(ctx, func() error {
		_, err := c.call(ctx, http.MethodPost, "/v1/orders", s.customer, s.anOrder(0))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// checkOrders: every request that was answered with an order has made that one.
func (s *shop) checkOrders(t *testing.T, l *load) {
	t.Helper()
	db, err := s.bed.OpenDatabase(t.Context(), "order")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for request, id := range l.orders {
		var got string
		if err := db.QueryRowContext(t.Context(), `SELECT id FROM orders WHERE request_id = $1`, request).Scan(&got); err != nil || got != id {
			t.Errorf("the request %s was answered with order %s, and has made %q: %v", request, id, got, err)
		}
	}
}

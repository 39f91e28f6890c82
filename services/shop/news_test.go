package shop

import (
	"database/sql"
	"testing"
	"time"
)

// TestNewsAreLost takes the broker away for good, with all that it has kept, while
// an order is decided. Nobody hears of the confirmation, and the order completes
// all the same: it asks for what it would have heard.
func TestNewsAreLost(t *testing.T) {
	broker := freeAddr(t)
	stop := startBroker(t, broker)
	databases := onPostgres(t)
	c := startColumn(t, broker, databases)
	c.waitForServices()
	c.waitForStock()
	token, product := c.customer(), c.product(2)
	before := c.available(product)
	first := c.must("POST", "/v1/orders", token, orderOf(product, 1, "tok_visa"))
	c.await(token, first["id"].(string), "COMPLETED")

	stop()
	order := c.must("POST", "/v1/orders", token, orderOf(product, 1, "tok_visa"))
	id := order["id"].(string)
	c.await(token, id, "CONFIRMED")
	c.letMinutePass(databases["ORDER_DATABASE_URL"], id)
	c.await(token, id, "COMPLETED")
	if after := c.available(product); after != before-2 {
		t.Errorf("%d available before, %d after", before, after)
	}

	startBroker(t, broker) // who hears of it now has done it already
	c.wantBalance(token, product)
}

// letMinutePass makes the order's news as late as they are after a minute.
func (c *column) letMinutePass(database, order string) {
	c.t.Helper()
	pool, err := sql.Open("pgx", database)
	if err != nil {
		c.t.Fatal(err)
	}
	defer pool.Close()
	changed, err := pool.ExecContext(c.t.Context(), `UPDATE orders SET due_time = due_time - $2, revision = revision + 1
		WHERE id = $1 AND state = 'CONFIRMED' AND due_time > $3`,
		order, time.Minute.Microseconds(), time.Now().Add(30*time.Second).UnixMicro())
	if err != nil {
		c.t.Fatal(err)
	}
	if n, err := changed.RowsAffected(); n != 1 || err != nil {
		c.t.Fatalf("%d orders wait for news for more than 30 s (%v), want 1", n, err)
	}
}

package shop

import (
	"testing"
	"time"
)

// TestReplicasShareTheWork runs two of every service on one PostgreSQL database
// each. All start at once, on databases that are empty. In the middle of a burst
// of orders those services of one column that hold work are killed: the others
// finish it.
func TestReplicasShareTheWork(t *testing.T) {
	databases := onPostgres(t)
	broker := freeAddr(t)
	startBroker(t, broker)
	a, b := startColumn(t, broker, databases), startColumn(t, broker, databases)
	a.waitForServices()
	b.waitForServices()
	a.waitForStock()
	b.waitForStock()
	wantOneCatalog(t, a, b)
	token, product := a.customer(), a.product(5)
	a.must("PUT", "/v1/stock/"+product, a.admin(), object{"available": 100_000})
	b.must("GET", "/v1/orders", token, nil) // a token of one is good at the other

	c := &crowd{t: t, at: []*market{a.market, b.market}, token: token, product: product}
	leave := c.enter(32)
	for c.placed.Load() < 200 && !t.Failed() {
		time.Sleep(time.Millisecond)
	}
	a.wantCalls("order", "payment", "inventory")
	b.wantCalls("order", "payment", "inventory")
	killed := time.Now()
	for _, name := range []string{"order", "payment", "inventory"} {
		b.kill[name]()
	}
	before := c.placed.Load()
	for c.placed.Load() < before+100 && !t.Failed() {
		time.Sleep(time.Millisecond)
	}
	leave()
	c.wg.Wait()
	answered := time.Since(killed)
	a.wantDecided(token)
	t.Logf("figure: %d orders at two replicas; after one is killed all are answered in %d ms and at rest in %d ms",
		c.placed.Load(), answered.Milliseconds(), time.Since(killed).Milliseconds())
	a.wantBalance(token, product)
}

// wantOneCatalog checks that the replicas of the product service have written
// the catalog once between them.
func wantOneCatalog(t *testing.T, replicas ...*column) {
	t.Helper()
	for _, r := range replicas {
		r.testCatalog(t)
		names := map[string]bool{}
		for _, p := range r.must("GET", "/v1/products?page_size=1000", "", nil)["products"].([]any) {
			name := p.(object)["name"].(string)
			if names[name] {
				t.Errorf("%q is in the catalog twice", name)
			}
			names[name] = true
		}
	}
}

package shop

import (
	"context"
	"maps"
	"net/http"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/meshmart/meshmart/tests/audit"
)

// chain is a shop that dies again and again: each process recovers from the death
// of the one before it, and is the next to die.
type chain struct {
	*victim
	market  *market
	token   string // of a customer
	product string
	rare    string // a product that is sold out
	books   audit.Books
	reaper  *reaper
	kills   int
}

// newChain opens a shop with a customer and something to sell.
func newChain(t *testing.T, r *reaper, databases map[string]string) *chain {
	t.Helper()
	environ := map[string]string{"SIMULATOR_LATENCY": "50ms", "DATABASE_MAX_CONNS": "3"}
	maps.Copy(environ, databases)
	v := newVictim(t, environ)
	c := &chain{victim: v, books: ledgers(t, v.dir, databases), reaper: r}
	c.market = &market{t: t, base: "http://" + v.addr, log: v.log, http: &http.Client{Timeout: 20 * time.Second}}
	c.mustBegin()
	c.token, c.product = c.market.customer(), c.market.product(5)
	admin := c.market.admin()
	c.market.must("PUT", "/v1/stock/"+c.product, admin, object{"available": 100_000})
	for _, p := range c.market.must("GET", "/v1/products?page_size=2", "", nil)["products"].([]any) {
		if id := p.(object)["id"].(string); id != c.product {
			c.rare = id
		}
	}
	c.market.must("PUT", "/v1/stock/"+c.rare, admin, object{"available": 0})
	waitForOutboxes(t, v.dir, databases) // what was announced so far is not of a story
	return c
}

// restart lets the process end as it should.
func (c *chain) restart() {
	c.t.Helper()
	c.quiet(100 * time.Millisecond)
	c.end()
	c.mustBegin()
}

// shopper returns somebody with an order of their own and so much time.
func (c *chain) shopper(limit time.Duration) *shopper {
	ctx, cancel := context.WithTimeout(c.t.Context(), limit)
	c.t.Cleanup(cancel)
	return &shopper{
		ctx: ctx, market: c.market, token: c.token, product: c.product, rare: c.rare,
		request: uuid.NewString(), books: c.books,
	}
}

// die has the process die as said, and the next one recover.
func (c *chain) die(d death) {
	c.t.Helper()
	met := c.try(d)
	for i := 0; !met && i < 3; i++ {
		c.restart() // some points only a process meets that has just started
		if len(d.others) > 0 {
			d.story = d.others[i%len(d.others)]
		}
		met = c.try(d)
	}
	if !met {
		c.reaper.mu.Lock()
		c.reaper.missed = append(c.reaper.missed, d)
		c.reaper.mu.Unlock()
	}
	if c.kills++; c.kills%20 == 0 {
		c.audit()
		c.mustBegin()
	}
}

// try reports false if the story does not lead to the point.
func (c *chain) try(d death) (met bool) {
	c.t.Helper()
	c.quiet(50 * time.Millisecond)
	c.set(d.point, d.nth)
	s := c.shopper(time.Minute)
	told := make(chan error, 1)
	go func() { told <- d.story.tell(s) }()
	if !c.dies(d, told) {
		return false
	}
	killed := time.Now()
	c.wantDead(d.point)
	if d.again != "" {
		c.set(d.again, 1)
		if c.begin() && !c.dies(d, told) {
			return false
		}
		killed = time.Now()
		c.wantDead(d.again)
	}
	before := len(c.points())
	c.disarm()
	c.mustBegin()
	if err := <-told; err != nil {
		c.t.Fatalf("%v: %v\n%s", d, err, tail(c.log.String(), 60))
	}
	c.record(d, s.decided.Sub(killed), c.points()[before:])
	return true
}

// dies waits until the process dies, or else until the story is told.
func (c *chain) dies(d death, told chan error) bool {
	c.t.Helper()
	select {
	case <-c.died:
		return true
	case err := <-told:
		told <- err
		if err != nil {
			c.t.Fatalf("%v: %v\n%s", d, err, tail(c.log.String(), 60))
		}
	}
	select {
	case <-c.died: // after the end of the order
		return true
	case <-time.After(500 * time.Millisecond):
	}
	c.disarm()
	return false
}

func (c *chain) record(d death, took time.Duration, points []string) {
	c.reaper.met(points, d)
	c.reaper.mu.Lock()
	defer c.reaper.mu.Unlock()
	c.reaper.killed[d.point] = true
	c.reaper.kills++
	if d.again != "" {
		c.reaper.killed[d.again] = true
		c.reaper.kills++
	}
	c.reaper.took = append(c.reaper.took, max(0, took)) // the order may be at its end before
}

// audit ends the process and checks the books.
func (c *chain) audit() {
	c.t.Helper()
	c.quiet(300 * time.Millisecond)
	c.end()
	wantBooks(c.t, c.dir, c.books)
	c.reaper.mu.Lock()
	defer c.reaper.mu.Unlock()
	c.reaper.audits++
}

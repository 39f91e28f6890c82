package shop

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/meshmart/meshmart/services/gateway"
	"github.com/meshmart/meshmart/services/internal/app"
	"github.com/meshmart/meshmart/tests/freeport"
)

// runAs makes the test's own binary the program shop, or one of the services,
// so that it can be a process of its own and be killed for real.
const runAs = "MESHMART_TEST_RUN_AS"

func TestMain(m *testing.M) {
	switch name := os.Getenv(runAs); name {
	case "":
		os.Exit(m.Run())
	case "shop":
		runShop()
	default:
		app.Main(service(name))
	}
}

func service(name string) app.Service {
	for _, t := range tiers(gateway.Options{}) {
		for _, svc := range t {
			if svc.Name == name {
				return svc.Service
			}
		}
	}
	panic("no service " + name)
}

// process is a shop in a process of its own, always at the same address.
type process struct {
	t    *testing.T
	dir  string
	more map[string]string // of the environment
	addr string
	cmd  *exec.Cmd
	log  *logBuffer
}

// start runs the process until it says that it is ready, and returns how long
// that took.
func (p *process) start() time.Duration {
	p.t.Helper()
	took, ready := p.launch()
	if !ready {
		p.t.Fatalf("the shop ended before it was ready: %v\n%s", p.cmd.Wait(), tail(p.log.String(), 40))
	}
	return took
}

// launch is start of a process that may end before it is ready.
func (p *process) launch() (took time.Duration, ready bool) {
	p.t.Helper()
	began := time.Now()
	p.cmd = exec.Command(os.Args[0])
	p.cmd.Env = append(bareEnviron(), runAs+"=shop")
	environ := testEnviron(p.dir)
	maps.Copy(environ, p.more)
	environ["HTTP_ADDR"] = p.addr
	for k, v := range environ {
		p.cmd.Env = append(p.cmd.Env, k+"="+v)
	}
	p.cmd.Stderr = p.log
	out, err := p.cmd.StdoutPipe()
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		p.t.Fatal(err)
	}
	child := p.cmd
	p.t.Cleanup(func() { child.Process.Kill() }) // should the test end before
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "meshmart is ready") {
			go io.Copy(io.Discard, out)
			return time.Since(began), true
		}
	}
	return 0, false
}

func (p *process) kill(s os.Signal) error {
	p.cmd.Process.Signal(s)
	return p.cmd.Wait()
}

// TestKilledShopLosesNothing kills the shop with SIGKILL again and again while
// customers order, each of whom repeats an order until it is answered. In the
// end every order is decided and the books balance.
func TestKilledShopLosesNothing(t *testing.T) {
	eachEngine(t, func(t *testing.T, databases map[string]string) {
		kills := 20
		if databases != nil {
			kills = 8 // each leaves its share of orders to be waited for
		}
		testKilled(t, databases, kills)
	})
}

func testKilled(t *testing.T, databases map[string]string, kills int) {
	p := &process{t: t, dir: t.TempDir(), more: databases, addr: freeAddr(t), log: &logBuffer{}}
	p.start()
	m := &market{t: t, base: "http://" + p.addr, spans: tracetest.NewInMemoryExporter(), log: p.log, http: &http.Client{Timeout: 20 * time.Second}}
	token, product := m.customer(), m.product(5)
	m.must("PUT", "/v1/stock/"+product, m.admin(), object{"available": 100_000})
	c := &crowd{t: t, at: []*market{m}, token: token, product: product}
	var slowest time.Duration
	leave := c.enter(24)
	for range kills {
		time.Sleep(50*time.Millisecond + rand.N(400*time.Millisecond)) // any moment will do
		p.kill(syscall.SIGKILL)
		slowest = max(slowest, p.start())
		if databases != nil { // most customers wait for the leases of what was killed
			leave()
			leave = c.enter(24)
		}
	}
	leave()
	rest := time.Now()
	c.wg.Wait()
	answered := time.Since(rest)
	m.wantDecided(token)
	t.Logf("figure: %d orders over %d kills, all decided and the books balanced; ready again after at most %d ms; "+
		"after the last kill all answered in %d ms and at rest in %d ms",
		c.placed.Load(), kills, slowest.Milliseconds(), answered.Milliseconds(), time.Since(rest).Milliseconds())
	m.wantBalance(token, product)
	if err := p.kill(syscall.SIGTERM); err != nil {
		t.Errorf("SIGTERM: %v\n%s", err, tail(p.log.String(), 20))
	}
}

// crowd is customers that order one product at the same time.
type crowd struct {
	t              *testing.T
	at             []*market // of one shop: who gets no answer at one asks the next
	token, product string
	wg             sync.WaitGroup
	placed         atomic.Int64 // orders that were answered
}

// enter has n more customers order one after another, until leave is called:
// then each waits for the answer to its last order, and goes.
func (c *crowd) enter(n int) (leave func()) {
	ctx, cancel := context.WithCancel(c.t.Context())
	for i := range n {
		c.wg.Go(func() {
			for ctx.Err() == nil {
				c.orderUntilAnswered(i, orderOf(c.product, 1+rand.IntN(3), randomCard()))
				c.placed.Add(1)
			}
		})
	}
	return cancel
}

// orderUntilAnswered sends the same order, first to the i-th market, until there
// is an answer.
func (c *crowd) orderUntilAnswered(i int, order object) {
	for ; c.t.Context().Err() == nil; i++ {
		code, out, err := c.at[i%len(c.at)].try("POST", "/v1/orders", c.token, order)
		switch {
		case err != nil || code == http.StatusServiceUnavailable || code == http.StatusGatewayTimeout || code == http.StatusTooManyRequests:
			time.Sleep(5 * time.Millisecond) // the shop is being restarted
		case code == http.StatusOK:
			return
		default:
			c.t.Errorf("order: %d %v", code, out)
			return
		}
	}
}

// bareEnviron is the environment of a child: none of the variables that a
// developer's shell may have for a shop of their own.
func bareEnviron() []string {
	var env []string
	for _, name := range []string{"PATH", "HOME", "TMPDIR"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}

// freeAddr returns an address on loopback for a process that is started, perhaps
// more than once.
func freeAddr(t *testing.T) string {
	t.Helper()
	addrs, err := freeport.Addrs(1)
	if err != nil {
		t.Fatal(err)
	}
	return addrs[0]
}

func randomCard() string {
	return []string{"tok_visa", "tok_visa", "tok_mastercard", "tok_chargeDeclined", "tok_chargeCustomerFail"}[rand.IntN(5)]
}

// wantDecided waits until every order has come to its end.
func (m *market) wantDecided(token string) {
	m.t.Helper()
	for _, state := range []string{"PENDING", "CONFIRMED", "CANCELLING"} {
		m.wantNone(token, state)
	}
}

// wantBalance waits until every order has come to its end, and checks that what
// was sold and what was taken are what the orders say.
func (m *market) wantBalance(token, product string) {
	m.t.Helper()
	m.wantDecided(token)
	var sold, completed float64
	page := ""
	for {
		list := m.must("GET", "/v1/orders?page_size=500&page_token="+page, token, nil)
		for _, o := range list["orders"].([]any) {
			order := o.(object)
			payment := "none"
			if id, _ := order["payment_id"].(string); id != "" {
				payment = m.must("GET", "/v1/payments/"+id, token, nil)["state"].(string)
			}
			switch order["state"] {
			case "COMPLETED":
				completed++
				sold += order["items"].([]any)[0].(object)["quantity"].(float64)
				if payment != "CAPTURED" {
					m.t.Errorf("order %s is COMPLETED and its payment %s", order["id"], payment)
				}
			default:
				if payment == "CAPTURED" || payment == "AUTHORIZED" || payment == "PENDING" {
					m.t.Errorf("order %s is %s and its payment %s", order["id"], order["state"], payment)
				}
			}
		}
		if page, _ = list["next_page_token"].(string); page == "" {
			break
		}
	}
	stock := m.stock(product)
	if stock["sold"] != sold || stock["reserved"] != 0.0 || stock["available"].(float64)+sold != stock["stocked"] {
		m.t.Errorf("%v completed orders of %v pieces, and the stock is %v", completed, sold, stock)
	}
	if completed == 0 {
		m.t.Error("no order was completed")
	}
}

// wantNone waits until no order is in a state.
func (m *market) wantNone(token, state string) {
	m.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		list := m.must("GET", fmt.Sprintf("/v1/orders?filter=state%%20%%3D%%20%%22%s%%22", state), token, nil)
		n := list["total_size"].(float64)
		if n == 0 {
			return
		}
		if time.Now().After(deadline) {
			m.t.Fatalf("%v orders stay %s, such as %v\n%s", n, state, list["orders"].([]any)[0], tail(m.log.String(), 40))
		}
		time.Sleep(20 * time.Millisecond)
	}
}

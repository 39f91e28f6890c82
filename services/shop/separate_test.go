package shop

import (
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/meshmart/meshmart/services/gateway"
	"github.com/meshmart/meshmart/tests/certs"
)

// TestSeparateProcesses runs every service as a process of its own, which find
// each other by address and meet at a broker, and sells something. They start
// before the broker does: none waits for another.
func TestSeparateProcesses(t *testing.T) {
	broker := freeAddr(t)
	m := startColumn(t, broker, nil)
	m.waitForServices()
	startBroker(t, broker)
	m.sellsSomething()
}

// TestSeparateProcessesWithCertificates: all that the shop's services ask of each
// other without a mesh, they may.
func TestSeparateProcessesWithCertificates(t *testing.T) {
	ca, broker := certs.NewCA(t, "shop"), freeAddr(t)
	startBroker(t, broker)
	m := startColumnWith(t, broker, nil, func(name string) map[string]string {
		f := certs.NewFiles(t)
		f.Take(t, ca, "spiffe://cluster.local/ns/default/sa/"+name)
		f.Trust(t, ca)
		return map[string]string{"MESH": "none", "TLS_CERT_FILE": f.Cert, "TLS_KEY_FILE": f.Key, "TLS_CA_FILE": f.CA}
	})
	m.waitForServices()
	m.sellsSomething()
	for line := range strings.Lines(m.log.String()) {
		if strings.Contains(line, "PERMISSION_DENIED") || strings.Contains(line, "CALLER_") {
			t.Errorf("a service of the shop was refused: %s", line)
		}
	}
}

// sellsSomething buys, and is refused, by all of the shop.
func (m *column) sellsSomething() {
	t := m.t
	m.waitForReadiness()
	m.waitForStock()
	token := m.customer()
	product := m.product(2)
	before := m.available(product)
	order := m.must("POST", "/v1/orders", token, orderOf(product, 2, "tok_visa"))
	m.await(token, order["id"].(string), "COMPLETED")
	if after := m.available(product); after != before-2 {
		t.Errorf("%d available before, %d after", before, after)
	}
	order = m.must("POST", "/v1/orders", token, orderOf(product, 1, "tok_chargeDeclined"))
	m.await(token, order["id"].(string), "REJECTED")
	m.wantCalls("product", "user", "inventory", "order", "payment")
}

// column is one replica of every service, each of which calls the others of its
// column. A market is what its gateway shows.
type column struct {
	*market
	addrs map[string]string // of the services, by their names
	ops   map[string]string // where they serve /metrics and /readyz
	start map[string]func() // starts a service again after kill
	kill  map[string]func() // ends a service with SIGKILL
}

// startColumn does not wait for anything. Without databases the services have
// SQLite files of their own.
func startColumn(t *testing.T, broker string, databases map[string]string) *column {
	t.Helper()
	return startColumnWith(t, broker, databases, func(string) map[string]string { return nil })
}

// startColumnWith has more in the environment of each service.
func startColumnWith(t *testing.T, broker string, databases map[string]string, more func(service string) map[string]string) *column {
	t.Helper()
	addrs := map[string]string{}
	for _, tier := range tiers(gateway.Options{}) {
		for _, svc := range tier {
			addrs[svc.Name] = freeAddr(t)
		}
	}
	delete(addrs, "gateway")
	rest := freeAddr(t)
	log := &logBuffer{}
	dir := t.TempDir()
	c := &column{addrs: addrs, ops: map[string]string{}, start: map[string]func(){}, kill: map[string]func(){}}
	for name, addr := range addrs {
		c.ops[name] = freeAddr(t)
		environ := map[string]string{
			"GRPC_ADDR": addr, "METRICS_ADDR": c.ops[name], "NATS_URL": "nats://" + broker,
			"DATABASE_URL": databases[strings.ToUpper(name)+"_DATABASE_URL"],
		}
		maps.Copy(environ, more(name))
		c.start[name] = func() { c.kill[name] = startService(t, name, dir, log, addrs, environ) }
		c.start[name]()
	}
	environ := map[string]string{"HTTP_ADDR": rest}
	maps.Copy(environ, more("gateway"))
	startService(t, "gateway", dir, log, addrs, environ)
	c.market = &market{t: t, base: "http://" + rest, spans: tracetest.NewInMemoryExporter(), log: log, http: &http.Client{Timeout: 20 * time.Second}}
	return c
}

// waitForServices waits until each takes calls: earlier ones would open circuit
// breakers, for a moment.
func (c *column) waitForServices() {
	c.t.Helper()
	for name, addr := range c.addrs {
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
			if conn, err := net.Dial("tcp", addr); err == nil {
				conn.Close()
				break
			}
			if time.Now().After(deadline) {
				c.t.Fatalf("%s takes no calls after a minute:\n%s", name, tail(c.log.String(), 40))
			}
		}
	}
}

// waitForReadiness waits until each service says that it is ready: where callers heed
// that, earlier calls are refused.
func (c *column) waitForReadiness() {
	c.t.Helper()
	for name, addr := range c.ops {
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
			if resp, err := c.http.Get("http://" + addr + "/readyz"); err == nil {
				resp.Body.Close()
				if resp.StatusCode == http.StatusOK {
					break
				}
			}
			if time.Now().After(deadline) {
				c.t.Fatalf("%s is not ready after a minute:\n%s", name, tail(c.log.String(), 40))
			}
		}
	}
}

// wantCalls checks that each of the services has answered a call.
func (m *market) wantCalls(services ...string) {
	m.t.Helper()
	lines := m.log.String()
	for _, name := range services {
		if !strings.Contains(lines, fmt.Sprintf(`"msg":"call","service":%q`, name)) {
			m.t.Errorf("no call of %s is in the log", name)
		}
	}
}

// startService returns what kills the process. Otherwise it has to end well at
// the end of the test.
func startService(t *testing.T, name, dir string, log *logBuffer, addrs, more map[string]string) (kill func()) {
	t.Helper()
	environ := map[string]string{
		runAs: name, "DATA_DIR": dir, "CATALOG_FILE": "builtin", "SIMULATOR_LATENCY": "1ms",
		"ADMIN_EMAIL": adminEmail, "ADMIN_PASSWORD": adminPassword,
	}
	maps.Copy(environ, more)
	cmd := exec.Command(os.Args[0])
	cmd.Env = bareEnviron()
	for k, v := range environ {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	for peer, addr := range addrs {
		cmd.Env = append(cmd.Env, strings.ToUpper(peer)+"_ADDR="+addr)
	}
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	killed := false
	t.Cleanup(func() {
		if killed {
			return
		}
		cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: %v\n%s", name, err, tail(log.String(), 30))
		}
	})
	return func() {
		killed = true
		cmd.Process.Kill()
		cmd.Wait()
	}
}

// startBroker runs NATS as a server that is found over the network, and returns
// what stops it before the test ends.
func startBroker(t *testing.T, addr string) (stop func()) {
	t.Helper()
	var port int
	if _, err := fmt.Sscanf(addr, "127.0.0.1:%d", &port); err != nil {
		t.Fatal(err)
	}
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: port, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(time.Minute) {
		t.Fatal("the broker is not ready")
	}
	stop = func() { s.Shutdown(); s.WaitForShutdown() }
	t.Cleanup(stop)
	return stop
}

// waitForStock waits until a product of the catalog can be bought.
func (m *market) waitForStock() {
	m.t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		_, list, err := m.try("GET", "/v1/products?page_size=1", "", nil)
		if err != nil {
			continue
		}
		products, _ := list["products"].([]any)
		if len(products) == 0 {
			continue
		}
		code, stock, err := m.try("GET", "/v1/stock/"+products[0].(object)["id"].(string), "", nil)
		if err == nil && code == http.StatusOK && stock["available"].(float64) > 0 {
			return
		}
	}
	m.t.Fatalf("nothing can be bought after a minute:\n%s", tail(m.log.String(), 40))
}

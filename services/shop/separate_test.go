package shop

import (
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

// TestSeparateProcesses runs every service as a process of its own, which find
// each other by address and meet at a broker, and sells something. They start
// before the broker does: none waits for another.
func TestSeparateProcesses(t *testing.T) {
	broker := freeAddr(t)
	addrs := map[string]string{}
	for _, name := range []string{"product", "user", "inventory", "order", "payment", "greeter"} {
		addrs[name] = freeAddr(t)
	}
	gateway := freeAddr(t)
	log := &logBuffer{}
	dir := t.TempDir()
	for name, addr := range addrs {
		startService(t, name, dir, log, addrs, map[string]string{"GRPC_ADDR": addr, "NATS_URL": "nats://" + broker})
	}
	startService(t, "gateway", dir, log, addrs, map[string]string{"HTTP_ADDR": gateway})
	startBroker(t, broker)

	m := &market{t: t, base: "http://" + gateway, spans: tracetest.NewInMemoryExporter(), log: log, http: &http.Client{Timeout: 20 * time.Second}}
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
	lines := log.String()
	for name := range addrs {
		if name != "greeter" && !strings.Contains(lines, fmt.Sprintf(`"msg":"call","service":%q`, name)) {
			t.Errorf("no call of %s is in the log", name)
		}
	}
}

func startService(t *testing.T, name, dir string, log *logBuffer, addrs, more map[string]string) {
	t.Helper()
	environ := map[string]string{
		runAs: name, "DATA_DIR": dir, "CATALOG_FILE": "builtin", "SIMULATOR_LATENCY": "1ms",
		"ADMIN_EMAIL": adminEmail, "ADMIN_PASSWORD": adminPassword,
	}
	maps.Copy(environ, more)
	cmd := exec.Command(os.Args[0])
	cmd.Env = os.Environ()
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
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: %v\n%s", name, err, tail(log.String(), 30))
		}
	})
}

// startBroker runs NATS as a server that is found over the network.
func startBroker(t *testing.T, addr string) {
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
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("the broker is not ready")
	}
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
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

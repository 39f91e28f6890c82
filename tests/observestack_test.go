package tests

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	allinone "github.com/meshmart/meshmart/services/shop"
	"github.com/meshmart/meshmart/tests/freeport"
	"github.com/meshmart/meshmart/tests/testbed"
)

// stack is what observability/up starts: a set of its own, on ports of its own,
// beside one that somebody may have running.
type stack struct {
	t       *testing.T
	name    string
	envFile string
	port    string // of the shop, where Prometheus looks for it
}

func newStack(t *testing.T) *stack {
	t.Helper()
	testbed.NeedsDocker(t)
	s := &stack{
		t: t, name: fmt.Sprintf("observe-test-%d", os.Getpid()), envFile: filepath.Join(t.TempDir(), "observe.env"),
		port: freePort(t),
	}
	t.Cleanup(func() {
		if text, err := s.script("down"); err != nil {
			t.Errorf("down: %v\n%s", err, text)
		}
	})
	return s
}

// freePort returns one for the shop that is still free when it is started.
func freePort(t *testing.T) string {
	t.Helper()
	ports, err := freeport.Ports(1)
	if err != nil {
		t.Fatal(err)
	}
	return strconv.Itoa(ports[0])
}

// script runs observability/NAME. Variables are added to those of the stack.
func (s *stack) script(name string, environ ...string) (string, error) {
	cmd := exec.CommandContext(context.WithoutCancel(s.t.Context()), "../observability/"+name)
	cmd.Env = append(os.Environ(), "OBSERVE_NAME="+s.name, "OBSERVE_ENV="+s.envFile, "SHOP_PORT="+s.port,
		"OTLP_PORT=0", "JAEGER_PORT=0", "PROMETHEUS_PORT=0", "GRAFANA_PORT=0")
	cmd.Env = append(cmd.Env, environ...)
	text, err := cmd.CombinedOutput()
	return string(text), err
}

// up starts it, or changes what runs, and returns what it says and the variables
// that the shop is to have.
func (s *stack) up(environ ...string) (string, map[string]string) {
	s.t.Helper()
	said, err := s.script("up", environ...)
	if err != nil {
		s.t.Fatalf("up: %v\n%s", err, said)
	}
	text, err := os.ReadFile(s.envFile)
	if err != nil {
		s.t.Fatal(err)
	}
	out := map[string]string{}
	for line := range strings.Lines(string(text)) {
		k, v, _ := strings.Cut(strings.TrimSpace(line), "=")
		out[k] = v
	}
	return said, out
}

// left are the containers, networks and files that are there.
func (s *stack) left() []string {
	s.t.Helper()
	filter := "label=meshmart.observe=" + s.name
	var all []string
	for _, args := range [][]string{
		{"ps", "-a", "--filter", filter, "--format", "{{.Names}}"},
		{"network", "ls", "--filter", filter, "--format", "{{.Name}}"},
	} {
		out, err := exec.CommandContext(s.t.Context(), "docker", args...).CombinedOutput()
		if err != nil {
			s.t.Fatalf("%v: %s", err, out)
		}
		all = append(all, strings.Fields(string(out))...)
	}
	if _, err := os.Stat(s.envFile); err == nil {
		all = append(all, s.envFile)
	}
	return all
}

// sell runs the shop for a completed and a rejected order, and returns the ids of
// their traces by state.
func sell(t *testing.T, port string, environ map[string]string) map[string]string {
	t.Helper()
	environ["DATA_DIR"], environ["HTTP_ADDR"], environ["ADMIN_PASSWORD"] = t.TempDir(), ":"+port, testbed.AdminPassword
	for _, name := range testbed.Services {
		environ[strings.ToUpper(name)+"_GRPC_ADDR"] = "127.0.0.1:0"
	}
	delete(environ, "GATEWAY_GRPC_ADDR")
	ctx, stop := context.WithCancel(t.Context())
	ended, ready := make(chan error, 1), make(chan struct{})
	go func() {
		ended <- allinone.Run(ctx, allinone.Options{Environ: environ, Log: io.Discard, Ready: func(net.Addr) { close(ready) }})
	}()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("shop: %v", err)
		}
	})
	select {
	case <-ready:
	case err := <-ended:
		ended <- nil
		t.Fatalf("shop: %v", err)
	case <-time.After(hang):
		t.Fatal("the shop is not ready")
	}
	c := newClient(&balancer{gates: []*gate{{addr: "127.0.0.1:" + port, ready: true}}})
	defer c.close()
	return place(t, c)
}

// place places one order that is completed and one that is rejected.
func place(t *testing.T, c *client) map[string]string {
	t.Helper()
	call := func(method, path, token string, body any) map[string]any {
		reply, err := c.call(t.Context(), method, path, token, body)
		if err != nil {
			t.Fatal(err)
		}
		return reply
	}
	user := map[string]any{"email": "ada@example.com", "password": "s3cret-pass-phrase", "display_name": "Ada"}
	call(http.MethodPost, "/v1/users", "", user)
	token, err := signIn(t.Context(), c, "ada@example.com", "s3cret-pass-phrase")
	if err != nil {
		t.Fatal(err)
	}
	product := call(http.MethodGet, "/v1/products?page_size=1", "", nil)["products"].([]any)[0].(map[string]any)["id"]
	traces := map[string]string{}
	for _, payment := range []string{"tok_visa", "tok_chargeDeclined"} {
		placed := call(http.MethodPost, "/v1/orders", token, map[string]any{
			"request_id": uuid.NewString(), "payment_token": payment, "items": []map[string]any{{"product_id": product, "quantity": 1}},
		})
		found(t, "the end of an order", func(context.Context) error {
			got := call(http.MethodGet, "/v1/orders/"+placed["id"].(string), token, nil)
			if got["state"] != "COMPLETED" && got["state"] != "REJECTED" {
				return fmt.Errorf("it is %v", got["state"])
			}
			traces[got["state"].(string)] = placed["trace_id"].(string)
			return nil
		})
	}
	return traces
}

// found waits until look returns nil.
func found(t *testing.T, what string, look func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), hang)
	defer cancel()
	if err := until(ctx, func() error { return look(ctx) }); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

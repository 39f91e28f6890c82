package observability

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// shop is all services in one process, as `make run` has them.
type shop struct {
	t       *testing.T
	base    string // of REST
	payment string // address of its gRPC, for what only services may call
}

const adminEmail, adminPassword = "admin@example.com", "correct-horse-battery"

// open builds the shop as it is delivered and starts it.
func open(t *testing.T) *shop {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "shop")
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-tags", "grpcnotrace,nethttpomithttp2,nopgxregisterdefaulttypes", "-ldflags", "-s -w", "-o", bin, "./services/cmd/shop")
	build.Dir, build.Env = root(), append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	s := &shop{t: t, payment: free(t)}
	cmd := exec.Command(bin)
	cmd.Env = []string{
		"DATA_DIR=" + t.TempDir(), "HTTP_ADDR=127.0.0.1:0", "ADMIN_EMAIL=" + adminEmail, "ADMIN_PASSWORD=" + adminPassword,
		"PAYMENT_GRPC_ADDR=" + s.payment, "PAYMENT_TRUST_NETWORK=true", "TRACE_RATIO=1",
	}
	for _, other := range services() {
		if other != "payment" {
			cmd.Env = append(cmd.Env, strings.ToUpper(other)+"_GRPC_ADDR=127.0.0.1:0")
		}
	}
	out, log := &watchedOutput{found: make(chan string, 1)}, &bytes.Buffer{}
	cmd.Stdout, cmd.Stderr = out, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		<-done
		if t.Failed() {
			t.Logf("the end of the shop's log:\n%s", log.Bytes()[max(0, log.Len()-4000):])
		}
	})
	select {
	case s.base = <-out.found:
	case err := <-done:
		done <- err
		t.Fatalf("the shop ended: %v", err)
	case <-time.After(2 * time.Minute):
		t.Fatal("the shop is not ready")
	}
	return s
}

// services are the names of the programs that are one service each.
func services() []string {
	programs, err := os.ReadDir(filepath.Join(root(), "services", "cmd"))
	if err != nil {
		panic(err)
	}
	var names []string
	for _, p := range programs {
		if p.Name() != "shop" && p.Name() != "shopctl" {
			names = append(names, p.Name())
		}
	}
	return names
}

func free(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

var welcome = regexp.MustCompile(`console\s+(http://\S+)/`)

// watchedOutput waits for the line that says where the shop is.
type watchedOutput struct {
	mu    sync.Mutex
	text  []byte
	found chan string
}

func (w *watchedOutput) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text = append(w.text, p...)
	if m := welcome.FindSubmatch(w.text); m != nil {
		w.text = nil
		select {
		case w.found <- string(m[1]):
		default:
		}
	}
	return len(p), nil
}

type object = map[string]any

// must makes a request that has to succeed, and returns the first JSON object of
// the answer.
func (s *shop) must(method, path, token string, body any) object {
	s.t.Helper()
	status, out := s.call(method, path, token, body)
	if status != http.StatusOK {
		s.t.Fatalf("%s %s: %d %v", method, path, status, out)
	}
	return out
}

func (s *shop) call(method, path, token string, body any) (int, object) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 30*time.Second)
	defer cancel()
	var in io.Reader = http.NoBody
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			s.t.Fatal(err)
		}
		in = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, s.base+path, in)
	if err != nil {
		s.t.Fatal(err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	out := object{}
	if err := json.NewDecoder(resp.Body).Decode(&out); err != nil {
		s.t.Fatalf("%s %s: %d: %v", method, path, resp.StatusCode, err)
	}
	return resp.StatusCode, out
}

// await asks for an order until it is in the state.
func (s *shop) await(token, id, state string) object {
	s.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		o := s.must("GET", "/v1/orders/"+id, token, nil)
		if o["state"] == state {
			return o
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("the order is %v, not %s", o, state)
		}
	}
}

// watch begins a stream of server-sent events, and ends it after the first line.
func (s *shop) watch(path, token string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", s.base+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil || resp.StatusCode != http.StatusOK {
		s.t.Fatal(path, resp, err)
	}
	resp.Body.Read(make([]byte, 1))
	resp.Body.Close()
}

// internal calls an RPC of the payment service that no route leads to, with the id
// of an order as the only field of its request, and returns gRPC's status.
func (s *shop) internal(method, order string) string {
	s.t.Helper()
	message := append([]byte{0x0a, byte(len(order))}, order...)
	frame := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message)))
	req, err := http.NewRequestWithContext(s.t.Context(), "POST", "http://"+s.payment+"/payment.v1.PaymentService/"+method, bytes.NewReader(append(frame, message...)))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("TE", "trailers")
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		s.t.Fatal(err)
	}
	return resp.Header.Get("Grpc-Status") + resp.Trailer.Get("Grpc-Status")
}

// scrape is what Prometheus gets.
func (s *shop) scrape() (text []byte, contentType string) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), "GET", s.base+"/metrics", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Accept", "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err = io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		s.t.Fatal(resp.Status, err)
	}
	return text, resp.Header.Get("Content-Type")
}

func uuid() string {
	b := make([]byte, 16)
	rand.Read(b)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// visit has every RPC that has an objective succeed at least once, and some others.
func (s *shop) visit() {
	s.t.Helper()
	admin := s.must("POST", "/v1/auth:login", "", object{"email": adminEmail, "password": adminPassword})["access_token"].(string)
	product := s.goods(admin)
	s.customer(admin, product)
	s.must("DELETE", "/v1/products/"+product, admin, nil)
	s.must("POST", "/v1/greetings", "", object{"name": "Ada"})
	s.watch("/v1/greetings:list?name=Ada", "")
	s.watch("/v1/products:watch", "")
	s.must("GET", "/v1/users:healthCheck", "", nil)
	s.must("GET", "/.well-known/jwks.json", "", nil)
	if got := s.internal("Void", uuid()); got != "0" {
		s.t.Fatalf("Void: status %s", got)
	}
	s.internal("Capture", uuid()) // of an order that there is not
}

// goods has the catalog and the stock looked at and changed.
func (s *shop) goods(admin string) (product string) {
	s.t.Helper()
	product = s.must("POST", "/v1/products", admin, object{"product": object{
		"sku": "X-" + uuid()[:8], "name": "Cup", "category": "cups", "price": object{"currency_code": "EUR", "units": "5"},
	}})["id"].(string)
	s.must("GET", "/v1/products/"+product, "", nil)
	s.must("GET", "/v1/products", "", nil)
	s.must("GET", "/v1/products:batchGet?ids="+product, "", nil)
	s.must("PATCH", "/v1/products/"+product, admin, object{"name": "Mug"})
	s.must("PUT", "/v1/stock/"+product, admin, object{"available": 100})
	s.must("POST", "/v1/stock/"+product+":adjust", admin, object{"delta": 5, "request_id": uuid()})
	s.must("GET", "/v1/stock/"+product, "", nil)
	s.must("GET", "/v1/stock:batchGet?product_ids="+product, "", nil)
	s.call("POST", "/v1/stock:sync", admin, object{"product_id": product, "available": 100})
	return product
}

// customer is one who registers, orders, changes their mind, and leaves.
func (s *shop) customer(admin, product string) {
	s.t.Helper()
	email, password := uuid()+"@example.com", "correct horse"
	id := s.must("POST", "/v1/users", "", object{"email": email, "password": password, "display_name": "Ada"})["id"].(string)
	session := s.must("POST", "/v1/auth:login", "", object{"email": email, "password": password})
	session = s.must("POST", "/v1/auth:refresh", "", object{"refresh_token": session["refresh_token"]})
	token := session["access_token"].(string)
	s.must("GET", "/v1/users/me", token, nil)
	s.must("PATCH", "/v1/users/me", token, object{"display_name": "Ada L."})
	s.must("GET", "/v1/users", admin, nil)

	order := func(card string) string {
		return s.must("POST", "/v1/orders", token, object{
			"request_id": uuid(), "payment_token": card, "items": []object{{"product_id": product, "quantity": 1}},
		})["id"].(string)
	}
	paid := order("tok_visa")
	s.watch("/v1/orders/"+paid+":watch", token)
	s.await(token, order("tok_chargeDeclined"), "REJECTED")
	payment := s.await(token, paid, "COMPLETED")["payment_id"].(string)
	s.must("GET", "/v1/payments/"+payment, token, nil)
	s.must("GET", "/v1/orders", token, nil)
	s.must("POST", "/v1/orders/"+paid+":cancel", token, object{})
	s.await(token, paid, "CANCELLED")

	s.must("POST", "/v1/auth:logout", token, object{"refresh_token": session["refresh_token"]})
	token = s.must("POST", "/v1/auth:login", "", object{"email": email, "password": password})["access_token"].(string)
	s.must("DELETE", "/v1/users/"+id, token, nil)
}

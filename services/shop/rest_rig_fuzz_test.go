package shop

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
)

// rig is a shop that requests are thrown at, and what is known of it.
type rig struct {
	base string
	http *http.Client
	log  *logBuffer
	doc  *document

	texts, values []string // hostile ones: texts, and JSON

	mu     sync.Mutex
	admin  *person
	people [2]*person // customers, each with an order
	goods  [4]string  // ids of products
	made   int
	newest map[string]string // the last id that each collection gave out, by its path
}

// person is somebody with an account. What is in it does not change; somebody
// who is gone is replaced.
type person struct {
	id, email, password    string
	token, refresh         string
	order, payment, cursor string // of theirs; cursor is a page token of the catalog
}

// newRig runs a shop until the end of the test.
func newRig(t testing.TB, databases map[string]string) *rig {
	t.Helper()
	r := &rig{log: &logBuffer{}, newest: map[string]string{}, texts: hostileTexts(), values: hostileJSON(), http: &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport:     &http.Transport{MaxIdleConnsPerHost: 16},
	}}
	r.base = "http://" + r.run(t, databases).String()
	code, text, err := r.send("GET", "/openapi.json", "", nil)
	if err != nil || code != http.StatusOK {
		t.Fatalf("openapi.json: %d %v", code, err)
	}
	r.doc = readDocument(t, text)
	r.admin = &person{email: adminEmail, password: adminPassword}
	if err := r.signIn(r.admin); err != nil {
		t.Fatal(err)
	}
	if err := r.replenish(); err != nil {
		t.Fatal(err)
	}
	return r
}

// run starts the shop and returns its address. A proxy is in front of it, which
// lets a request have a rate limit of its own.
func (r *rig) run(t testing.TB, databases map[string]string) net.Addr {
	environ := testEnviron(t.TempDir())
	maps.Copy(environ, databases)
	environ["TRUSTED_PROXIES"] = "1"
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan net.Addr, 1), make(chan error, 1)
	go func() {
		done <- Run(ctx, Options{Environ: environ, Log: r.log, Ready: func(a net.Addr) { ready <- a }})
	}()
	t.Cleanup(func() {
		cancel()
		r.http.CloseIdleConnections()
		if err := <-done; err != nil {
			t.Errorf("the shop ended with %v", err)
		}
	})
	select {
	case addr := <-ready:
		return addr
	case err := <-done:
		done <- nil
		t.Fatalf("the shop did not start: %v", err)
	case <-time.After(time.Minute):
		t.Fatalf("the shop is not ready after a minute:\n%s", tail(r.log.String(), 60))
	}
	return nil
}

// send makes a request that is as it should be.
func (r *rig) send(method, path, token string, body any) (int, []byte, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return 0, nil, err
	}
	var in io.Reader
	if body != nil {
		in = bytes.NewReader(text)
	}
	req, err := http.NewRequest(method, r.base+path, in)
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("X-Forwarded-For", r.address())
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := r.http.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	text, err = io.ReadAll(resp.Body)
	return resp.StatusCode, text, err
}

// must is send for a request that has to succeed.
func (r *rig) must(method, path, token string, body any) (object, error) {
	code, text, err := r.send(method, path, token, body)
	if err != nil || code != http.StatusOK {
		return nil, fmt.Errorf("%s %s: %d %s, %v", method, path, code, text, err)
	}
	out := object{}
	return out, json.Unmarshal(text, &out)
}

// address returns another client's address each time.
func (r *rig) address() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.made++
	return fmt.Sprintf("10.%d.%d.%d", r.made>>16&255, r.made>>8&255, r.made&255)
}

func (r *rig) signIn(p *person) error {
	out, err := r.must("POST", "/v1/auth:login", "", object{"email": p.email, "password": p.password})
	if err != nil {
		return err
	}
	p.token, p.refresh = out["access_token"].(string), out["refresh_token"].(string)
	return nil
}

// replenish makes what is not there, or not any more.
func (r *rig) replenish() error {
	for i := range r.goods {
		if r.goods[i] != "" {
			continue
		}
		out, err := r.must("POST", "/v1/products", r.admin.token, object{"initial_stock": 1000, "product": object{
			"sku": "rig-" + uuid.NewString(), "name": "Mug", "category": "kitchen", "price": object{"currency_code": "EUR", "units": "12"},
		}})
		if err != nil {
			return err
		}
		r.goods[i] = out["id"].(string)
	}
	for i := range r.people {
		if r.people[i] != nil {
			continue
		}
		p, err := r.customer()
		if err != nil {
			return err
		}
		r.people[i] = p
	}
	return nil
}

// customer returns somebody new who has ordered something.
func (r *rig) customer() (*person, error) {
	p := &person{email: uuid.NewString() + "@example.com", password: userPassword}
	out, err := r.must("POST", "/v1/users", "", object{"email": p.email, "password": p.password})
	if err != nil {
		return nil, err
	}
	p.id = out["id"].(string)
	if err := r.signIn(p); err != nil {
		return nil, err
	}
	if out, err = r.must("GET", "/v1/products?page_size=1", "", nil); err != nil {
		return nil, err
	}
	p.cursor = out["next_page_token"].(string)
	bought := out["products"].([]any)[0].(object)["id"].(string) // no request deletes it: none knows it
	if out, err = r.must("POST", "/v1/orders", p.token, orderOf(bought, 1, "tok_visa")); err != nil {
		return nil, err
	}
	p.order, p.payment = out["id"].(string), out["payment_id"].(string)
	return p, nil
}

// know returns a copy of what is known, so that a request is made of one state.
func (r *rig) know() (*person, [2]*person, [4]string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.admin, r.people, r.goods
}

// remember keeps the id of what a request has made.
func (r *rig) remember(s *shot, a *answer) {
	var made struct{ ID string }
	if s.op.method != "POST" || a.status != http.StatusOK || json.Unmarshal(a.body, &made) != nil || made.ID == "" {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.newest[s.op.path] = made.ID
}

// newestOf returns the id that is to be known of a collection.
func (r *rig) newestOf(path string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.newest[path]
}

// learn replaces what a request has done away with: the products that are gone,
// and those people whose tokens are. Only one may do so at a time.
func (r *rig) learn(s *shot, status int) error {
	gone := status == http.StatusOK && s.op.method == "DELETE" || strings.HasPrefix(s.op.path, "/v1/auth:") && status == http.StatusOK
	if !gone && !(status == http.StatusUnauthorized && s.genuine) {
		return nil
	}
	admin, people, goods := r.know()
	for i, p := range people {
		if s.caller == p || strings.Contains(s.url, p.id) || strings.Contains(s.body, p.refresh) {
			people[i] = nil
		}
	}
	for i, id := range goods {
		if strings.Contains(s.url, id) {
			goods[i] = ""
		}
	}
	fresh := &rig{base: r.base, http: r.http, admin: &person{email: adminEmail, password: adminPassword}, people: people, goods: goods, made: 1 << 23}
	if s.caller != admin {
		fresh.admin = admin
	} else if err := fresh.signIn(fresh.admin); err != nil {
		return err
	}
	if err := fresh.replenish(); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.admin, r.people, r.goods = fresh.admin, fresh.people, fresh.goods
	return nil
}

package shopctl

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	product1 = "01890000-0000-7000-8000-000000000001"
	order1   = "01890000-0000-7000-8000-0000000000aa"
	trace1   = "4bf92f3577b34da6a3ce929d0e0e4736"
)

// shop is a gateway that answers as a test tells it, and a machine that shopctl
// runs on.
type shop struct {
	*httptest.Server
	env     map[string]string
	mu      sync.Mutex
	answers map[string]http.HandlerFunc // by method and path, without the query
	asked   []string                    // method, path with query, and body
}

func newShop(t *testing.T, answers map[string]http.HandlerFunc) *shop {
	s := &shop{answers: map[string]http.HandlerFunc{
		"POST /v1/auth:login": reply(`{"access_token":"access-secret","refresh_token":"refresh-secret","token_type":"Bearer","expires_in":600}`),
		"GET /v1/products":    reply(`{"products":[` + mug + `],"next_page_token":"","total_size":1}`),
	}}
	for k, v := range answers {
		s.answers[k] = v
	}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	s.env = map[string]string{"XDG_CONFIG_HOME": filepath.Join(t.TempDir(), "config"), "SHOPCTL_SERVER": s.URL}
	return s
}

func (s *shop) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	answer, ok := s.answers[r.Method+" "+r.URL.Path]
	asked := r.Method + " " + r.URL.RequestURI()
	if r.URL.Path != "/v1/products:import" { // whose body may be endless
		body, _ := io.ReadAll(r.Body)
		asked = strings.TrimSpace(asked + " " + strings.ReplaceAll(string(body), ", ", ","))
	}
	s.mu.Lock()
	s.asked = append(s.asked, asked)
	s.mu.Unlock()
	if !ok {
		http.NotFound(w, r)
		return
	}
	answer(w, r)
}

func reply(body string) http.HandlerFunc { return status(http.StatusOK, body) }

func status(code int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if strings.HasPrefix(body, ":") {
			w.Header().Set("Content-Type", "text/event-stream")
		}
		w.WriteHeader(code)
		_, _ = io.WriteString(w, body)
	}
}

// ran is what a command did.
type ran struct {
	code     int
	out, err string // with instants replaced by TIME, and the server by SHOP
}

var instant = regexp.MustCompile(`(\b\d{4}-\d\d-\d\d )?\b\d\d:\d\d:\d\d(\.\d{3})?`)

func (s *shop) run(t *testing.T, stdin io.Reader, args ...string) ran {
	t.Helper()
	return s.runContext(t, t.Context(), stdin, args...)
}

func (s *shop) runContext(t *testing.T, ctx context.Context, stdin io.Reader, args ...string) ran {
	t.Helper()
	var out, err bytes.Buffer
	code := Run(ctx, Process{
		Args: args, Env: func(k string) string { return s.env[k] }, Stdin: stdin, Stdout: &out, Stderr: &err,
		pause: func(ctx context.Context, _ time.Duration) error { return ctx.Err() },
	})
	for _, secret := range []string{"access-secret", "refresh-secret", "correct horse"} {
		if strings.Contains(out.String()+err.String(), secret) {
			t.Errorf("%q prints a secret", args)
		}
	}
	tidy := func(b *bytes.Buffer) string {
		return instant.ReplaceAllString(strings.ReplaceAll(b.String(), s.URL, "SHOP"), "TIME")
	}
	return ran{code, tidy(&out), tidy(&err)}
}

func (s *shop) signIn(t *testing.T) {
	t.Helper()
	if r := s.run(t, strings.NewReader("correct horse\n"), "login", "a@example.com"); r.code != exitOK {
		t.Fatalf("login: %+v", r)
	}
	s.asked = nil
}

// What the shop answers with.
const (
	mug = `{"id":"` + product1 + `","sku":"KIT-001","name":"Tall Mug","description":"A mug","category":"kitchen",` +
		`"price":{"currency_code":"EUR","units":"12","nanos":500000000},"image":"☕","create_time":"2026-01-02T03:04:05Z","update_time":"2026-01-02T03:04:05Z","etag":"v1"}`
	stock1 = `{"product_id":"` + product1 + `","available":7,"reserved":1,"sold":2,"stocked":10,"update_time":"2026-01-02T03:04:05Z","etag":"v1"}`
	user1  = `{"id":"` + product1 + `","email":"a@example.com","display_name":"Ann","roles":["user","admin"],"create_time":"2026-01-02T03:04:05Z"}`
)

// order is an order in a state.
func order(state, reason, message string) string {
	return fmt.Sprintf(`{"id":"%s","state":"%s","reason":"%s","message":"%s","items":[{"product_id":"%s","sku":"KIT-001","name":"Tall Mug","quantity":2,`+
		`"unit_price":{"currency_code":"EUR","units":"12","nanos":500000000}}],"total":{"currency_code":"EUR","units":"25","nanos":0},`+
		`"payment_id":"pay-1","trace_id":"%s","create_time":"2026-01-02T03:04:05Z","update_time":"2026-01-02T03:04:05Z"}`,
		order1, state, reason, message, product1, trace1)
}

// states is a stream of an order's states, 20 ms after each other; of the last
// one the reason is given.
func states(reason string, all ...string) string {
	text := ": open\n\n"
	for i, state := range all {
		why := ""
		if i == len(all)-1 {
			why = reason
		}
		text += fmt.Sprintf("id: %d\nevent: message\ndata: {\"change\":{\"version\":\"%d\",\"state\":\"%s\",\"reason\":\"%s\",\"time\":\"2026-01-02T03:04:05.%03dZ\"},\"order\":%s}\n\n",
			i+1, i+1, state, why, 20*i, order(state, why, ""))
	}
	return text + "event: end\ndata: {}\n\n"
}

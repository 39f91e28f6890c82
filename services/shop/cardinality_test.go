package shop

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	greeterpb "github.com/meshmart/meshmart/proto/greeter/v1"
	productpb "github.com/meshmart/meshmart/proto/product/v1"
	userpb "github.com/meshmart/meshmart/proto/user/v1"
)

// marker is in all that hammer makes up. No metric may have it.
const marker = "zqx"

// TestRandomInputMakesNoSeries counts the series of /metrics while a shop is
// asked for what nobody would think of. The codes that its methods may answer
// with are soon all there, and then nothing brings another series.
func TestRandomInputMakesNoSeries(t *testing.T) {
	m := open(t, t.TempDir(), nil)
	h := newHammer(m)
	fresh := len(m.series())
	const round, rounds = 2000, 30
	var grown []string
	all, asked := m.series(), 0
	for asked == 0 || len(grown) > 0 {
		h.hammer(round)
		asked += round
		grown = nil
		for name := range m.series() {
			if !all[name] {
				grown = append(grown, name)
			}
			if strings.Contains(strings.ToLower(name), marker) {
				t.Fatalf("input of a client is in %s", name)
			}
			all[name] = true
		}
		if asked == round*rounds {
			t.Fatalf("%d series after %d random requests, and more with each; the last are %.20q", len(all), asked, grown[:min(20, len(grown))])
		}
	}
	t.Logf("figure: /metrics of the whole shop has %d series when it is fresh and %d after %d random requests, of which the last %d brought none",
		fresh, len(all), asked, round)
	if h.answered["rest"] < asked/4 || h.answered["grpc"] < asked/4 {
		t.Errorf("answered were %v of %d", h.answered, asked)
	}
}

// series returns the names of all series on /metrics, with their labels.
func (m *market) series() map[string]bool {
	m.t.Helper()
	got := map[string]bool{}
	for name := range m.metrics() {
		got[name] = true
	}
	return got
}

// hammer asks for what is not there, in all the words that a client can choose.
type hammer struct {
	*market
	user, admin string
	conns       []*grpc.ClientConn

	mu       sync.Mutex
	answered map[string]int
}

func newHammer(m *market) *hammer {
	h := &hammer{market: m, user: m.customer(), admin: m.admin(), answered: map[string]int{}}
	for line := range strings.Lines(m.log.String()) {
		var l struct{ Msg, Addr string }
		if json.Unmarshal([]byte(line), &l) != nil || l.Msg != "serving gRPC" {
			continue
		}
		cc, err := grpc.NewClient(l.Addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			m.t.Fatal(err)
		}
		m.t.Cleanup(func() { cc.Close() })
		h.conns = append(h.conns, cc)
	}
	if len(h.conns) < 6 {
		m.t.Fatalf("%d services take calls", len(h.conns))
	}
	return h
}

func (h *hammer) hammer(n int) {
	h.t.Helper()
	var wg sync.WaitGroup
	const workers = 8
	for range workers {
		wg.Go(func() {
			for i := range n / workers {
				how := "rest"
				if i%2 == 0 {
					how = "grpc"
				}
				if how == "rest" && h.rest() || how == "grpc" && h.grpc() {
					h.mu.Lock()
					h.answered[how]++
					h.mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
}

func word() string { return fmt.Sprintf("%s%x", marker, rand.Uint64()) }

func oneOf[T any](of ...T) T { return of[rand.IntN(len(of))] }

// rest makes a request and reports whether it was answered.
func (h *hammer) rest() bool {
	id := oneOf(word(), uuid.NewString())
	path := oneOf("/v1/products/"+id, "/v1/orders/"+id, "/v1/orders/"+id+":cancel", "/v1/users/"+id, "/v1/payments/"+id, "/v1/stock/"+id,
		"/v1/orders", "/v1/products", "/v1/users", "/v1/auth:login", "/v1/greetings", "/v1/"+word()+"/"+id, "/"+word(), "/v1/products/"+id+":"+word(),
		"/.well-known/"+word(), "/console/"+word()) + oneOf("", "?"+word()+"="+word(), "?filter="+word(), "?page_token="+word())
	method := oneOf("GET", "GET", "POST", "POST", "PATCH", "DELETE", "PUT", strings.ToUpper(word()))
	var body any
	if method != "GET" {
		body = oneOf[any](h.body(), word())
	}
	req, err := h.request(method, path, oneOf(h.user, h.admin, "", word()), body)
	if err != nil {
		return false
	}
	req.Host = word() + ".example.com"
	for _, name := range []string{"User-Agent", "X-Forwarded-For", "X-Forwarded-Host", "Tracestate", "Accept", "Grpc-Timeout", "Grpc-Metadata-" + word(), "X-" + word()} {
		req.Header.Set(name, word())
	}
	req.Header.Set("Traceparent", fmt.Sprintf("00-%032x-%016x-01", rand.Uint64()|1, rand.Uint64()|1))
	resp, err := (&http.Client{Transport: h.http.Transport, Timeout: 5 * time.Second}).Do(req)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return true
}

// body is what some route understands.
func (h *hammer) body() object {
	return oneOf(
		object{"email": word() + "@example.com", "password": word() + word(), "display_name": word()},
		object{"email": adminEmail, "password": word()},
		object{"name": word(), "language": oneOf("en", word())},
		object{"reason": word()},
		orderOf(oneOf(uuid.NewString(), word()), 1, oneOf("tok_visa", word())),
		object{"sku": word(), "name": word(), "category": word(), "price": object{"currency_code": oneOf("EUR", strings.ToUpper(word()[3:6])), "units": "1"}},
		object{"available": rand.IntN(9), "request_id": uuid.NewString()},
		object{word(): word()},
	)
}

// grpc makes a call and reports whether it was answered.
func (h *hammer) grpc() bool {
	ctx, cancel := context.WithTimeout(h.t.Context(), 5*time.Second)
	defer cancel()
	ctx = metadata.AppendToOutgoingContext(ctx, "x-"+word(), word(), "user-agent", word(), "x-forwarded-for", word(),
		"grpc-previous-rpc-attempts", word(), "x-envoy-attempt-count", fmt.Sprint(rand.IntN(300)))
	if rand.IntN(2) == 0 {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+oneOf(h.user, h.admin, word()))
	}
	cc := oneOf(h.conns...)
	var out greeterpb.GreetResponse
	switch rand.IntN(6) {
	case 0:
		productpb.NewProductServiceClient(cc).GetProduct(ctx, &productpb.GetProductRequest{Id: oneOf(word(), uuid.NewString())})
	case 1:
		productpb.NewProductServiceClient(cc).ListProducts(ctx, &productpb.ListProductsRequest{Filter: word(), OrderBy: word(), PageToken: word()})
	case 2:
		userpb.NewAuthServiceClient(cc).Login(ctx, &userpb.LoginRequest{Email: word() + "@example.com", Password: word()})
	case 3:
		greeterpb.NewGreetingServiceClient(cc).Greet(ctx, &greeterpb.GreetRequest{Name: word(), Language: oneOf("", word())})
	case 4:
		cc.Invoke(ctx, "/"+oneOf("order.v1.OrderService", "payment.v1.PaymentService", "grpc.health.v1.Health")+"/"+word(), &greeterpb.GreetRequest{}, &out)
	case 5:
		cc.Invoke(ctx, "/"+word()+"."+word()+"/"+word(), &greeterpb.GreetRequest{}, &out)
	}
	return ctx.Err() == nil
}

package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/meshmart/meshmart/services/internal/app/apptest"
)

// front is a gateway in front of services that tell their health and no more.
func front(t *testing.T, healths map[string]healthpb.HealthServer) *site {
	t.Helper()
	w := apptest.New(t)
	for name, h := range healths {
		w.Serve(name, func(s *grpc.Server) { healthpb.RegisterHealthServer(s, h) })
	}
	s := &site{backend: &backend{}, t: t, log: &logLines{}}
	w.Log = s.log
	s.stop = w.Start(New(), map[string]string{"HTTP_ADDR": "127.0.0.1:0"})
	s.url = "http://" + s.log.find(t, "msg", "serving HTTP")["addr"].(string)
	return s
}

func (s *site) conditions() map[string]condition {
	s.t.Helper()
	var got struct{ Services []condition }
	r := s.do("GET", "/console/status", "")
	if err := json.Unmarshal([]byte(r.body), &got); err != nil || r.StatusCode != 200 {
		s.t.Fatalf("got %d %s: %v", r.StatusCode, r.body, err)
	}
	all := map[string]condition{}
	for _, c := range got.Services {
		all[c.Service] = c
	}
	return all
}

// hangs is a service that takes calls and answers none.
type hangs struct {
	healthpb.UnimplementedHealthServer
	leave chan struct{}
}

func (h hangs) List(ctx context.Context, _ *healthpb.HealthListRequest) (*healthpb.HealthListResponse, error) {
	select {
	case <-ctx.Done():
	case <-h.leave:
	}
	return nil, status.FromContextError(ctx.Err()).Err()
}

func TestStatusTellsEachServiceAndItsBreakers(t *testing.T) {
	order, product, user := health.NewServer(), health.NewServer(), health.NewServer()
	order.SetServingStatus("breaker/payment", healthpb.HealthCheckResponse_NOT_SERVING)
	order.SetServingStatus("breaker/inventory", healthpb.HealthCheckResponse_SERVING)
	user.SetServingStatus("", healthpb.HealthCheckResponse_NOT_SERVING)
	away := hangs{leave: make(chan struct{})}
	defer close(away.leave)
	s := front(t, map[string]healthpb.HealthServer{
		"order": order, "product": product, "user": user, "inventory": away, "payment": health.NewServer(),
	})
	got := s.conditions()
	if len(got["gateway"].Breakers) != len(calls()) {
		t.Errorf("the gateway has %d breakers", len(got["gateway"].Breakers))
	}
	delete(got, "gateway")
	want := map[string]condition{
		"order":     {"order", "up", []target{{"inventory", false}, {"payment", true}}},
		"product":   {"product", "up", []target{}},
		"user":      {"user", "not ready", []target{}},
		"inventory": {"inventory", "down", []target{}},
		"payment":   {"payment", "up", []target{}},
	}
	for _, name := range calls() {
		if want[name].Service == "" { // nobody is there
			want[name] = condition{name, "down", []target{}}
		}
	}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Error(diff)
	}
}

// counting counts how often it is asked.
type counting struct {
	*health.Server
	asked atomic.Int64
}

func (c *counting) List(ctx context.Context, r *healthpb.HealthListRequest) (*healthpb.HealthListResponse, error) {
	c.asked.Add(1)
	return c.Server.List(ctx, r)
}

// An answer is good for a while, so that many who look cost no more than one.
func TestServicesAreNotAskedByEveryone(t *testing.T) {
	product := &counting{Server: health.NewServer()}
	all := map[string]healthpb.HealthServer{}
	for _, name := range calls() {
		all[name] = health.NewServer()
	}
	all["product"] = product
	s := front(t, all)
	const looks = 50
	begin := time.Now()
	for range looks {
		s.conditions()
	}
	if n, most := int(product.asked.Load()), 1+int(time.Since(begin)/statusKept); n > most {
		t.Errorf("asked %d times for %d looks, want at most %d", n, looks, most)
	}
}

func TestOwnBreakersAreTold(t *testing.T) {
	s := start(t, nil)
	s.refuse(status.Error(codes.Internal, "boom"))
	var r *reply
	for end := time.Now().Add(20 * time.Second); ; { // it is half-open from time to time
		s.do("GET", "/v1/products/"+anID, "")
		r = s.do("GET", "/readyz?verbose", "")
		if strings.Contains(r.body, "[ ]breaker product open\n") {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the breaker is never open: %s", r.body)
		}
	}
	if r.StatusCode != 200 || !strings.HasSuffix(r.body, "\nok\n") {
		t.Errorf("got %d %s", r.StatusCode, r.body)
	}
	if r := s.do("GET", "/readyz", ""); r.body != "ok\n" {
		t.Errorf("without verbose: %q", r.body)
	}
}

func TestReadinessOfTheWholeProcessIsTold(t *testing.T) {
	s := start(t, nil, Options{Ready: func() error { return errors.New("no stock yet") }})
	r := s.send("GET", "/readyz?verbose", "")
	text, err := io.ReadAll(r.Body)
	if body := string(text); err != nil || r.StatusCode != 503 || !strings.Contains(body, "[-]shop: no stock yet\n[ ]breaker product closed\n") {
		t.Errorf("got %d %s", r.StatusCode, body)
	}
}

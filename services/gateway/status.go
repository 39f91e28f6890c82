package gateway

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/meshmart/meshmart/services/internal/app"
	"github.com/meshmart/meshmart/services/internal/breaker"
)

const (
	// statusLimit is how long the services have to say how they are: one that is
	// away must not hold up what the others say.
	statusLimit = time.Second
	// statusKept is how long an answer is good: however many look at the page,
	// the services are asked about once a second.
	statusKept = time.Second
)

// condition is how one service is.
type condition struct {
	Service  string   `json:"service"`
	State    string   `json:"state"`    // "up", "not ready", or "down" if it does not answer
	Breakers []target `json:"breakers"` // its circuit breakers, by their targets
}

// target is what a service calls, unless the breaker is open.
type target struct {
	Target string `json:"target"`
	Open   bool   `json:"open"`
}

// conditions tells how the services are, as each says itself by grpc.health.v1.
// It is public, and tells nothing but names.
type conditions struct {
	env      *app.Env
	services []string
	conns    map[string]grpc.ClientConnInterface

	mu    sync.Mutex // held while the services are asked
	asked time.Time
	body  []byte
}

// ServeHTTP answers with the gateway and the services that it calls.
func (c *conditions) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := c.current(r.Context())
	if err != nil {
		fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(body) // the client is gone: nobody to tell
}

// current asks for all, whoever is gone meanwhile.
func (c *conditions) current(ctx context.Context) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.body != nil && time.Since(c.asked) < statusKept {
		return c.body, nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), statusLimit)
	defer cancel()
	all := make([]condition, 1+len(c.services))
	all[0] = c.own()
	var wg sync.WaitGroup
	for i, name := range c.services {
		wg.Go(func() { all[i+1] = ask(ctx, name, c.conns[name]) })
	}
	wg.Wait()
	body, err := json.Marshal(map[string]any{"services": all})
	if err == nil {
		c.body, c.asked = body, time.Now()
	}
	return body, err
}

func (c *conditions) own() condition {
	own := condition{Service: c.env.Name, State: "up", Breakers: []target{}}
	if c.env.Ready() != nil {
		own.State = "not ready"
	}
	for _, b := range c.env.Breakers() {
		own.Breakers = append(own.Breakers, target{b.Target(), b.State() == breaker.Open})
	}
	return own
}

// ask asks a service, or one of its replicas.
func ask(ctx context.Context, name string, cc grpc.ClientConnInterface) condition {
	said := condition{Service: name, State: "down", Breakers: []target{}}
	list, err := healthpb.NewHealthClient(cc).List(ctx, &healthpb.HealthListRequest{})
	if err != nil {
		return said
	}
	const serving = healthpb.HealthCheckResponse_SERVING
	said.State = "up"
	if list.GetStatuses()[""].GetStatus() != serving {
		said.State = "not ready"
	}
	for name, health := range list.GetStatuses() {
		if of, ok := strings.CutPrefix(name, app.BreakerPrefix); ok {
			said.Breakers = append(said.Breakers, target{of, health.GetStatus() != serving})
		}
	}
	slices.SortFunc(said.Breakers, func(a, b target) int { return strings.Compare(a.Target, b.Target) })
	return said
}

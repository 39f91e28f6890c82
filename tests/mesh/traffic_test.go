package mesh_test

import (
	"context"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/contract"
	"github.com/meshmart/meshmart/tests/mesh/overlay"
	"github.com/meshmart/meshmart/tests/mesh/plane"
)

func TestEveryReplicaGetsCalls(t *testing.T) {
	m := running(t)
	for _, svc := range m.Shop.Services {
		r := svc.RPCs[0]
		count := plane.Count(repeat(t, m, r, 40*replicas))
		if got, want := len(count), replicas; got != want {
			t.Errorf("%s: got %d replicas called, want %d: %v", svc.Host, got, want, count)
		}
	}
}

// repeat makes n calls, some at a time, of which none may fail.
func repeat(t *testing.T, m *plane.Mesh, r *contract.RPC, n int) []plane.Attempt {
	t.Helper()
	c, call := client(t, m, m.Shop.Namespace, r.Callers[0]), m.CallOf(r)
	var mu sync.Mutex
	var all []plane.Attempt
	var wg sync.WaitGroup
	const workers = 8
	for w := range workers {
		wg.Go(func() {
			for i := w; i < n; i += workers {
				result := c.Do(t.Context(), call)
				mu.Lock()
				all = append(all, result.Attempts...)
				mu.Unlock()
				if result.Err != nil {
					t.Errorf("%s: %v", r.FullName(), result.Err)
				}
			}
		})
	}
	wg.Wait()
	return all
}

// The component mesh/istio/canary sends 10 in 100 calls of each RPC of "order"
// to a second version.
func TestCanaryTakesItsShareOfEveryRPC(t *testing.T) {
	objects := proxyless(t, "istio/canary")
	m := own(t, objects)
	const n, share = 800, 0.1
	deviation := math.Sqrt(n * share * (1 - share))
	for _, r := range m.Shop.Service("order").RPCs {
		second := 0
		for server, calls := range plane.Count(repeat(t, m, r, n)) {
			if strings.HasPrefix(server, "order-v2-") {
				second += calls
			}
		}
		// Six deviations: one run in 500 million is outside.
		if off := math.Abs(float64(second) - n*share); off > 6*deviation {
			t.Errorf("%s: the second version took %d of %d calls", r.FullName(), second, n)
		}
		t.Logf("%s: %d of %d to the second version", r.FullName(), second, n)
	}
	for _, r := range m.Shop.Service("payment").RPCs[:1] {
		if count := plane.Count(repeat(t, m, r, 80)); len(count) != replicas {
			t.Errorf("%s has no second version: %v", r.Host, count)
		}
	}
}

// A replica that ends is first taken off its service, and then goes once the
// calls that it has are answered. Of no call is there a second attempt.
func TestRemovedReplicaLosesNoCall(t *testing.T) {
	objects := proxyless(t)
	m := own(t, objects)
	left := slices.DeleteFunc(slices.Clone(m.Pods), func(p overlay.Replica) bool { return strings.HasSuffix(p.Name, "-1") })
	ctx, cancel := context.WithCancel(t.Context())
	var streams []*steady
	for _, svc := range m.Shop.Services {
		streams = append(streams, begin(ctx, t, m, unrepeated(svc), svc.Host+"-1"))
	}
	for _, s := range streams {
		s.wait(func(s *steady) bool { return s.hits > 20 })
	}
	if err := m.Apply(t.Context(), objects, left); err != nil {
		t.Fatal(err)
	}
	for _, s := range streams {
		s.wait(func(s *steady) bool { return s.since > 200 }) // it is known to be gone
	}
	for _, svc := range m.Shop.Services {
		for _, s := range m.ServersOf(svc.Host) {
			if strings.HasSuffix(s.Node.Name, "-1") {
				s.Stop()
			}
		}
	}
	for _, s := range streams {
		s.wait(func(s *steady) bool { return s.since > 400 })
	}
	cancel()
	total := 0
	for _, s := range streams {
		s.wg.Wait()
		total += s.calls
	}
	t.Logf("figure: calls while one of %d replicas of every service was removed: %d", replicas, total)
}

// unrepeated is an RPC whose failure nothing would hide, where there is one.
// Attempts are counted in any case.
func unrepeated(svc *contract.Service) *contract.RPC {
	if i := slices.IndexFunc(svc.RPCs, func(r *contract.RPC) bool { return r.Retry == nil && !r.Streaming() }); i >= 0 {
		return svc.RPCs[i]
	}
	return svc.RPCs[0]
}

// steady is calls of one RPC, one after the other by several clients, and what
// became of them.
type steady struct {
	t                  *testing.T
	wg                 sync.WaitGroup
	mu                 sync.Mutex
	changed            *sync.Cond
	calls, hits, since int // all; those to the replica; those since the last of these
}

func begin(ctx context.Context, t *testing.T, m *plane.Mesh, r *contract.RPC, replica string) *steady {
	s := &steady{t: t}
	s.changed = sync.NewCond(&s.mu)
	c, call := client(t, m, m.Shop.Namespace, r.Callers[0]), m.CallOf(r)
	for range 2 {
		s.wg.Go(func() {
			for ctx.Err() == nil {
				result := c.Do(context.WithoutCancel(ctx), call)
				if result.Err != nil || len(result.Attempts) != 1 {
					t.Errorf("%s: %v after %d attempts", r.FullName(), result.Err, len(result.Attempts))
				}
				s.saw(slices.ContainsFunc(result.Attempts, func(a plane.Attempt) bool { return a.Server == replica }))
			}
		})
	}
	return s
}

func (s *steady) saw(replica bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	s.since++
	if replica {
		s.hits++
		s.since = 0
	}
	s.changed.Broadcast()
}

// wait returns when the condition holds. It looks after every call.
func (s *steady) wait(holds func(*steady) bool) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for limit := time.Now().Add(time.Minute); !holds(s); s.changed.Wait() {
		if time.Now().After(limit) {
			s.t.Errorf("after a minute: %d calls, %d to the replica, %d since", s.calls, s.hits, s.since)
			return
		}
	}
}

// Package mesh_test holds what is generated from the contracts against a real
// istiod. Which RPCs there are is read from the contracts: an RPC that is added
// is tested.
//
// Where grpc-go holds a policy it is called, and what it does is counted. What
// only Envoy holds is read from the configuration that the same istiod computes
// for a sidecar; such tests say "as computed for Envoy".
package mesh_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/contract"
	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/contract/contracttest"
	"github.com/meshmart/meshmart/tests/mesh/held"
	"github.com/meshmart/meshmart/tests/mesh/overlay"
	"github.com/meshmart/meshmart/tests/mesh/plane"
	"github.com/meshmart/meshmart/tests/testbed"
)

// replicas is how many servers each service has.
const replicas = 2

// world is what the tests share: they change nothing of it.
var world struct {
	image  once[string]
	mesh   once[*plane.Mesh]
	meshes int // that were ever started
}

// once is a value that is made when it is first asked for.
type once[T any] struct {
	sync.Once
	value T
	err   error
}

func (o *once[T]) get(t *testing.T, make func() (T, error)) T {
	t.Helper()
	o.Do(func() { o.value, o.err = make() })
	if o.err != nil {
		t.Fatal(o.err)
	}
	return o.value
}

func TestMain(m *testing.M) {
	code := m.Run()
	if world.mesh.value != nil {
		if err := world.mesh.value.Close(); err != nil {
			fmt.Fprintln(os.Stderr, "close:", err)
		}
	}
	os.Exit(code)
}

// image returns that of the control plane.
func image(t *testing.T) string {
	t.Helper()
	testbed.NeedsDocker(t)
	tool(t, "pilot-discovery")
	return world.image.get(t, func() (string, error) { return plane.BuildImage(context.Background(), contracttest.Root()) })
}

// running returns mesh/proxyless: the base, and what of the policies for Istio
// does not need an Envoy.
func running(t *testing.T) *plane.Mesh {
	t.Helper()
	img, objects := image(t), proxyless(t)
	return world.mesh.get(t, func() (*plane.Mesh, error) {
		m, err := plane.Start(context.Background(), options(t, img, objects))
		if err == nil {
			t.Logf("figure: istiod is ready %.1f s after its container is started, and has %d objects", m.Istiod.Ready.Seconds(), len(objects))
		}
		return m, err
	})
}

// own returns a mesh that the test may change.
func own(t *testing.T, objects []overlay.Object) *plane.Mesh {
	t.Helper()
	m, err := plane.Start(t.Context(), options(t, image(t), objects))
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// address is that of a pod which nothing listens for.
func address(deployment, pod int) string { return fmt.Sprintf("10.1.%d.%d", deployment, pod) }

func options(t *testing.T, image string, objects []overlay.Object) plane.Options {
	world.meshes++
	return plane.Options{Image: image, Shop: contracttest.Shop(t), Objects: objects, Pods: replicas, Net: world.meshes}
}

func proxyless(t *testing.T, components ...string) []overlay.Object {
	t.Helper()
	objects, err := overlay.BuildWith(paths("proxyless"), paths(components...))
	if err != nil {
		t.Fatal(err)
	}
	return objects
}

// paths are folders of mesh/.
func paths(names ...string) []string {
	var out []string
	for _, n := range names {
		out = append(out, filepath.Join(contracttest.Root(), "mesh", n))
	}
	return out
}

func client(t *testing.T, m *plane.Mesh, namespace, account string) *plane.Client {
	t.Helper()
	c, err := m.Client(namespace, account)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// each calls fn with every RPC, several at a time, and waits.
func each(s *contract.Shop, fn func(*contract.RPC)) {
	var wg sync.WaitGroup
	turns := make(chan struct{}, 8)
	for _, r := range s.RPCs() {
		turns <- struct{}{}
		wg.Go(func() {
			fn(r)
			<-turns
		})
	}
	wg.Wait()
}

// seen is what calls showed, by full method.
type seen struct {
	mu  sync.Mutex
	all map[string]held.Policy
}

func newSeen() *seen { return &seen{all: map[string]held.Policy{}} }

func (s *seen) put(r *contract.RPC, p held.Policy) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all[r.Path()] = p
}

func report(t *testing.T, differences []string) {
	t.Helper()
	for _, d := range differences {
		t.Error(d)
	}
}

func TestAttemptsOnUnavailableAreTheContracts(t *testing.T) {
	m, s := running(t), newSeen()
	each(m.Shop, func(r *contract.RPC) { s.put(r, attempts(t, m, r)) })
	report(t, held.Compare(m.Shop, s.all, held.Attempts))
	t.Logf("figure: attempts, seen in calls: %d RPCs", held.Count(m.Shop, held.Attempts))
}

// attempts has every attempt of a call fail, and tells how many there were.
func attempts(t *testing.T, m *plane.Mesh, r *contract.RPC) held.Policy {
	call := m.CallOf(r)
	call.Fail = true
	result := client(t, m, m.Shop.Namespace, r.Callers[0]).Do(t.Context(), call)
	if result.Code() != codes.Unavailable {
		t.Errorf("%s: got %v, want UNAVAILABLE", r.FullName(), result.Err)
	}
	return held.Policy{Attempts: len(result.Attempts)}
}

// What moves money or makes an order is never repeated by the mesh: whoever wants
// it again has to ask again.
func TestChargesAreNeverRepeated(t *testing.T) {
	m := running(t)
	var names []string
	for _, r := range m.Shop.RPCs() {
		if r.ReadOnly || r.Retry != nil {
			continue
		}
		names = append(names, r.FullName())
		if p := attempts(t, m, r); p.Attempts != 1 {
			t.Errorf("%s: %d attempts", r.FullName(), p.Attempts)
		}
	}
	for _, must := range []string{"order.v1.OrderService/CreateOrder", "payment.v1.PaymentService/Authorize", "payment.v1.PaymentService/Capture", "payment.v1.PaymentService/Refund"} {
		if find(t, m.Shop, must); !slices.Contains(names, must) {
			t.Errorf("%s may be repeated", must)
		}
	}
	t.Logf("figure: never repeated, seen in calls: %s", strings.Join(names, ", "))
}

func find(t *testing.T, s *contract.Shop, name string) *contract.RPC {
	t.Helper()
	all := s.RPCs()
	i := slices.IndexFunc(all, func(r *contract.RPC) bool { return r.FullName() == name })
	if i < 0 {
		t.Fatalf("no RPC %s", name)
	}
	return all[i]
}

func TestTimeoutThatArrivesIsTheContracts(t *testing.T) {
	m, s := running(t), newSeen()
	each(m.Shop, func(r *contract.RPC) { s.put(r, timeout(t, m, r)) })
	report(t, held.Compare(m.Shop, s.all, held.Timeout))
	t.Logf("figure: timeouts, seen in calls: %d RPCs", held.Count(m.Shop, held.Timeout))
}

// timeout is read from the deadline that a server sees: it was set after the
// call began, and before it came in.
func timeout(t *testing.T, m *plane.Mesh, r *contract.RPC) held.Policy {
	result := client(t, m, m.Shop.Namespace, r.Callers[0]).Do(t.Context(), m.CallOf(r))
	if result.Err != nil || len(result.Attempts) != 1 {
		t.Errorf("%s: %v after %d attempts", r.FullName(), result.Err, len(result.Attempts))
		return held.Policy{}
	}
	a := result.Attempts[0]
	if a.Deadline.IsZero() {
		return held.Policy{}
	}
	// On the wire a timeout may be rounded up.
	return held.Policy{Timeout: a.Deadline.Sub(a.At) - time.Millisecond, AtMost: a.Deadline.Sub(result.Begin)}
}

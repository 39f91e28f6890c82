package linkerd

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	meshpb "github.com/meshmart/meshmart/proto/mesh/v1"

	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/contract"
	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/contract/contracttest"
)

// object is a Kubernetes object, with the fields that the tests look at.
type object struct {
	Kind     string
	Metadata struct {
		Name        string
		Annotations map[string]string
	}
	Spec struct {
		ParentRefs    []ref `yaml:"parentRefs"`
		Rules         []routeRule
		TargetRef     ref   `yaml:"targetRef"`
		Required      []ref `yaml:"requiredAuthenticationRefs"`
		IdentityRefs  []ref `yaml:"identityRefs"`
		Networks      []struct{ CIDR string }
		AccessPolicy  string `yaml:"accessPolicy"`
		ProxyProtocol string `yaml:"proxyProtocol"`
		Total         struct {
			RequestsPerSecond int64 `yaml:"requestsPerSecond"`
		}
	}
}

type ref struct {
	Kind, Name string
	Port       uint32
}

type routeRule struct {
	Matches []struct {
		Method any
		Path   struct{ Type, Value string }
	}
	BackendRefs []ref `yaml:"backendRefs"`
}

func objects(t *testing.T, s *contract.Shop) []object {
	t.Helper()
	fs, err := files(s)
	if err != nil {
		t.Fatal(err)
	}
	return contracttest.Objects[object](t, fs, "mesh/linkerd/policy/")
}

func named(all []object, kind, name string) *object {
	for i, o := range all {
		if o.Kind == kind && o.Metadata.Name == name {
			return &all[i]
		}
	}
	return nil
}

// held is what a route of a Service says of an RPC.
type held struct {
	Timeout, PerTry time.Duration
	Limit, On       string
}

// TestEveryRPCIsInOneRoute reads the routes as a caller's proxy does.
func TestEveryRPCIsInOneRoute(t *testing.T) {
	s := contracttest.Shop(t)
	got := map[string][]held{}
	for _, o := range objects(t, s) {
		if o.Kind != "GRPCRoute" || strings.HasSuffix(o.Metadata.Name, "-other") {
			continue
		}
		a := o.Metadata.Annotations
		h := held{Limit: a["retry.linkerd.io/limit"], On: a["retry.linkerd.io/grpc"]}
		h.Timeout, _ = time.ParseDuration(a["timeout.linkerd.io/request"])
		h.PerTry, _ = time.ParseDuration(a["retry.linkerd.io/timeout"])
		parent := o.Spec.ParentRefs[0]
		if parent.Kind != "Service" || o.Spec.Rules[0].BackendRefs[0] != (ref{"", parent.Name, parent.Port}) {
			t.Errorf("%s: from %+v to %+v", o.Metadata.Name, parent, o.Spec.Rules[0].BackendRefs)
		}
		for _, m := range o.Spec.Rules[0].Matches {
			method := m.Method.(map[string]any)
			path := fmt.Sprintf("%s: /%s/%s", parent.Name, method["service"], method["method"])
			got[path] = append(got[path], h)
		}
	}
	want := map[string][]held{}
	for _, r := range s.RPCs() {
		h := held{Timeout: r.Timeout, Limit: "0"}
		if r.Retry != nil {
			h = held{r.Timeout, r.Retry.PerTry, fmt.Sprint(r.Retry.Attempts), retryOn(r.Retry)}
		}
		want[r.Host+": "+r.Path()] = []held{h}
	}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("got-want %s", diff)
	}
}

func TestEveryCodeThatMayBeRetriedHasAName(t *testing.T) {
	got := retryOn(&contract.Retry{On: []codes.Code{codes.DeadlineExceeded, codes.Internal, codes.Unavailable}})
	if want := "deadline-exceeded,internal,unavailable"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Who may call what is asked of the policies, as the service's proxy does: the one
// route that takes in the path, and the policies that are bound to it.
func TestOnlyCallersPass(t *testing.T) {
	s := contracttest.Shop(t)
	all := objects(t, s)
	for _, svc := range s.Services {
		server := named(all, "Server", svc.Host)
		if server == nil || server.Spec.AccessPolicy != "deny" {
			t.Fatalf("%s: the Server is %+v", svc.Host, server)
		}
		for path, want := range paths(s, svc) {
			if diff := cmp.Diff(admitted(t, all, svc.Host, path), want); diff != "" {
				t.Errorf("%s of %s: got-want %s", path, svc.Host, diff)
			}
		}
	}
}

// paths are all that can be called of a service, those of the other services
// and those without a contract, each with who may.
func paths(s *contract.Shop, svc *contract.Service) map[string][]string {
	all := map[string][]string{
		"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo": nil,
		"/grpc.health.v1.Health/Check":                              {"0.0.0.0/0", "::/0"},
		"/grpc.health.v1.Health/List":                               svc.Callers(),
		"/grpc.health.v1.Health/Watch":                              svc.Callers(),
	}
	for _, r := range s.RPCs() {
		all[r.Path()] = nil
	}
	for _, r := range svc.RPCs {
		all[r.Path()] = r.Callers
	}
	return all
}

// admitted are the service accounts or networks from which the path of a Server
// may be called.
func admitted(t *testing.T, all []object, server, path string) []string {
	t.Helper()
	var who []string
	for _, route := range all {
		if route.Kind != "HTTPRoute" || !slices.Equal(route.Spec.ParentRefs, []ref{{"Server", server, 0}}) || !takes(route, path) {
			continue
		}
		for _, p := range all {
			if p.Kind == "AuthorizationPolicy" && p.Spec.TargetRef == (ref{"HTTPRoute", route.Metadata.Name, 0}) {
				who = append(who, authenticated(t, all, p)...)
			}
		}
	}
	return who
}

func takes(route object, path string) bool {
	for _, m := range route.Spec.Rules[0].Matches {
		if m.Method == "POST" && m.Path.Type == "Exact" && m.Path.Value == path {
			return true
		}
	}
	return false
}

func authenticated(t *testing.T, all []object, policy object) []string {
	t.Helper()
	if len(policy.Spec.Required) != 1 {
		t.Fatalf("%s asks for %+v", policy.Metadata.Name, policy.Spec.Required)
	}
	a := named(all, policy.Spec.Required[0].Kind, policy.Spec.Required[0].Name)
	if a == nil {
		t.Fatalf("%s: no %+v", policy.Metadata.Name, policy.Spec.Required)
	}
	var who []string
	for _, id := range a.Spec.IdentityRefs {
		who = append(who, id.Name)
	}
	for _, n := range a.Spec.Networks {
		who = append(who, n.CIDR)
	}
	return who
}

func TestStoresLetInTheirUsers(t *testing.T) {
	s := contracttest.Shop(t)
	all := objects(t, s)
	for _, b := range s.Backends {
		server, policy := named(all, "Server", b.Host), named(all, "AuthorizationPolicy", b.Host+"-users")
		if server.Spec.AccessPolicy != "deny" || server.Spec.ProxyProtocol != "opaque" || policy.Spec.TargetRef != (ref{"Server", b.Host, 0}) {
			t.Errorf("%s: %+v, %+v", b.Host, server.Spec, policy.Spec)
		}
		if diff := cmp.Diff(authenticated(t, all, *policy), b.Users); diff != "" {
			t.Errorf("%s: got-want %s", b.Host, diff)
		}
	}
}

// A bound of a Server must not refuse what the process would take, and Linkerd
// reads none of a Server that is gRPC.
func TestRateIsOfAllRPCsTogether(t *testing.T) {
	rate := func(perSecond float64, burst uint32, key meshpb.RateKey) *contract.RPC {
		return &contract.RPC{Rate: &meshpb.Rate{PerSecond: perSecond, Burst: burst, Key: key}}
	}
	replica, caller := meshpb.RateKey_RATE_KEY_REPLICA, meshpb.RateKey_RATE_KEY_CALLER
	for name, c := range map[string]struct {
		rpcs []*contract.RPC
		want int64
	}{
		"the greater counts": {[]*contract.RPC{rate(10, 50, replica), rate(7, 3, 0)}, 57},
		"of each user":       {[]*contract.RPC{rate(10, 50, replica), rate(10, 50, caller)}, 0},
		"none":               {[]*contract.RPC{rate(10, 50, replica), {}}, 0},
	} {
		if got := total(&contract.Service{RPCs: c.rpcs}); got != c.want {
			t.Errorf("%s: got %d, want %d", name, got, c.want)
		}
	}
	s := contracttest.Shop(t)
	all := objects(t, s)
	for _, svc := range s.Services {
		limit := named(all, "HTTPLocalRateLimitPolicy", svc.Host)
		if want := total(svc); (limit != nil) != (want > 0) || limit != nil && limit.Spec.Total.RequestsPerSecond != want {
			t.Errorf("%s: got %+v, want %d", svc.Host, limit, want)
		}
		if p := named(all, "Server", svc.Host).Spec.ProxyProtocol; p != "HTTP/2" {
			t.Errorf("%s is %s", svc.Host, p)
		}
	}
}

func TestNoServiceProfile(t *testing.T) {
	for _, o := range objects(t, contracttest.Shop(t)) {
		if o.Kind == "ServiceProfile" {
			t.Errorf("%s switches the routes off", o.Metadata.Name)
		}
	}
}

// RPCs that differ in anything that a route says are in different ones.
func TestEveryPolicyIsAClassOfItsOwn(t *testing.T) {
	retry := func(attempts int, perTry time.Duration, on ...codes.Code) *contract.Retry {
		return &contract.Retry{Attempts: attempts, PerTry: perTry, On: on}
	}
	svc := &contract.Service{RPCs: []*contract.RPC{
		{},
		{Timeout: time.Second},
		{Timeout: time.Second, Retry: retry(2, 300*time.Millisecond, codes.Unavailable)},
		{Timeout: time.Second, Retry: retry(1, 300*time.Millisecond, codes.Unavailable)},
		{Timeout: time.Second, Retry: retry(2, 200*time.Millisecond, codes.Unavailable)},
		{Timeout: time.Second, Retry: retry(2, 300*time.Millisecond, codes.Internal, codes.Unavailable)},
		{Timeout: 2 * time.Second, Retry: retry(2, 300*time.Millisecond, codes.Unavailable)},
		{Timeout: time.Second, Method: "Same"},
	}}
	var got []string
	for _, c := range classes(svc) {
		got = append(got, fmt.Sprintf("%s: %d", c.Name, len(c.RPCs)))
	}
	want := []string{
		"open-once: 1", "1s-once: 2", "1s-2x300ms-unavailable: 1", "1s-1x300ms-unavailable: 1", "1s-2x200ms-unavailable: 1",
		"1s-2x300ms-internal-unavailable: 1", "2s-2x300ms-unavailable: 1",
	}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("got-want %s", diff)
	}
}

package mesh_test

import (
	"context"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/contract"
	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/contract/contracttest"
	"github.com/meshmart/meshmart/tests/mesh/envoy"
	"github.com/meshmart/meshmart/tests/mesh/held"
	"github.com/meshmart/meshmart/tests/mesh/overlay"
	"github.com/meshmart/meshmart/tests/mesh/plane"
)

// sidecars is an istiod with mesh/istio, and one pod of everything that runs.
type sidecars struct {
	istiod *plane.Istiod
	shop   *contract.Shop
	pods   []overlay.Replica
}

func startSidecars(t *testing.T, objects []overlay.Object) *sidecars {
	t.Helper()
	img := image(t)
	s := &sidecars{shop: contracttest.Shop(t), pods: overlay.Replicas(objects, 1, address)}
	text, err := overlay.YAML(overlay.Running(s.shop.Namespace, objects, s.pods))
	if err != nil {
		t.Fatal(err)
	}
	s.istiod, err = plane.StartIstiod(t.Context(), img, text)
	t.Cleanup(func() { _ = s.istiod.Close() })
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// view is the configuration of the sidecar of an account's pod.
func (s *sidecars) view(t *testing.T, account string) *envoy.View {
	t.Helper()
	i := slices.IndexFunc(s.pods, func(p overlay.Replica) bool { return p.Account == account })
	if i < 0 {
		t.Fatalf("no pod of %s", account)
	}
	p := s.pods[i]
	n := plane.Node{IP: p.IP, Name: p.Name, Namespace: s.shop.Namespace, Account: p.Account, Labels: p.Labels}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	v, err := envoy.Fetch(ctx, s.istiod.XDS, n.ID(), n.Metadata())
	if err != nil {
		t.Fatalf("%s: %v", account, err)
	}
	return v
}

// views are those of all accounts.
func (s *sidecars) views(t *testing.T) map[string]*envoy.View {
	all := map[string]*envoy.View{}
	for _, a := range s.shop.Accounts() {
		all[a] = s.view(t, a)
	}
	return all
}

func TestAsComputedForEnvoy(t *testing.T) {
	objects, err := overlay.Build(paths("istio")[0])
	if err != nil {
		t.Fatal(err)
	}
	s := startSidecars(t, append(objects, collector(contracttest.Shop(t).Namespace)))
	views := s.views(t)
	t.Run("every policy of every RPC", func(t *testing.T) {
		got := computed(t, s.shop, s.shop.RPCs(), views)
		report(t, held.Compare(s.shop, got, held.All...))
		t.Logf("figure: policies, as computed for Envoy: %d of %d RPCs", held.Count(s.shop, held.All...), len(s.shop.RPCs()))
	})
	t.Run("a service sees only what it calls", func(t *testing.T) { scopes(t, s.shop, views) })
	t.Run("a service that fails is left out", func(t *testing.T) { outliers(t, s.shop, views) })
	t.Run("only mutual TLS comes in", func(t *testing.T) { strict(t, s.shop, views) })
	t.Run("tokens are verified", func(t *testing.T) { tokens(t, s.shop, views) })
	t.Run("the edge asks for tokens", func(t *testing.T) { edge(t, s.shop, views[s.shop.Edge.Host]) })
}

// collector is what a cluster brings along, or not.
func collector(namespace string) overlay.Object {
	return overlay.Object{
		"apiVersion": "v1", "kind": "Service",
		"metadata": overlay.Object{"name": "otel-collector", "namespace": namespace},
		"spec":     overlay.Object{"ports": []any{overlay.Object{"name": "grpc", "port": int64(4317)}}},
	}
}

// computed is what the sidecars hold of the RPCs: both ends together. The view
// of one of its callers says how it is called; all of them say the same.
func computed(t *testing.T, s *contract.Shop, rpcs []*contract.RPC, views map[string]*envoy.View) map[string]held.Policy {
	t.Helper()
	all := map[string]held.Policy{}
	for _, r := range rpcs {
		var p held.Policy
		for i, caller := range r.Callers {
			got, err := views[caller].Call(s.FQDN(r.Host), s.ServiceOf(r).Port, r.Path())
			if err != nil {
				t.Errorf("%s by %s: %v", r.FullName(), caller, err)
			}
			if diff := cmp.Diff(got, p); i > 0 && diff != "" {
				t.Errorf("%s: %s and %s differ: %s", r.FullName(), r.Callers[0], caller, diff)
			}
			p = got
		}
		p.Callers, p.Access = letIn(t, s, r, views[r.Host])
		all[r.Path()] = p
	}
	return all
}

// Tokens as an Envoy has read them.
var (
	userToken    = map[string]any{"iss": "meshmart", "sub": "ann", "roles": []any{"user"}}
	adminToken   = map[string]any{"iss": "meshmart", "sub": "root", "roles": []any{"user", "admin"}}
	foreignToken = map[string]any{"iss": "somebody", "sub": "ann", "roles": []any{"admin"}}
)

// letIn tells who may call an RPC, and what token the call must bring.
func letIn(t *testing.T, s *contract.Shop, r *contract.RPC, v *envoy.View) (callers []string, access string) {
	t.Helper()
	door, err := v.Inbound(s.ServiceOf(r).Port)
	if err != nil {
		t.Errorf("%s: %v", r.Host, err)
		return nil, ""
	}
	passes := func(a account, token map[string]any) bool {
		id := "spiffe://" + s.TrustDomain + "/ns/" + a.namespace + "/sa/" + a.name
		ok, err := door.Passes(envoy.Request{Principal: id, Port: s.ServiceOf(r).Port, Method: "POST", Path: r.Path(), Claims: token})
		if err != nil {
			t.Errorf("%s: %v", r.FullName(), err)
		}
		return ok
	}
	for _, a := range accounts(s) {
		if passes(a, adminToken) {
			callers = append(callers, a.name)
			access = accessOf(func(token map[string]any) bool { return passes(a, token) })
		}
	}
	slices.Sort(callers)
	return callers, access
}

func accessOf(passes func(token map[string]any) bool) string {
	switch {
	case passes(nil) && passes(foreignToken) && passes(userToken):
		return "anyone"
	case passes(nil) || passes(foreignToken):
		return "it depends"
	case passes(userToken):
		return "user"
	}
	return "admin"
}

// scopes: a sidecar knows the services that its account may call, and no others.
func scopes(t *testing.T, s *contract.Shop, views map[string]*envoy.View) {
	for account, v := range views {
		for _, svc := range s.Services {
			got, want := len(v.To(s.FQDN(svc.Host))) > 0, slices.Contains(svc.Callers(), account)
			if got != want {
				t.Errorf("the sidecar of %s knows %s: %v, want %v", account, svc.Host, got, want)
			}
		}
		for _, b := range s.Backends {
			got, want := len(v.To(s.FQDN(b.Host))) > 0, slices.Contains(b.Users, account)
			if got != want {
				t.Errorf("the sidecar of %s knows %s: %v, want %v", account, b.Host, got, want)
			}
		}
	}
}

// outliers: a replica that is down is left out for a while, one that answers with
// an error is not; and whoever is called has to be who it says.
func outliers(t *testing.T, s *contract.Shop, views map[string]*envoy.View) {
	for account, v := range views {
		for _, svc := range s.Callees(account) {
			for _, c := range v.To(s.FQDN(svc.Host)) {
				o := c.GetOutlierDetection()
				unavailable := uint32(100)
				if svc.CallsOn() { // or an outage further down would count as the replica's (ADR 7)
					unavailable = 0
				}
				if o.GetConsecutiveLocalOriginFailure().GetValue() == 0 ||
					o.GetEnforcingConsecutiveGatewayFailure().GetValue() != unavailable || o.GetEnforcingConsecutive_5Xx().GetValue() != 0 {
					t.Errorf("%s, to %s: outlier detection is %v", account, c.GetName(), o)
				}
				want := []string{"spiffe://" + s.Principal(svc.Host)}
				if got := envoy.Server(c); !slices.Equal(slices.Compact(got), want) {
					t.Errorf("%s, to %s: takes %v for it, want %v", account, c.GetName(), got, want)
				}
			}
		}
	}
}

func strict(t *testing.T, s *contract.Shop, views map[string]*envoy.View) {
	for _, svc := range s.Services {
		door, err := views[svc.Host].Inbound(svc.Port)
		if err != nil || !door.Strict {
			t.Errorf("%s: lets in what is not mutual TLS: %v", svc.Host, err)
		}
	}
}

// tokens: a token of the shop is verified wherever one is asked for, and passed
// on to the service.
func tokens(t *testing.T, s *contract.Shop, views map[string]*envoy.View) {
	ports := map[string]uint32{s.Edge.Host: s.Edge.Port}
	for _, svc := range s.Services {
		if len(svc.WithToken()) > 0 {
			ports[svc.Host] = svc.Port
		}
	}
	for host, port := range ports {
		door, err := views[host].Inbound(port)
		if err != nil {
			t.Errorf("%s: %v", host, err)
			continue
		}
		p := door.Issuers[s.Issuer]
		if !slices.Equal(slices.Collect(maps.Keys(door.Issuers)), []string{s.Issuer}) || !slices.Equal(p.GetAudiences(), []string{s.Audience}) || !p.GetForward() {
			t.Errorf("%s: verifies %v", host, door.Issuers)
		}
	}
}

// edge: without a token of the shop the routes of RPCs that need one are closed
// already at the edge, except those that share a pattern with an open one.
func edge(t *testing.T, s *contract.Shop, v *envoy.View) {
	door, err := v.Inbound(s.Edge.Port)
	if err != nil {
		t.Fatal(err)
	}
	closed := 0
	for _, r := range s.RPCs() {
		for _, route := range r.Routes {
			passes := func(token map[string]any) bool {
				q := envoy.Request{Principal: "spiffe://" + s.Principal("ingress"), Port: s.Edge.Port, Method: route.Verb, Path: route.Path, Claims: token}
				ok, err := door.Passes(q)
				if err != nil {
					t.Errorf("%s: %v", r.FullName(), err)
				}
				return ok
			}
			if !passes(userToken) || !r.NeedsToken() && !passes(nil) {
				t.Errorf("%s %s: refused at the edge", route.Verb, route.Path)
			}
			if !passes(nil) && !passes(foreignToken) {
				closed++
			} else if r.NeedsToken() {
				t.Logf("%s %s needs a token, and the edge can't tell", route.Verb, route.Path)
			}
		}
	}
	if closed == 0 {
		t.Error("the edge asks for no token")
	}
}

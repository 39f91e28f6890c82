package istio

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	meshpb "github.com/meshmart/meshmart/proto/mesh/v1"

	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/contract"
	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/contract/contracttest"
)

// At the edge a request without a token is refused where the RPC wants one, and
// nowhere else.
func TestEdgeAsksForTokens(t *testing.T) {
	s := contracttest.Shop(t)
	edge := find(t, objects(t, s, "sidecar/"), "AuthorizationPolicy", "gateway-tokens")
	rest := unguarded(s)
	for _, r := range s.RPCs() {
		for _, route := range r.Routes {
			c := call{port: "8080", method: route.Verb, path: route.Path}
			if got, want := edge.matches(c), r.NeedsToken() && !slices.Contains(rest, r); got != want {
				t.Errorf("%s %s without a token: refused is %v, want %v", route.Verb, route.Path, got, want)
			}
			c.token = "meshmart/ann"
			if edge.matches(c) {
				t.Errorf("%s %s with a token is refused", route.Verb, route.Path)
			}
		}
	}
}

func TestOnlyTheIngressComesToTheEdge(t *testing.T) {
	s := contracttest.Shop(t)
	edge := find(t, objects(t, s, "sidecar/"), "AuthorizationPolicy", "gateway-callers")
	for _, c := range []struct {
		call
		want bool
	}{
		{call{principal: s.Principal("ingress"), port: "8080", method: "POST", path: "/v1/orders"}, true},
		{call{principal: s.Principal("ingress"), port: "8080", method: "GET", path: "/metrics"}, false},
		{call{principal: s.Principal("order"), port: "8080", method: "GET", path: "/v1/orders"}, false},
		{call{port: "8080", method: "GET", path: s.Keys}, true},
		{call{port: "8080", method: "POST", path: s.Keys}, false},
		{call{port: "8080", method: "GET", path: "/v1/products"}, false},
	} {
		if got := edge.matches(c.call); got != c.want {
			t.Errorf("%+v: got %v, want %v", c.call, got, c.want)
		}
	}
}

// A pattern for a closed route must not close an open one.
func TestRouteThatWouldCloseAnOpenOneIsLeftToTheService(t *testing.T) {
	for _, c := range []struct {
		closed, open contract.Route
		left         bool
	}{
		{contract.Route{Verb: "GET", Path: "/v1/a/{id}"}, contract.Route{Verb: "GET", Path: "/v1/a:list"}, false},
		{contract.Route{Verb: "GET", Path: "/v1/a/{id}"}, contract.Route{Verb: "GET", Path: "/v1/a/{id}:open"}, true},
		{contract.Route{Verb: "GET", Path: "/v1/a/{id}"}, contract.Route{Verb: "GET", Path: "/v1/a/top"}, true},
		{contract.Route{Verb: "GET", Path: "/v1/a/{id}"}, contract.Route{Verb: "GET", Path: "/v1/{kind}/{id}"}, true},
		{contract.Route{Verb: "PUT", Path: "/v1/a/{id}"}, contract.Route{Verb: "GET", Path: "/v1/a/{id}"}, false},
		{contract.Route{Verb: "GET", Path: "/v1/a"}, contract.Route{Verb: "GET", Path: "/v1/a/{id}"}, false},
	} {
		closed := &contract.RPC{Access: meshpb.Access_ACCESS_USER, Routes: []contract.Route{c.closed}}
		open := &contract.RPC{Access: meshpb.Access_ACCESS_PUBLIC, Routes: []contract.Route{c.open}}
		s := &contract.Shop{Services: []*contract.Service{{RPCs: []*contract.RPC{open, closed}}}}
		want := []*contract.RPC{}
		if c.left {
			want = append(want, closed)
		}
		if got := unguarded(s); !slices.Equal(got, want) || len(doors(s)) != 1-len(want) {
			t.Errorf("%v beside %v: left to the service is %v, want %v; %s", c.closed, c.open, len(got), c.left, cmp.Diff(len(doors(s)), 1-len(want)))
		}
	}
}

package istio

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	meshpb "github.com/meshmart/meshmart/proto/mesh/v1"

	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/contract"
	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/contract/contracttest"
	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/istio/authztest"
)

// At the edge a request without a token is refused where the RPC wants one, and
// nowhere else.
func TestEdgeAsksForTokens(t *testing.T) {
	s := contracttest.Shop(t)
	edge := find(t, objects(t, s, "sidecar/"), "AuthorizationPolicy", "gateway-tokens")
	rest := Unguarded(s)
	for _, r := range s.RPCs() {
		for _, route := range r.Routes {
			c := authztest.Call{Port: "8080", Method: route.Verb, Path: route.Path}
			if got, want := edge.matches(c), r.NeedsToken() && !slices.Contains(rest, r); got != want {
				t.Errorf("%s %s without a token: refused is %v, want %v", route.Verb, route.Path, got, want)
			}
			c.Token = "meshmart/ann"
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
		authztest.Call
		want bool
	}{
		{authztest.Call{Principal: s.Principal("ingress"), Port: "8080", Method: "POST", Path: "/v1/orders"}, true},
		{authztest.Call{Principal: s.Principal("ingress"), Port: "8080", Method: "GET", Path: "/metrics"}, false},
		{authztest.Call{Principal: s.Principal("order"), Port: "8080", Method: "GET", Path: "/v1/orders"}, false},
		{authztest.Call{Port: "8080", Method: "GET", Path: s.Keys}, true},
		{authztest.Call{Port: "8080", Method: "POST", Path: s.Keys}, false},
		{authztest.Call{Port: "8080", Method: "GET", Path: "/v1/products"}, false},
	} {
		if got := edge.matches(c.Call); got != c.want {
			t.Errorf("%+v: got %v, want %v", c.Call, got, c.want)
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
		if got := Unguarded(s); !slices.Equal(got, want) || len(Doors(s)) != 1-len(want) {
			t.Errorf("%v beside %v: left to the service is %v, want %v; %s", c.closed, c.open, len(got), c.left, cmp.Diff(len(Doors(s)), 1-len(want)))
		}
	}
}

package mesh_test

import (
	"slices"
	"testing"

	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/contract/contracttest"
	"github.com/meshmart/meshmart/tests/mesh/held"
	"github.com/meshmart/meshmart/tests/mesh/overlay"
)

// What is committed in mesh/istio says what the contracts say, before anything
// reads it.
func TestManifestsOfIstioHoldEveryPolicy(t *testing.T) {
	s := contracttest.Shop(t)
	objects, err := overlay.Build(paths("istio")[0])
	if err != nil {
		t.Fatal(err)
	}
	got, err := held.Istio(s, objects)
	if err != nil {
		t.Fatal(err)
	}
	report(t, held.Compare(s, got, held.All...))
	t.Logf("figure: policies, in the manifests of Istio: %d of %d RPCs", held.Count(s, held.All...), len(s.RPCs()))
}

func TestNetworkPoliciesLetInWhoCalls(t *testing.T) {
	s := contracttest.Shop(t)
	objects, err := overlay.Build(paths("network")[0])
	if err != nil {
		t.Fatal(err)
	}
	got, err := held.Network(s, objects)
	if err != nil {
		t.Fatal(err)
	}
	for _, svc := range s.Services {
		if !slices.Equal(got[svc.Host], svc.Callers()) {
			t.Errorf("%s: reached by %v, want %v", svc.Host, got[svc.Host], svc.Callers())
		}
	}
	t.Logf("figure: callers, in the NetworkPolicies: %d pairs of service and account", len(s.Services)*len(s.Accounts()))
}

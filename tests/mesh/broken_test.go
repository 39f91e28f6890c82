package mesh_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/runtime"

	"github.com/meshmart/meshmart/tests/mesh/kubestub"
	"github.com/meshmart/meshmart/tests/mesh/overlay"
	"github.com/meshmart/meshmart/tests/mesh/references"
	"github.com/meshmart/meshmart/tests/mesh/schema"
)

// This file shows that the checks of overlays find what is broken.

// breakages are what may be wrong with an object of any kind.
var breakages = map[string]func(o overlay.Object){
	"an unknown field": func(o overlay.Object) { o["nosuchfield"] = "x" },
	"a field in it that is unknown": func(o overlay.Object) {
		inner(o)["nosuchfield"] = "x"
	},
	"a value of another type": func(o overlay.Object) { o["metadata"].(overlay.Object)["labels"] = "x" },
	"a name that is none":     func(o overlay.Object) { o["metadata"].(overlay.Object)["name"] = "No_Name" },
	"an unknown version":      func(o overlay.Object) { o["apiVersion"] = "nosuch.group/v9" },
}

// inner is the first part of an object that has fields of its kind's own.
func inner(o overlay.Object) overlay.Object {
	for _, name := range []string{"spec", "roleRef"} {
		if m, ok := o[name].(overlay.Object); ok {
			return m
		}
	}
	return o
}

func TestBrokenObjectOfEveryKindIsFound(t *testing.T) {
	checkers := map[bool]*schema.Checker{}
	seen := map[string]bool{}
	for _, r := range renderings(t) {
		linkerd := strings.HasPrefix(r.name, "linkerd")
		if checkers[linkerd] == nil {
			c, err := schema.New(definitions(t, r.name))
			if err != nil {
				t.Fatal(err)
			}
			checkers[linkerd] = c
		}
		for _, o := range r.objects {
			if kind := fmt.Sprintf("%s %s", o["apiVersion"], o["kind"]); !seen[kind] {
				seen[kind] = true
				breakAll(t, checkers[linkerd], kind, o)
			}
		}
	}
	t.Logf("figure: broken objects that are found: %d, %d of each of %d kinds", len(seen)*len(breakages), len(breakages), len(seen))
}

func breakAll(t *testing.T, c *schema.Checker, kind string, o overlay.Object) {
	for name, do := range breakages {
		broken := runtime.DeepCopyJSON(o)
		do(broken)
		if len(c.Check(broken)) == 0 {
			t.Errorf("%s with %s is taken", kind, name)
		}
	}
}

// The rules of a definition count, and not only its fields.
func TestRuleOfADefinitionIsChecked(t *testing.T) {
	c, err := schema.New(definitions(t, "istio"))
	if err != nil {
		t.Fatal(err)
	}
	const route = `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: redirect, namespace: meshmart}
spec:
  rules:
    - filters: [{type: RequestRedirect, requestRedirect: {scheme: https}}]
`
	for more, want := range map[string]bool{"": true, "      backendRefs: [{name: gateway, port: 8080}]\n": false} {
		objects, err := kubestub.Parse([]byte(route + more))
		if err != nil {
			t.Fatal(err)
		}
		if problems := c.Check(objects[0]); (len(problems) == 0) != want {
			t.Errorf("a redirect and %q: got %v, valid is %v", more, problems, want)
		}
	}
}

// What others name can't be left out of the shop.
func TestMissingObjectIsFound(t *testing.T) {
	objects, err := overlay.BuildWith(paths("istio"), paths("istio/tls", "network/istio"))
	if err != nil {
		t.Fatal(err)
	}
	// What nobody names: a Service for people, and one of the gateway's own.
	unnamed := []string{"Service ingress"}
	found := 0
	for i, o := range objects {
		kind, name := o["kind"].(string), overlay.Text(o, "metadata", "name")
		if !slices.Contains([]string{"Service", "ServiceAccount", "Secret", "ConfigMap", "Deployment", "StatefulSet", "DestinationRule", "Gateway", "Role"}, kind) {
			continue
		}
		if slices.Contains(unnamed, kind+" "+name) || kind == "DestinationRule" && name == "gateway" {
			continue
		}
		left := slices.Delete(slices.Clone(objects), i, i+1)
		if problems := references.Check(left, outside...); len(problems) == 0 {
			t.Errorf("nobody misses the %s %s", kind, name)
		}
		found++
	}
	t.Logf("figure: objects that are missed when they are left out: %d", found)
}

func TestIstioctlFindsWhatIsBroken(t *testing.T) {
	istioctl := tool(t, "istioctl")
	objects, err := overlay.Build(paths("istio")[0])
	if err != nil {
		t.Fatal(err)
	}
	for name, do := range map[string]func(spec overlay.Object){
		"an unknown field":   func(spec overlay.Object) { spec["nosuchfield"] = "x" },
		"a host that is not": func(spec overlay.Object) { spec["gateways"] = []any{"nosuch"} },
	} {
		broken := slices.Clone(objects)
		for i, o := range broken {
			if o["kind"] == "VirtualService" && overlay.Text(o, "metadata", "name") == "edge" {
				broken[i] = runtime.DeepCopyJSON(o)
				do(broken[i]["spec"].(overlay.Object))
			}
		}
		if out, err := analyze(t, istioctl, write(t, broken)); err == nil {
			t.Errorf("%s: taken: %s", name, out)
		}
	}
}

package mesh_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/contract/contracttest"
	"github.com/meshmart/meshmart/tests/mesh/overlay"
	"github.com/meshmart/meshmart/tests/mesh/plane"
	"github.com/meshmart/meshmart/tests/mesh/references"
	"github.com/meshmart/meshmart/tests/mesh/schema"
)

// outside is what manifests name and no overlay has: a cluster brings it, or its
// owner makes it by hand, as the comments beside it say.
var outside = []string{"otel-collector", "edge-certificate"}

// spare is what an overlay names in vain, and does no harm: the ways of an ingress
// come with those of the mesh, and without proxies there is none.
var spare = map[string]string{"proxyless": "NetworkPolicy ingress"}

// byHand are the Secrets that who uses a component makes before.
// Those of mesh/plain/tls come from what is beside it.
var byHand = map[string][]string{"base/managed": {"Secret database", "Secret administrator", "Secret token-keys"}}

// rendered is one way to apply what is in mesh/.
type rendered struct {
	name    string
	objects []overlay.Object
}

// renderings are all overlays that there are, and each component on the overlay
// that its comment names.
func renderings(t *testing.T) []rendered {
	t.Helper()
	root := paths("")[0]
	folders, err := overlay.Folders(root, "Kustomization")
	if err != nil || len(folders) == 0 {
		t.Fatalf("%d overlays in %s: %v", len(folders), root, err)
	}
	var all []rendered
	for _, dir := range folders {
		objects, err := overlay.Build(dir)
		if err != nil {
			t.Errorf("%v", err)
			continue
		}
		name, _ := filepath.Rel(root, dir)
		all = append(all, rendered{name, objects})
	}
	components, err := overlay.Folders(root, "Component")
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range components {
		name, _ := filepath.Rel(root, dir)
		on := documented(t, dir)
		objects, err := overlay.BuildWith(paths(on), []string{dir})
		if err != nil {
			t.Errorf("%s on %s: %v", name, on, err)
			continue
		}
		all = append(all, rendered{on + " with " + name, objects})
	}
	return append(all, observed(t, all)...)
}

var usage = regexp.MustCompile(`resources: \[path/to/mesh/([a-z/]+)\]`)

// documented is the overlay that a component is said to be for.
func documented(t *testing.T, dir string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "kustomization.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if m := usage.FindSubmatch(text); m != nil {
		return string(m[1])
	}
	parent, _ := filepath.Rel(paths("")[0], filepath.Dir(dir))
	return parent
}

// definitions are those of the mesh that an overlay is for.
func definitions(t *testing.T, name string) string {
	t.Helper()
	text, err := plane.Definitions(t.Context(), contracttest.Root())
	if strings.HasPrefix(name, "linkerd") {
		text, err = plane.LinkerdDefinitions(t.Context(), contracttest.Root())
	}
	if err != nil {
		t.Skipf("the definitions of custom resources can't be had: %v", err)
	}
	return text
}

func TestEveryOverlayIsValid(t *testing.T) {
	checkers := map[string]*schema.Checker{}
	objects, kinds := 0, map[string]bool{}
	all := renderings(t)
	for _, r := range all {
		mesh := "istio"
		if strings.HasPrefix(r.name, "linkerd") {
			mesh = "linkerd"
		}
		if checkers[mesh] == nil {
			c, err := schema.New(definitions(t, mesh))
			if err != nil {
				t.Fatal(err)
			}
			checkers[mesh] = c
		}
		for _, o := range r.objects {
			for _, problem := range checkers[mesh].Check(o) {
				t.Errorf("%s: %s %s: %s", r.name, o["kind"], overlay.Text(o, "metadata", "name"), problem)
			}
			objects, kinds[fmt.Sprint(o["apiVersion"], o["kind"])] = objects+1, true
		}
	}
	t.Logf("figure: valid: %d objects of %d kinds in %d renderings of mesh/", objects, len(kinds), len(all))
}

// A part of an overlay may name what the whole one has.
func TestEveryReferenceOfAWholeShopExists(t *testing.T) {
	whole := 0
	for _, r := range renderings(t) {
		if !isWhole(r.objects) {
			continue
		}
		whole++
		known := outside
		if strings.HasSuffix(r.name, withObservability) {
			known = slices.DeleteFunc(slices.Clone(known), func(name string) bool { return name == "otel-collector" })
		}
		if s, ok := spare[strings.Fields(r.name)[0]]; ok {
			known = append(slices.Clone(known), s)
		}
		_, component, _ := strings.Cut(r.name, " with ")
		known = append(slices.Clone(known), byHand[component]...)
		if strings.HasPrefix(component, "plain/tls") {
			for _, account := range contracttest.Shop(t).Accounts() {
				known = append(known, "Secret "+account+"-certificate")
			}
		}
		for _, problem := range references.Check(r.objects, known...) {
			t.Errorf("%s: %s", r.name, problem)
		}
	}
	if whole == 0 {
		t.Error("no overlay has the whole shop")
	}
}

// isWhole: the namespace is only made where everything is.
func isWhole(objects []overlay.Object) bool {
	for _, o := range objects {
		if o["kind"] == "Namespace" {
			return true
		}
	}
	return false
}

func TestIstioctlTakesTheOverlaysOfIstio(t *testing.T) {
	istioctl := tool(t, "istioctl")
	for _, r := range renderings(t) {
		if !isWhole(r.objects) || strings.HasPrefix(r.name, "linkerd") {
			continue
		}
		file := write(t, r.objects)
		if out, err := analyze(t, istioctl, file); err != nil {
			t.Errorf("%s: istioctl: %v\n%s", r.name, err, out)
		}
	}
}

func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := plane.Tool(t.Context(), contracttest.Root(), name)
	if err != nil {
		t.Skipf("%s can't be built: %v", name, err)
	}
	return path
}

func write(t *testing.T, objects []overlay.Object) string {
	t.Helper()
	text, err := overlay.YAML(objects)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "objects.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// analyze looks at all namespaces: without -A it would look at none.
func analyze(t *testing.T, istioctl, file string) (string, error) {
	ctx := context.WithoutCancel(t.Context())
	out, err := exec.CommandContext(ctx, istioctl, "validate", "-f", file).CombinedOutput()
	if err != nil {
		return string(out), err
	}
	out, err = exec.CommandContext(ctx, istioctl, "analyze", "-A", "--use-kube=false", "--failure-threshold", "Warning", file).CombinedOutput()
	return string(out), err
}

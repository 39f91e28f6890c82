package mesh_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/contract/contracttest"
	"github.com/meshmart/meshmart/tests/images"
	"github.com/meshmart/meshmart/tests/mesh/overlay"
)

// withObservability ends the name of a whole shop that has its component.
const withObservability = " with observability/component"

func observability(elem ...string) string {
	return filepath.Join(append([]string{contracttest.Root(), "observability"}, elem...)...)
}

// observed are observability/ alone, and its component on every whole shop that is
// an overlay itself.
func observed(t *testing.T, overlays []rendered) []rendered {
	t.Helper()
	objects, err := overlay.Build(observability())
	if err != nil {
		t.Fatal(err)
	}
	all := []rendered{{"observability", objects}}
	for _, r := range overlays {
		if !isWhole(r.objects) || strings.Contains(r.name, " ") {
			continue
		}
		objects, err := overlay.BuildWith(paths(r.name), []string{observability("component")})
		if err != nil {
			t.Errorf("%s%s: %v", r.name, withObservability, err)
			continue
		}
		all = append(all, rendered{r.name + withObservability, objects})
	}
	return all
}

// kustomize takes no patterns: a file that is not listed would be left out. And an
// API server takes no ConfigMap of more than 1 MiB.
func TestEveryRuleAndDashboardIsInTheCluster(t *testing.T) {
	objects, err := overlay.Build(observability())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, o := range objects {
		name := overlay.Text(o, "metadata", "name")
		if o["kind"] == "ConfigMap" && (strings.HasPrefix(name, "prometheus-rules-") || strings.HasPrefix(name, "grafana-dashboards-")) {
			size := 0
			for file, text := range overlay.Strings(o, "data") {
				got, size = append(got, file), size+len(text)
			}
			if size > 1<<20-1<<10 {
				t.Errorf("%s has %d bytes", name, size)
			}
		}
	}
	var want []string
	for _, pattern := range []string{observability("prometheus", "rules", "*"), observability("grafana", "dashboards", "*")} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %d files: %v", pattern, len(files), err)
		}
		for _, f := range files {
			want = append(want, filepath.Base(f))
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// What runs in a cluster is what the tests and `make observe` run.
func TestObservabilityHasTheImagesOfTheTests(t *testing.T) {
	objects, err := overlay.Build(observability())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, o := range objects {
		for _, c := range overlay.List(o, "spec", "template", "spec", "containers") {
			got = append(got, overlay.Text(c, "image"))
		}
	}
	var want []string
	for _, name := range []string{"collector", "grafana", "jaeger", "prometheus"} {
		want = append(want, images.Tag(name))
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestTheComponentHasTheServicesSendToTheCollector(t *testing.T) {
	objects, err := overlay.BuildWith(paths("base"), []string{observability("component")})
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(objects, func(o overlay.Object) bool {
		name := overlay.Text(o, "metadata", "name")
		return o["kind"] == "ConfigMap" && (name == "meshmart" || strings.HasPrefix(name, "meshmart-")) // with a hash or without
	})
	if i < 0 {
		t.Fatal("there is no ConfigMap meshmart")
	}
	got := overlay.Strings(objects[i], "data")
	want := map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT": "http://otel-collector:4317", "OTEL_LOGS_EXPORTER": "otlp", "JAEGER_URL": "http://localhost:16686",
	}
	for k, v := range want {
		if got[k] != v {
			t.Errorf("%s is %q, want %q", k, got[k], v)
		}
	}
}

package observability

import (
	"bytes"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/promql/parser"
)

// No proxy runs here. That Istio has the metrics and labels that the dashboard of
// the mesh asks for is looked up in Istio's own source, of the version that the
// manifests are for: where it reads its metrics itself.
func TestIstioHasTheMetricsOfTheMesh(t *testing.T) {
	cmd := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "istio.io/istio")
	cmd.Dir = filepath.Join(root(), "tools/istio")
	dir, err := cmd.Output()
	if err != nil || len(bytes.TrimSpace(dir)) == 0 {
		t.Skipf("Istio's source is not on this machine (tests/prepare gets it): %v", err)
	}
	text := sources(t, strings.TrimSpace(string(dir)), "manifests/addons/dashboards", "istioctl/pkg/metrics", "tests/integration/telemetry", "tests/integration/ambient")
	words := map[string]bool{}
	for _, q := range questions(t) {
		if strings.Contains(q.expr, "istio_") {
			wordsOf(t, q, words)
		}
	}
	for _, word := range slices.Sorted(maps.Keys(words)) {
		if !regexp.MustCompile(`\b` + word + `\b`).Match(text) {
			t.Errorf("Istio does not know %s", word)
		}
	}
	if len(words) < 8 {
		t.Errorf("only %v are looked up", words)
	}
}

// wordsOf adds the names of metrics and labels in a query.
func wordsOf(t *testing.T, q question, words map[string]bool) {
	t.Helper()
	e, err := promQL.ParseExpr(q.expr)
	if err != nil {
		t.Fatal(err)
	}
	parser.Inspect(e, func(n parser.Node, _ []parser.Node) error {
		switch n := n.(type) {
		case *parser.VectorSelector:
			words[n.Name] = true
			for _, m := range n.LabelMatchers {
				words[m.Name] = m.Name != "__name__"
			}
		case *parser.AggregateExpr:
			for _, label := range n.Grouping {
				words[label] = true
			}
		}
		return nil
	})
	maps.DeleteFunc(words, func(word string, is bool) bool { return !is || word == "le" })
}

// sources are all files below the folders of a module, as one text.
func sources(t *testing.T, module string, folders ...string) []byte {
	t.Helper()
	var all bytes.Buffer
	for _, folder := range folders {
		err := filepath.WalkDir(filepath.Join(module, folder), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			text, err := os.ReadFile(path)
			all.Write(text)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all.Bytes()
}

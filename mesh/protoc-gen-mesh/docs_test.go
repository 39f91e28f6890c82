package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/contract/contracttest"
)

// quote is a block of a document that names its file: ```yaml mesh/base/services/order.yaml
var quote = regexp.MustCompile("(?ms)^```[a-z]+ ([^\n]+)\n(.*?)^```$")

func TestDocumentQuotesTheFiles(t *testing.T) {
	text := read(t, "docs/mesh.md")
	quotes := quote.FindAllStringSubmatch(text, -1)
	for _, q := range quotes {
		path, rest := q[1], read(t, q[1])
		for _, part := range strings.Split(q[2], "...\n") {
			_, after, found := strings.Cut(rest, "\n"+part)
			if !found {
				t.Errorf("docs/mesh.md: not in %s, or not in this order:\n%s", path, part)
			}
			rest = "\n" + after
		}
	}
	for _, tg := range targets() {
		if !strings.Contains(strings.ToLower(text), tg.Name) {
			t.Errorf("docs/mesh.md does not say anything of %s", tg.Name)
		}
	}
	for _, folder := range []string{"mesh/istio/", "mesh/ambient/", "mesh/linkerd/", "mesh/network/", "services/", "proto/"} {
		if !strings.Contains(text, "```yaml "+folder) && !strings.Contains(text, "```json "+folder) && !strings.Contains(text, "```proto "+folder) {
			t.Errorf("docs/mesh.md quotes nothing from %s", folder)
		}
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(contracttest.Root(), path))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

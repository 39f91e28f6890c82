package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/contract/contracttest"
	"github.com/meshmart/meshmart/tests/follow"
)

// A block of a document that names a file is a quote: ```yaml mesh/base/services/order.yaml
func TestDocumentsQuoteTheFiles(t *testing.T) {
	documents, err := filepath.Glob(filepath.Join(contracttest.Root(), "docs", "*.md"))
	if err != nil || len(documents) == 0 {
		t.Fatalf("%d documents, %v", len(documents), err)
	}
	for _, d := range append(documents, filepath.Join(contracttest.Root(), "README.md")) {
		name, _ := filepath.Rel(contracttest.Root(), d)
		for _, b := range follow.Blocks(read(t, name)) {
			if b.File != "" {
				quoted(t, name, b.File, b.Text)
			}
		}
	}
}

// quoted holds a block to being in the file, its parts in the file's order.
func quoted(t *testing.T, document, file, block string) {
	t.Helper()
	rest := "\n" + read(t, file)
	for part := range strings.SplitSeq(block, "...\n") {
		_, after, found := strings.Cut(rest, "\n"+part)
		if !found {
			t.Errorf("%s: not in %s, or not in this order:\n%s", document, file, part)
		}
		rest = "\n" + after
	}
}

func TestEveryTargetIsExplained(t *testing.T) {
	text := read(t, "docs/mesh.md")
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

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const repository = "../.."

func TestNamesThatCanBeNoServiceAreRefused(t *testing.T) {
	for name, want := range map[string]string{
		"":                      "is missing",
		"x":                     "2 to 31",
		"Parcel":                "2 to 31",
		"par-cel":               "2 to 31",
		"9lives":                "2 to 31",
		strings.Repeat("x", 32): "2 to 31",
		"../../etc":             "2 to 31",
		"func":                  "word of Go's",
		"string":                "word of Go's",
		"main":                  "word of Go's",
		"value":                 "word of SQL's",
		"greeter":               "proto/greeter is there",
		"shop":                  "services/shop is there",
		"idem":                  "services/internal/idem is there",
		"time":                  "name of a package",
		"tier":                  "already", // a type beside the import
		"market":                "already", // in a test beside it
		"store":                 "two files services/store/store.go",
		"stock":                 "services/inventory/events.go",
		"otel":                  "services/internal/app/config.go",
		"greeting":              "routes are taken",
		"postgres":              "manifests have something of that name",
		"grafana":               "manifests have something of that name",
		"gadget":                "template",
		"vendor":                "go command",
	} {
		if _, err := newService(repository, name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", name, err, want)
		}
	}
	if _, err := newService(repository, "parcel"); err != nil {
		t.Error(err)
	}
}

func TestWordsAreMadeOfTheName(t *testing.T) {
	for name, want := range map[string]string{
		"parcel":  "a parcel is no Parcel: parcels, Parcels, PARCEL",
		"invoice": "an invoice is no Invoice: invoices, Invoices, INVOICE",
		"box":     "a box is no Box: boxes, Boxes, BOX",
		"policy":  "a policy is no Policy: policies, Policies, POLICY",
		"day":     "a day is no Day: days, Days, DAY",
		"branch":  "a branch is no Branch: branches, Branches, BRANCH",
	} {
		s := &service{name: name}
		if got := s.named("a gadget is no Gadget: gadgets, Gadgets, GADGET"); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// What is there is never written over, whatever the name.
func TestFilesThatAreThereStay(t *testing.T) {
	for _, name := range []string{"autoscaler", "common", "crash", "table"} {
		s, err := newService(repository, name)
		if err == nil {
			_, err = s.changes(repository)
		}
		if err == nil || !strings.Contains(err.Error(), "is there already") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A second service finds its places beside the first, and neither can be written
// again.
func TestServicesAreWrittenOneAfterTheOther(t *testing.T) {
	root := copyOfTree(t)
	for i, name := range []string{"parcel", "invoice"} {
		write(t, root, name)
		if _, err := newService(root, name); err == nil || !strings.Contains(err.Error(), "is taken") {
			t.Errorf("%s again: %v", name, err)
		}
		shop, flags := read(t, root, "services/shop/shop.go"), read(t, root, "skaffold.yaml")
		port := []string{`{parcel.New(), "9007"},`, `{invoice.New(), "9008"},`}[i]
		artifact := []string{"/build/artifacts/7/ko/flags", "/build/artifacts/8/ko/flags"}[i]
		if !strings.Contains(shop, port) || !strings.Contains(flags, artifact) {
			t.Errorf("%s: no %s or no %s", name, port, artifact)
		}
	}
	for _, p := range []string{"buf.gen.mesh.yaml", "mesh/base/services/kustomization.yaml", "tests/testbed/testbed.go"} {
		if text := read(t, root, p); !strings.Contains(text, "parcel") || !strings.Contains(text, "invoice") {
			t.Errorf("%s lacks one of the services:\n%s", p, text)
		}
	}
}

// A place that is not found, or twice, is told with its file; nothing is written.
func TestATreeThatIsNotAsExpectedStaysAsItIs(t *testing.T) {
	for _, e := range edits() {
		root := copyOfTree(t)
		text := read(t, root, e.path)
		if err := os.WriteFile(filepath.Join(root, e.path), []byte("changed by somebody"), 0o600); err != nil {
			t.Fatal(err)
		}
		before := files(t, root)
		s := &service{name: "parcel", port: 9007}
		_, err := s.changes(root)
		if err == nil || !strings.Contains(err.Error(), e.path+": there are 0 places, not one, that match "+e.place) {
			t.Errorf("%s without its place: %v", e.path, err)
		}
		if diff := cmp.Diff(files(t, root), before); diff != "" {
			t.Errorf("%s: the tree is changed:\n%s", e.path, diff)
		}
		if _, err := e.apply(s, []byte(text+text)); err == nil && !strings.HasPrefix(e.place, `(?s)\A`) && !strings.HasSuffix(e.place, `\z`) {
			t.Errorf("%s: a place that is there twice is taken: %s", e.path, e.place)
		}
	}
}

// copyOfTree copies what the service is written into.
func copyOfTree(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for _, e := range edits() {
		to := filepath.Join(root, e.path)
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, []byte(read(t, repository, e.path)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"proto", "observability", "mesh/base"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func write(t *testing.T, root, name string) {
	t.Helper()
	s, err := newService(root, name)
	if err != nil {
		t.Fatal(err)
	}
	changes, err := s.changes(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range changes {
		if err := c.write(root); err != nil {
			t.Fatal(err)
		}
	}
}

func read(t *testing.T, root, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func files(t *testing.T, root string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(root, func(p string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			all = append(all, p+": "+read(t, "", p))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

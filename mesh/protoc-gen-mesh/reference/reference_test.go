package reference

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/contract/contracttest"
)

// The files of the repository are read, as compiled contracts have no comments;
// tools/generate -check sees to it that they are those of the contracts.
func written(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(contracttest.Root(), pages, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestEveryRPCMessageAndFieldIsThere(t *testing.T) {
	shop := contracttest.Shop(t)
	index := written(t, "README.md")
	for _, svc := range shop.Services {
		page := written(t, svc.Host+".md")
		for _, r := range svc.RPCs {
			for _, want := range []string{"\n### " + r.Method + "\n", "| callers | " + strings.Join(r.Callers, ", ") + " |"} {
				if !strings.Contains(page, want) {
					t.Errorf("%s.md has no %q", svc.Host, want)
				}
			}
			if !strings.Contains(index, "("+svc.Host+".md#"+strings.ToLower(r.Method)+")") {
				t.Errorf("README.md has no %s", r.FullName())
			}
		}
		for _, f := range svc.Files {
			for i := range f.Messages().Len() {
				sectionHasFields(t, page, f.Messages().Get(i))
			}
		}
	}
}

func sectionHasFields(t *testing.T, page string, m protoreflect.MessageDescriptor) {
	t.Helper()
	_, section, found := strings.Cut(page, "\n### "+nameOf(m)+"\n")
	section, _, _ = strings.Cut(section, "\n### ")
	if !found {
		t.Errorf("no section of %s", m.FullName())
	}
	for _, f := range fields(m) {
		if !strings.Contains(section, "| `"+string(f.Name())+"` |") {
			t.Errorf("%s has no field %s", m.FullName(), f.Name())
		}
	}
}

// A contract whose RPC says nothing is not done; nor is a text that has a Go
// value's address in it.
func TestEveryRPCIsExplained(t *testing.T) {
	for _, svc := range contracttest.Shop(t).Services {
		page := written(t, svc.Host+".md")
		for _, r := range svc.RPCs {
			if !strings.Contains(page, "\n### "+r.Method+"\n\n"+r.Method+" ") {
				t.Errorf("%s has no comment that begins with its name", r.FullName())
			}
		}
		if got := regexp.MustCompile(`0x[0-9a-f]{6,}|%!|<nil>`).FindString(page); got != "" {
			t.Errorf("%s.md has %q", svc.Host, got)
		}
	}
}

var (
	linkTo  = regexp.MustCompile(`\]\(([^)#]*)(?:#([^)]*))?\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
)

func TestEveryLinkHasItsEnd(t *testing.T) {
	dir := filepath.Join(contracttest.Root(), pages)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		for _, l := range linkTo.FindAllStringSubmatch(written(t, e.Name()), -1) {
			file, anchor := l[1], l[2]
			if file == "" {
				file = e.Name()
			}
			if _, err := os.Stat(filepath.Join(dir, file)); err != nil {
				t.Errorf("%s: %v", e.Name(), err)
			} else if strings.HasSuffix(file, ".md") && anchor != "" && !headed(written(t, file), anchor) {
				t.Errorf("%s: nothing at %s#%s", e.Name(), file, anchor)
			}
		}
	}
}

func headed(page, anchor string) bool {
	return slices.ContainsFunc(heading.FindAllStringSubmatch(page, -1), func(h []string) bool {
		return strings.ToLower(strings.ReplaceAll(h[1], ".", "")) == anchor
	})
}

func TestRulesAreSaidAsTheyAreChecked(t *testing.T) {
	for field, want := range map[string]string{
		"order.v1.CreateOrderRequest.request_id":    "required; uuid",
		"order.v1.CreateOrderRequest.items":         "required; a product may come once only; min_items `1`; max_items `100`",
		"order.v1.OrderItem.quantity":               "required; lte `1000`; gte `1`",
		"order.v1.ListOrdersRequest.filter":         "max_len `2000`",
		"greeter.v1.ChatGreetingsRequest.language":  "in ",
		"order.v1.CreateOrderRequest.payment_token": "required; must be a token of the payment processor (tok_... or pm_...), never a card number",
	} {
		if got := rules(find(t, field)); got != want && (!strings.HasSuffix(want, " ") || !strings.HasPrefix(got, want+"`")) {
			t.Errorf("%s: %q, want %q", field, got, want)
		}
	}
}

func find(t *testing.T, name string) protoreflect.FieldDescriptor {
	t.Helper()
	for _, svc := range contracttest.Shop(t).Services {
		for _, f := range svc.Files {
			for i := range f.Messages().Len() {
				m := f.Messages().Get(i)
				if d := m.Fields().ByName(protoreflect.FullName(name).Name()); d != nil && d.FullName() == protoreflect.FullName(name) {
					return d
				}
			}
		}
	}
	t.Fatalf("no field %s", name)
	return nil
}

func TestGraphHasEveryCaller(t *testing.T) {
	shop := contracttest.Shop(t)
	graph := strings.Join(edges(shop), "\n")
	for _, r := range shop.RPCs() {
		for _, caller := range r.Callers {
			if !regexp.MustCompile(`(?m)^` + caller + ` -- .* --> ` + r.Host + `$`).MatchString(graph) {
				t.Errorf("no edge from %s to %s, for %s", caller, r.Host, r.FullName())
			}
		}
	}
}

package tracetree

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const bought = `
gateway server POST /v1/orders
  gateway client Create
    order server Create
      order db INSERT orders, SELECT orders?, COMMIT
      ? order client GetJwks
        user server GetJwks
      order internal saga reserve
        order client Reserve FAILED
          stock server Reserve
            stock db COMMIT
      order producer publish created
        stock consumer process created
          stock db INSERT inbox, INSERT stock, COMMIT
          (last) stock producer publish done
        pay consumer process created
          pay db INSERT inbox, COMMIT
          (last) stock producer publish done
`

// happened is what the trace of bought may be.
const happened = `
gateway server POST /v1/orders
  gateway client Create
    order server Create
      order producer publish created
        pay consumer process created
          stock producer publish done
          pay db INSERT inbox, COMMIT
        stock consumer process created
          stock db INSERT inbox, INSERT stock, COMMIT
      order db INSERT orders, COMMIT
      order internal saga reserve
        order client Reserve FAILED
          stock server Reserve
            stock db COMMIT
`

func parse(t *testing.T, text string) []Tree {
	t.Helper()
	trees, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return trees
}

// trace makes the spans that a tree shows, each a little later than the one
// before it.
func trace(t *testing.T, text string) []Span {
	t.Helper()
	var spans []Span
	var add func(nodes []*node, parent string)
	add = func(nodes []*node, parent string) {
		for _, n := range nodes {
			s := Span{Trace: "t", Parent: parent, Service: n.service, Kind: n.kind, Name: n.name, Failed: n.failed}
			names := []string{n.name}
			if n.kind == kindFold {
				s.Kind, s.Statement = "client", true
				names = n.statementList()
			}
			for _, s.Name = range names {
				s.ID = fmt.Sprint(len(spans) + 1)
				s.Start = time.Unix(int64(len(spans)), 0)
				if n.kind == kindLost {
					s.ID = "gone" + s.ID
				} else {
					spans = append(spans, s)
				}
			}
			add(n.children, s.ID)
		}
	}
	for _, tree := range parse(t, text) {
		add(tree.top, "")
	}
	return spans
}

// index finds a span by its service and name.
func index(t *testing.T, spans []Span, service, name string) int {
	t.Helper()
	i := slices.IndexFunc(spans, func(s Span) bool { return s.Service == service && s.Name == name })
	if i < 0 {
		t.Fatalf("no span %s %s", service, name)
	}
	return i
}

func TestATreeIsFoundInItsTrace(t *testing.T) {
	for name, text := range map[string]string{
		"nothing more": happened,
		"what may be there": strings.Replace(happened, "    order server Create\n",
			"    order server Create\n      order client GetJwks\n        user server GetJwks\n", 1),
		"a statement that may be there": strings.Replace(happened, "INSERT orders, COMMIT", "INSERT orders, SELECT orders, COMMIT", 1),
		"the other of the group": strings.Replace(strings.Replace(happened, "          stock producer publish done\n", "", 1),
			"INSERT stock, COMMIT\n", "INSERT stock, COMMIT\n          stock producer publish done\n", 1),
		"a delivery once more": strings.Replace(happened, "        stock consumer process created\n",
			"        stock consumer process created\n          stock db INSERT inbox, COMMIT\n        stock consumer process created\n", 1),
	} {
		r := Match(parse(t, bought)[0], trace(t, text))
		if !r.OK() {
			t.Errorf("%s:\n%s", name, r.String())
		}
		if want := 9; r.Edges < want || r.Edges > want+2 {
			t.Errorf("%s: %d edges, want %d", name, r.Edges, want)
		}
	}
}

// TestWhatIsWrongWithATrace changes a trace that fits, and expects to be told.
func TestWhatIsWrongWithATrace(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*testing.T, []Span) []Span
		want   []string
	}{
		{"missing span", func(t *testing.T, s []Span) []Span {
			id := s[index(t, s, "pay", "process created")].ID
			return slices.DeleteFunc(s, func(o Span) bool { return o.ID == id || o.Parent == id })
		}, []string{
			`missing: "pay consumer process created" below "order producer publish created"`,
			`of the lines (last) there are 0, want one`,
		}},
		{"unexpected span", func(t *testing.T, s []Span) []Span {
			return append(s, Span{Trace: "t", ID: "x", Parent: s[2].ID, Service: "order", Kind: "client", Name: "Void"})
		}, []string{`unexpected: "order client Void" below "order server Create"`}},
		{"unexpected span below one that may be absent", func(t *testing.T, s []Span) []Span {
			return append(s, Span{Trace: "t", ID: "x", Parent: s[2].ID, Service: "order", Kind: "client", Name: "GetJwks"})
		}, []string{`missing: "user server GetJwks" below "order client GetJwks"`}},
		{"wrong parent", func(t *testing.T, s []Span) []Span {
			s[index(t, s, "order", "saga reserve")].Parent = s[0].ID
			return s
		}, []string{`wrong parent: "order internal saga reserve" is below "gateway server POST /v1/orders", want below "order server Create"`}},
		{"orphan", func(t *testing.T, s []Span) []Span {
			s[index(t, s, "order", "saga reserve")].Parent = "who"
			return s
		}, []string{
			`orphan: the parent of "order internal saga reserve" is not in the trace`,
			`missing: "order internal saga reserve" below "order server Create"`,
			`unexpected: "lost" below the top`,
		}},
		{"two roots", func(t *testing.T, s []Span) []Span {
			return append(s, Span{Trace: "t", ID: "x", Service: "order", Kind: "internal", Name: "saga resume"})
		}, []string{`one root too many: "order internal saga resume" below the top`}},
		{"wrong service", func(t *testing.T, s []Span) []Span {
			s[index(t, s, "stock", "Reserve")].Service = "pay"
			return s
		}, []string{`below "order client Reserve FAILED" is "pay server Reserve", want "stock server Reserve"`}},
		{"another status", func(t *testing.T, s []Span) []Span {
			s[index(t, s, "order", "Reserve")].Failed = false
			return s
		}, []string{`below "order internal saga reserve" is "order client Reserve", want "order client Reserve FAILED"`}},
		{"missing and unexpected statements", func(t *testing.T, s []Span) []Span {
			s[index(t, s, "stock", "INSERT stock")].Name = "DELETE stock"
			return s
		}, []string{`statements below "stock consumer process created": missing: INSERT stock, unexpected: DELETE stock`}},
		{"failed statement", func(t *testing.T, s []Span) []Span {
			s[index(t, s, "stock", "INSERT stock")].Failed = true
			return s
		}, []string{`statements below "stock consumer process created": missing: INSERT stock, unexpected: INSERT stock FAILED`}},
		{"both of a group", func(t *testing.T, s []Span) []Span {
			return append(s, Span{Trace: "t", ID: "x", Parent: s[index(t, s, "stock", "process created")].ID, Service: "stock", Kind: "producer", Name: "publish done"})
		}, []string{`of the lines (last) there are 2, want one`}},
		{"a repetition with an effect", func(t *testing.T, s []Span) []Span {
			more := s[index(t, s, "pay", "process created")]
			more.ID = "x"
			return append(s, more, Span{Trace: "t", ID: "y", Parent: "x", Service: "pay", Kind: "client", Name: "INSERT ledger", Statement: true})
		}, []string{`unexpected: "pay consumer process created" below "order producer publish created"`}},
		{"a call made twice", func(t *testing.T, s []Span) []Span {
			more := s[index(t, s, "gateway", "Create")]
			more.ID = "x"
			return append(s, more)
		}, []string{`unexpected: "gateway client Create" below "gateway server POST /v1/orders"`}},
		{"parents of each other", func(t *testing.T, s []Span) []Span {
			return append(s, Span{Trace: "t", ID: "x", Parent: "y"}, Span{Trace: "t", ID: "y", Parent: "x"})
		}, []string{"2 spans are each other's parents"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := Match(parse(t, bought)[0], tt.change(t, trace(t, happened)))
			if diff := cmp.Diff(tt.want, r.problems); diff != "" {
				t.Errorf("(-want +got)\n%s\n%s", diff, r.String())
			}
		})
	}
}

func TestNothingOfATraceIsThere(t *testing.T) {
	r := Match(parse(t, bought)[0], nil)
	if r.OK() {
		t.Error("a trace without spans is as it should be")
	}
}

func TestLostParents(t *testing.T) {
	const text = `
lost
  order internal saga reserve
lost
  stock server Reserve
  stock server Release
`
	r := Match(parse(t, text)[0], trace(t, text))
	if !r.OK() {
		t.Error(r.String())
	}
	r = Match(parse(t, strings.Replace(text, "  stock server Release\n", "", 1))[0], trace(t, text))
	if r.OK() {
		t.Error("a span below the lost parent of another is not seen")
	}
}

func TestBothTreesAreShownSideBySide(t *testing.T) {
	r := Match(parse(t, `
a server Get
  a client Find
    b server Find
`)[0], trace(t, `
a server Get
  a client Find
    c server Find
  a client More
`))
	want := `below "a client Find" is "c server Find", want "b server Find"
unexpected: "a client More" below "a server Get"
  want              | got
  a server Get      | a server Get
    a client Find   |   a client Find
!     b server Find |     c server Find
>                   |   a client More
`
	if diff := cmp.Diff(want, r.String()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestTracesAreToldApartAndSpansCountedOnce(t *testing.T) {
	a, b := trace(t, happened), trace(t, happened)
	for i := range b {
		b[i].Trace = "u"
	}
	got := Traces(slices.Concat(a, b, a))
	if len(got) != 2 || len(got["t"]) != len(a) || len(got["u"]) != len(a) {
		t.Errorf("%d traces of %d and %d spans, want 2 of %d", len(got), len(got["t"]), len(got["u"]), len(a))
	}
}

func TestShownTraceIsItsTree(t *testing.T) {
	r := Match(parse(t, Show(trace(t, happened)))[0], trace(t, happened))
	if !r.OK() {
		t.Error(r.String())
	}
}

func TestNotation(t *testing.T) {
	if got := parse(t, "# two\na server X\n  # a child\n  a client Y\n\n\nb server Z\n"); len(got) != 2 || count(got[0].top) != 2 || count(got[1].top) != 1 {
		t.Errorf("%d trees", len(got))
	}
	for _, text := range []string{
		"a server", "a keeper X", "  a server X", "a server X\n    a client Y", "a server X\n b client Y",
		"a server X\n  lost", "(last a server X",
	} {
		if _, err := Parse(text); err == nil {
			t.Errorf("%q is a tree", text)
		}
	}
}

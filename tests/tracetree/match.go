package tracetree

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Result is how a trace compares with its tree.
type Result struct {
	// Edges is how many spans are below the parent that they should be below,
	// without statements.
	Edges int
	// Repeats is how many events were published or delivered once more.
	Repeats int

	problems            []string
	rows                []row
	missing, unexpected []stray
	chosen              map[string]int // lines of each group that are there
}

// row is a line of both trees, side by side.
type row struct {
	depth     int
	mark      string // "" if they are the same
	want, got string
}

// stray is a line without a counterpart.
type stray struct{ label, parent string }

// Match compares the spans of one trace with what is wanted of it.
func Match(want Tree, spans []Span) Result {
	r := Result{chosen: map[string]int{}}
	got := grow(spans)
	r.siblings(want.top, got.top, nil, 0)
	r.judge(want)
	if hidden := unreached(spans, got); hidden > 0 {
		r.problems = append(r.problems, fmt.Sprintf("%d spans are each other's parents", hidden))
	}
	return r
}

// OK reports whether the trace is as it should be.
func (r *Result) OK() bool { return len(r.problems) == 0 }

// siblings compares what is below two lines that go together. parent is the
// wanted one, nil at the top.
func (r *Result) siblings(want, got []*node, parent *node, depth int) {
	pair := pairs(want, got)
	taken := map[*node]bool{}
	for _, w := range want {
		g := pair[w]
		if g == nil {
			r.absent(w, parent, depth)
			continue
		}
		taken[g] = true
		r.both(w, g, parent, depth)
	}
	for _, g := range got {
		switch {
		case taken[g]:
		case slices.ContainsFunc(want, func(w *node) bool { return pair[w] != nil && repeats(g, w) }):
			r.Repeats++
			r.show(g, "", false, depth)
		default:
			r.surplus(g, parent, depth)
		}
	}
}

// both notes a wanted line and the one that was found for it.
func (r *Result) both(w, g, parent *node, depth int) {
	line := row{depth: depth, want: w.String(), got: g.String()}
	switch {
	case w.kind == kindFold:
		if wrong := compareStatements(w, g); wrong != "" {
			line.mark = "!"
			r.problems = append(r.problems, fmt.Sprintf("statements below %s: %s", name(parent), wrong))
		}
	case w.label() != g.label():
		line.mark = "!"
		r.problems = append(r.problems, fmt.Sprintf("below %s is %q, want %q", name(parent), g.label(), w.label()))
	case parent != nil:
		r.Edges++
	}
	if w.group != "" {
		r.chosen[w.group]++
	}
	r.rows = append(r.rows, line)
	r.siblings(w.children, g.children, w, depth+1)
}

// absent notes a wanted line for which none was found.
func (r *Result) absent(w, parent *node, depth int) {
	if w.optional || w.group != "" {
		return
	}
	r.missing = append(r.missing, stray{w.label(), name(parent)})
	r.show(w, "<", true, depth)
}

// surplus notes a line that is not wanted where it is.
func (r *Result) surplus(g, parent *node, depth int) {
	r.unexpected = append(r.unexpected, stray{g.label(), name(parent)})
	r.show(g, ">", false, depth)
	for _, c := range g.children {
		if g.kind == kindLost {
			r.problems = append(r.problems, fmt.Sprintf("orphan: the parent of %q is not in the trace", c.label()))
		}
	}
}

// show adds a line and all below it to one side.
func (r *Result) show(n *node, mark string, wanted bool, depth int) {
	line := row{depth: depth, mark: mark, got: n.String()}
	if wanted {
		line.want, line.got = line.got, ""
	}
	r.rows = append(r.rows, line)
	for _, c := range n.children {
		r.show(c, mark, wanted, depth+1)
	}
}

// judge tells the strays apart, and whether of each group there is one.
func (r *Result) judge(want Tree) {
	for _, m := range r.missing {
		i := slices.IndexFunc(r.unexpected, func(u stray) bool { return u.label == m.label })
		if i < 0 {
			r.problems = append(r.problems, fmt.Sprintf("missing: %q below %s", m.label, m.parent))
			continue
		}
		r.problems = append(r.problems, fmt.Sprintf("wrong parent: %q is below %s, want below %s", m.label, r.unexpected[i].parent, m.parent))
		r.unexpected = slices.Delete(r.unexpected, i, i+1)
	}
	for _, u := range r.unexpected {
		what := "unexpected"
		if u.parent == name(nil) && u.label != kindLost {
			what = "one root too many"
		}
		r.problems = append(r.problems, fmt.Sprintf("%s: %q below %s", what, u.label, u.parent))
	}
	for _, g := range groups(want.top) {
		if r.chosen[g] != 1 {
			r.problems = append(r.problems, fmt.Sprintf("of the lines (%s) there are %d, want one", g, r.chosen[g]))
		}
	}
}

func groups(nodes []*node) []string {
	all := map[string]bool{}
	for _, n := range nodes {
		if n.group != "" {
			all[n.group] = true
		}
		for _, g := range groups(n.children) {
			all[g] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}

func name(parent *node) string {
	if parent == nil {
		return "the top"
	}
	return fmt.Sprintf("%q", parent.label())
}

// pairs finds for each wanted line the one that it is: of the same label, and of
// several the one that has the right things below it; and for those that are left
// one that differs in its service or in its status alone.
func pairs(want, got []*node) map[*node]*node {
	pair, taken := map[*node]*node{}, map[*node]bool{}
	for _, goesTogether := range []func(w, g *node) bool{
		func(w, g *node) bool { return w.label() == g.label() && (alone(w, want, got) || fits(w, g)) },
		func(w, g *node) bool { return w.label() == g.label() },
		func(w, g *node) bool {
			return w.kind == g.kind && w.name == g.name && w.kind != kindFold && !w.optional
		},
	} {
		for _, w := range want {
			for _, g := range got {
				if pair[w] == nil && !taken[g] && goesTogether(w, g) {
					pair[w], taken[g] = g, true
				}
			}
		}
	}
	return pair
}

// alone reports whether there is nothing to choose for w, which saves a look at
// all that is below.
func alone(w *node, want, got []*node) bool {
	n := 0
	for _, o := range slices.Concat(want, got) {
		if o.label() == w.label() {
			n++
		}
	}
	return n <= 2
}

func fits(w, g *node) bool {
	r := Result{chosen: map[string]int{}}
	r.siblings(w.children, g.children, w, 0)
	return len(r.problems)+len(r.missing)+len(r.unexpected) == 0
}

// repeats reports whether g is w once more, to no effect.
func repeats(g, w *node) bool {
	if g.kind != "producer" && g.kind != "consumer" || g.label() != w.label() {
		return false
	}
	for _, c := range g.children {
		i := slices.IndexFunc(w.children, func(o *node) bool { return o.kind == kindFold && o.label() == c.label() })
		if c.kind != kindFold || i < 0 {
			return false
		}
		for s := range c.statements {
			if _, known := w.children[i].statements[s]; !known {
				return false
			}
		}
	}
	return true
}

func compareStatements(want, got *node) string {
	var wrong []string
	for _, s := range slices.Sorted(maps.Keys(want.statements)) {
		if _, there := got.statements[s]; !there && want.statements[s] == must {
			wrong = append(wrong, "missing: "+s)
		}
	}
	for _, s := range slices.Sorted(maps.Keys(got.statements)) {
		if _, known := want.statements[s]; !known {
			wrong = append(wrong, "unexpected: "+s)
		}
	}
	return strings.Join(wrong, ", ")
}

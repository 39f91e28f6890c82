// Package tracetree compares a trace with the tree that is written down for it:
//
//	gateway server POST /v1/orders
//	  gateway client order.v1.OrderService/CreateOrder
//	    order server order.v1.OrderService/CreateOrder
//	      order db SELECT orders, INSERT orders, INSERT outbox, COMMIT
//	      order producer publish order.created
//
// A line is a span: its service, its kind and its name. What it is the parent of
// stands below it, two spaces further in. Siblings may have happened in any order.
// FAILED at the end of a line is the status of a span that failed. Everything in
// the trace is in the tree and the other way round, but for:
//
//   - Statements of the database are folded: of all that a span has below it there
//     is one line. Each is there once at least, however often it was made: how
//     often a row is read again is a matter of timing. One with a ? at its end may
//     be absent.
//   - "? " before a line: it may be absent, with what is below it.
//   - "(name) " before some lines: exactly one of those with that name is there.
//   - Events are delivered at least once. So a producer or consumer span may come
//     again beside itself, as long as the repetition changes nothing: it has
//     nothing below it but statements that the first had, too.
//   - "lost" stands for a span that was never reported, as its process was killed,
//     and may only be a line that is not indented. What is below it has a parent
//     which is not in the trace.
//
// A # begins a line for people. An empty line ends a tree: a story has a tree for
// each of its traces.
package tracetree

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"
)

// Span is what a tree needs to know of one.
type Span struct {
	Trace, ID string
	Parent    string // the ID of its parent, which may be in no trace; "": it is a root
	Service   string
	Kind      string // internal, server, client, producer or consumer
	Name      string
	Failed    bool
	Statement bool // of a database: a leaf that is folded
	Start     time.Time
}

// Tree is what one trace has to be. The zero value is of a trace without spans.
type Tree struct{ top []*node }

// node is a line: one span, one that is wanted, or a fold of statements.
type node struct {
	service, kind, name string
	failed              bool
	optional            bool   // of what is wanted: it may be absent
	group               string // of what is wanted: one of those of the group is there
	statements          map[string]need
	children            []*node
}

// need is how a statement is there or has to be.
type need int

const (
	must need = iota
	may
)

const (
	kindLost = "lost"
	kindFold = "db"
)

// label is what a line is found by.
func (n *node) label() string {
	l := strings.TrimSpace(n.service + " " + n.kind + " " + n.name)
	if n.failed {
		l += " FAILED"
	}
	return l
}

// String is the line as it is written down.
func (n *node) String() string {
	l := n.label()
	if n.kind == kindFold {
		l += " " + strings.Join(n.statementList(), ", ")
	}
	switch {
	case n.optional:
		l = "? " + l
	case n.group != "":
		l = "(" + n.group + ") " + l
	}
	return l
}

func (n *node) statementList() []string {
	var all []string
	for _, s := range slices.Sorted(maps.Keys(n.statements)) {
		if n.statements[s] == may {
			s += "?"
		}
		all = append(all, s)
	}
	return all
}

// Traces sorts spans by their traces, and each by time. A span that came twice,
// because its process was not sure that the first had arrived, counts once.
func Traces(spans []Span) map[string][]Span {
	type key struct{ trace, id string }
	seen, traces := map[key]bool{}, map[string][]Span{}
	for _, s := range spans {
		if k := (key{s.Trace, s.ID}); !seen[k] {
			seen[k] = true
			traces[s.Trace] = append(traces[s.Trace], s)
		}
	}
	for _, all := range traces {
		slices.SortFunc(all, func(a, b Span) int { return cmp.Or(a.Start.Compare(b.Start), cmp.Compare(a.ID, b.ID)) })
	}
	return traces
}

// grow makes the tree that the spans of one trace are. Spans whose parent is not
// there hang from a lost one, those of the same parent from the same.
func grow(spans []Span) Tree {
	nodes, folded := map[string]*node{}, parents(spans)
	for _, s := range spans {
		nodes[s.ID] = &node{service: s.Service, kind: s.Kind, name: s.Name, failed: s.Failed}
	}
	root, lost := &node{}, map[string]*node{}
	for _, s := range spans {
		parent := nodes[s.Parent]
		switch {
		case s.Parent == "":
			parent = root
		case parent == nil && lost[s.Parent] == nil:
			parent = &node{kind: kindLost}
			lost[s.Parent] = parent
			root.children = append(root.children, parent)
		case parent == nil:
			parent = lost[s.Parent]
		}
		if s.Statement && !folded[s.ID] {
			parent.fold(s)
			continue
		}
		parent.children = append(parent.children, nodes[s.ID])
	}
	return Tree{root.children}
}

// parents are the ids of spans that have something below them.
func parents(spans []Span) map[string]bool {
	has := map[string]bool{}
	for _, s := range spans {
		has[s.Parent] = true
	}
	return has
}

// fold adds a statement to the line of those of its service.
func (n *node) fold(s Span) {
	i := slices.IndexFunc(n.children, func(c *node) bool { return c.kind == kindFold && c.service == s.Service })
	if i < 0 {
		i = len(n.children)
		n.children = append(n.children, &node{service: s.Service, kind: kindFold, statements: map[string]need{}})
	}
	name := s.Name
	if s.Failed {
		name += " FAILED"
	}
	n.children[i].statements[name] = must
}

// unreached is how many of the spans are not in the tree that was grown of them.
func unreached(spans []Span, t Tree) int {
	left, has := -count(t.top), parents(spans)
	for _, s := range spans {
		if !s.Statement || has[s.ID] {
			left++
		}
	}
	return left
}

// count is how many spans the lines are, without lost ones and statements.
func count(nodes []*node) (n int) {
	for _, c := range nodes {
		if c.kind != kindFold && c.kind != kindLost {
			n++
		}
		n += count(c.children)
	}
	return n
}

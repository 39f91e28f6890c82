package tracetree

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// String tells what is wrong, and shows the wanted tree with the one that was
// found beside it. < marks what is missing, > what is not wanted, and ! what is
// there and differs.
func (r *Result) String() string {
	var b strings.Builder
	for _, p := range r.problems {
		fmt.Fprintln(&b, p)
	}
	width := len("want")
	for _, l := range r.rows {
		width = max(width, 2*l.depth+utf8.RuneCountInString(l.want))
	}
	fmt.Fprintf(&b, "  %-*s | got\n", width, "want")
	for _, l := range r.rows {
		in := strings.Repeat("  ", l.depth)
		want, got := in+l.want, in+l.got
		line := fmt.Sprintf("%-1s %-*s | %s", l.mark, width, strings.TrimRight(want, " "), got)
		fmt.Fprintln(&b, strings.TrimRight(line, " "))
	}
	return b.String()
}

// Show writes spans of one trace down as a tree.
func Show(spans []Span) string {
	var b strings.Builder
	show(&b, grow(spans).top, 0)
	return b.String()
}

func show(b *strings.Builder, nodes []*node, depth int) {
	for _, n := range nodes {
		fmt.Fprintf(b, "%s%s\n", strings.Repeat("  ", depth), n)
		show(b, n.children, depth+1)
	}
}

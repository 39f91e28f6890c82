// Package losses writes mesh/LOSSES.md: what of the contracts each target can't
// express, and what holds instead.
package losses

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/contract"
	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/target"
)

const intro = `
# What a mesh cannot express

Each RPC says its policies once, in its .proto. What a target cannot say of them
is listed here, and what holds instead; nothing else is left out.
`

// File returns the document for the targets, in their order. A loss that is not
// fully said is an error: it is the one thing that this document is for.
func File(s *contract.Shop, targets []target.Target) (target.File, error) {
	targets = slices.DeleteFunc(slices.Clone(targets), func(t target.Target) bool { return t.Losses == nil })
	var b bytes.Buffer
	fmt.Fprintf(&b, "<!-- %s -->\n%s", target.Header, intro)
	lost := make([][]target.Loss, len(targets))
	for i, t := range targets {
		lost[i] = apply(t.Losses(s))
		if err := writeTarget(&b, s, t, lost[i]); err != nil {
			return target.File{}, err
		}
	}
	writeRPCs(&b, s, targets, lost)
	return target.File{Path: "mesh/LOSSES.md", Content: b.Bytes()}, nil
}

// apply leaves out what is lost for no RPC that there is: a list that is empty,
// and not nil.
func apply(all []target.Loss) []target.Loss {
	return slices.DeleteFunc(all, func(l target.Loss) bool { return l.RPCs != nil && len(l.RPCs) == 0 })
}

func writeTarget(b *bytes.Buffer, s *contract.Shop, t target.Target, lost []target.Loss) error {
	fmt.Fprintf(b, "\n## %s\n\n%s.\n\n| | policy | RPCs | why | what holds instead |\n|---|---|---|---|---|\n", t.Name, t.Version)
	for i, l := range lost {
		if l.Policy == "" || l.Why == "" || l.Instead == "" {
			return fmt.Errorf("target %s: loss %d (%s) does not say everything", t.Name, i+1, l.Policy)
		}
		fmt.Fprintf(b, "| %d | %s | %s | %s | %s |\n", i+1, l.Policy, count(s, l), l.Why, l.Instead)
	}
	return nil
}

func count(s *contract.Shop, l target.Loss) string {
	switch {
	case l.RPCs == nil:
		return "-"
	case len(l.RPCs) == len(s.RPCs()):
		return "all"
	}
	return fmt.Sprintf("%d of %d", len(l.RPCs), len(s.RPCs()))
}

// writeRPCs says for each RPC which losses of which target it has.
func writeRPCs(b *bytes.Buffer, s *contract.Shop, targets []target.Target, lost [][]target.Loss) {
	b.WriteString("\n## RPC by RPC\n\nThe numbers are those of the rows above; a dash says that nothing is lost.\n\n| RPC | contract |")
	for _, t := range targets {
		fmt.Fprintf(b, " %s |", t.Name)
	}
	fmt.Fprintf(b, "\n|---|---|%s\n", strings.Repeat("---|", len(targets)))
	for _, r := range s.RPCs() {
		fmt.Fprintf(b, "| %s | [%s:%d](../%s#L%d) |", r.FullName(), r.Source.File, r.Source.Line, r.Source.File, r.Source.Line)
		for i := range targets {
			fmt.Fprintf(b, " %s |", numbers(r, lost[i]))
		}
		b.WriteByte('\n')
	}
}

func numbers(r *contract.RPC, lost []target.Loss) string {
	var ns []string
	for i, l := range lost {
		if slices.Contains(l.RPCs, r) {
			ns = append(ns, fmt.Sprint(i+1))
		}
	}
	if ns == nil {
		return "-"
	}
	return strings.Join(ns, ", ")
}

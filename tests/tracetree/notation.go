package tracetree

import (
	"errors"
	"fmt"
	"strings"
)

// Parse reads the trees that are written down, in their order.
func Parse(text string) ([]Tree, error) {
	p := parser{}
	n := 0
	for line := range strings.Lines(text) {
		n++
		if err := p.add(strings.TrimRight(line, " \r\n")); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
	}
	return p.trees, nil
}

type parser struct {
	trees []Tree
	path  []*node // to the line that was read last; empty: the tree has ended
}

// add reads one line.
func (p *parser) add(line string) error {
	content := strings.TrimLeft(line, " ")
	if content == "" {
		p.path = nil
		return nil
	}
	if content[0] == '#' {
		return nil
	}
	indent := len(line) - len(content)
	depth := indent / 2
	if depth > len(p.path) || indent%2 != 0 {
		return fmt.Errorf("%q is not two spaces further in than its parent", content)
	}
	n, err := parseLine(content, depth)
	if err != nil {
		return err
	}
	if len(p.path) == 0 {
		p.trees = append(p.trees, Tree{})
	}
	siblings := &p.trees[len(p.trees)-1].top
	if depth > 0 {
		siblings = &p.path[depth-1].children
	}
	*siblings = append(*siblings, n)
	p.path = append(p.path[:depth], n)
	return nil
}

func parseLine(line string, depth int) (*node, error) {
	n := &node{}
	rest, found := strings.CutPrefix(line, "? ")
	n.optional = found
	if strings.HasPrefix(rest, "(") {
		n.group, rest, found = strings.Cut(rest[1:], ") ")
		if !found {
			return nil, fmt.Errorf("%q: no end of the group", line)
		}
	}
	if rest == kindLost {
		n.kind = kindLost
		if depth > 0 {
			return nil, errors.New("a lost span is at the top: what is above it is not known")
		}
		return n, nil
	}
	rest, n.failed = strings.CutSuffix(rest, " FAILED")
	words := strings.SplitN(rest, " ", 3)
	if len(words) < 3 {
		return nil, fmt.Errorf("%q: not a service, a kind and a name", line)
	}
	n.service, n.kind, n.name = words[0], words[1], words[2]
	switch n.kind {
	case "internal", "server", "client", "producer", "consumer":
	case kindFold:
		n.statements, n.name = parseStatements(n.name), ""
	default:
		return nil, fmt.Errorf("%q: no kind of span is called %q", line, n.kind)
	}
	return n, nil
}

func parseStatements(text string) map[string]need {
	all := map[string]need{}
	for s := range strings.SplitSeq(text, ", ") {
		name, optional := strings.CutSuffix(s, "?")
		all[name] = must
		if optional {
			all[name] = may
		}
	}
	return all
}

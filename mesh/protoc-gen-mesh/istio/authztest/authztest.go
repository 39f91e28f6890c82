// Package authztest is what Envoy, ztunnel and grpc-go make of an
// AuthorizationPolicy, for the fields that ours have.
package authztest

import (
	"slices"
	"strings"
)

// Rule is one rule of a policy.
type Rule struct {
	From []struct{ Source Source }
	To   []struct{ Operation Operation }
	When []struct {
		Key       string
		NotValues []string `yaml:"notValues"`
	}
}

// Source is who calls.
type Source struct {
	Principals           []string
	NotPrincipals        []string `yaml:"notPrincipals"`
	NotRequestPrincipals []string `yaml:"notRequestPrincipals"`
}

// Operation is what is called.
type Operation struct {
	Ports, Methods, Paths []string
	NotPorts              []string `yaml:"notPorts"`
	NotPaths              []string `yaml:"notPaths"`
}

// Call is a call as a policy sees it. A Principal of "" is a caller without an
// identity of the mesh.
type Call struct {
	Principal, Port, Method, Path string
	Token                         string // issuer/subject
	Roles                         []string
}

// Match reports whether any of the rules takes in the call.
func Match(rules []Rule, c Call) bool {
	return slices.ContainsFunc(rules, func(r Rule) bool { return r.matches(c) })
}

func (r Rule) matches(c Call) bool {
	for _, w := range r.When {
		if w.Key != "request.auth.claims[roles]" || slices.ContainsFunc(c.Roles, func(role string) bool { return slices.Contains(w.NotValues, role) }) {
			return false
		}
	}
	from, to := len(r.From) == 0, len(r.To) == 0
	for _, f := range r.From {
		s := f.Source
		from = from || in(s.Principals, c.Principal) && out(s.NotPrincipals, c.Principal) && out(s.NotRequestPrincipals, c.Token)
	}
	for _, t := range r.To {
		op := t.Operation
		to = to || in(op.Ports, c.Port) && in(op.Methods, c.Method) && in(op.Paths, c.Path) && out(op.NotPorts, c.Port) && out(op.NotPaths, c.Path)
	}
	return from && to
}

// in is a field that has to match, if it is there at all.
func in(patterns []string, value string) bool {
	return patterns == nil || slices.ContainsFunc(patterns, func(p string) bool { return match(p, value) })
}

func out(patterns []string, value string) bool { return patterns == nil || !in(patterns, value) }

// match: "*" is any value that there is.
func match(pattern, value string) bool {
	if pattern == "*" {
		return value != ""
	}
	if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(value, prefix)
	}
	return pattern == value
}

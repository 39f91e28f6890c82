package istio

import (
	"slices"
	"strings"
)

// This file is what Envoy and grpc-go make of an AuthorizationPolicy, for the
// fields that ours have.

type rule struct {
	From []struct{ Source source }
	To   []struct{ Operation operation }
	When []struct {
		Key       string
		NotValues []string `yaml:"notValues"`
	}
}

type source struct {
	Principals           []string
	NotPrincipals        []string `yaml:"notPrincipals"`
	NotRequestPrincipals []string `yaml:"notRequestPrincipals"`
}

type operation struct {
	Ports, Methods, Paths []string
	NotPorts              []string `yaml:"notPorts"`
	NotPaths              []string `yaml:"notPaths"`
}

// call is a call as a policy sees it.
type call struct {
	principal, port, method, path string
	token                         string // issuer/subject
	roles                         []string
}

// matches reports whether any rule of the policy does.
func (o object) matches(c call) bool {
	return slices.ContainsFunc(o.Spec.Rules, func(r rule) bool { return r.matches(c) })
}

func (r rule) matches(c call) bool {
	for _, w := range r.When {
		if w.Key != "request.auth.claims[roles]" || slices.ContainsFunc(c.roles, func(role string) bool { return slices.Contains(w.NotValues, role) }) {
			return false
		}
	}
	from, to := len(r.From) == 0, len(r.To) == 0
	for _, f := range r.From {
		s := f.Source
		from = from || in(s.Principals, c.principal) && out(s.NotPrincipals, c.principal) && out(s.NotRequestPrincipals, c.token)
	}
	for _, t := range r.To {
		op := t.Operation
		to = to || in(op.Ports, c.port) && in(op.Methods, c.method) && in(op.Paths, c.path) && out(op.NotPorts, c.port) && out(op.NotPaths, c.path)
	}
	return from && to
}

// in is a field that has to match, if it is there at all.
func in(patterns []string, value string) bool {
	return patterns == nil || slices.ContainsFunc(patterns, func(p string) bool { return match(p, value) })
}

func out(patterns []string, value string) bool { return patterns == nil || !in(patterns, value) }

func match(pattern, value string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(value, prefix)
	}
	return pattern == value
}

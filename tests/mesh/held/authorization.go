package held

import (
	"fmt"
	"slices"
	"strings"

	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/contract"
	"github.com/meshmart/meshmart/tests/mesh/overlay"
)

// authorization is an AuthorizationPolicy, with the fields that ours have.
type authorization struct {
	Selector struct {
		MatchLabels map[string]string `json:"matchLabels"`
	} `json:"selector"`
	Action string `json:"action"`
	Rules  []rule `json:"rules"`
}

type rule struct {
	From []struct {
		Source source `json:"source"`
	} `json:"from"`
	To []struct {
		Operation operation `json:"operation"`
	} `json:"to"`
	When []condition `json:"when"`
}

type source struct {
	Principals           []string `json:"principals"`
	NotPrincipals        []string `json:"notPrincipals"`
	RequestPrincipals    []string `json:"requestPrincipals"`
	NotRequestPrincipals []string `json:"notRequestPrincipals"`
}

type operation struct {
	Ports    []string `json:"ports"`
	NotPorts []string `json:"notPorts"`
	Methods  []string `json:"methods"`
	Paths    []string `json:"paths"`
	NotPaths []string `json:"notPaths"`
}

type condition struct {
	Key       string   `json:"key"`
	Values    []string `json:"values"`
	NotValues []string `json:"notValues"`
}

type authorizations []authorization

func policies(objects []overlay.Object) (authorizations, error) {
	var all authorizations
	for _, o := range objects {
		if o["kind"] != "AuthorizationPolicy" {
			continue
		}
		var a authorization
		if err := strictly(o["spec"], &a); err != nil {
			return nil, fmt.Errorf("AuthorizationPolicy %s: %w", overlay.Text(o, "metadata", "name"), err)
		}
		for _, r := range a.Rules {
			for _, w := range r.When {
				if w.Key != rolesClaim {
					return nil, fmt.Errorf("AuthorizationPolicy %s: %q is not known here", overlay.Text(o, "metadata", "name"), w.Key)
				}
			}
		}
		all = append(all, a)
	}
	return all, nil
}

const rolesClaim = "request.auth.claims[roles]"

// request is a call as a policy sees it.
type request struct {
	principal, port, method, path string
	token                         string // ISSUER/SUBJECT, "" for none
	roles                         []string
}

// of tells who may call an RPC, and what token the call must bring.
func (all authorizations) of(s *contract.Shop, r *contract.RPC) (callers []string, access string) {
	labels := map[string]string{"app": r.Host, "version": "v1", "app.kubernetes.io/part-of": "meshmart"}
	for _, account := range append(s.Accounts(), outsiders...) {
		q := request{principal: s.Principal(account), port: fmt.Sprint(s.ServiceOf(r).Port), method: "POST", path: r.Path()}
		passes := func(token string, roles ...string) bool {
			q.token, q.roles = token, roles
			return all.pass(labels, q)
		}
		if !passes(s.Issuer+"/root", "user", "admin") {
			continue
		}
		callers = append(callers, account)
		switch {
		case passes("") && passes("somebody/ann") && passes(s.Issuer+"/ann", "user"):
			access = "anyone"
		case passes("") || passes("somebody/ann", "admin"):
			access = "it depends"
		case passes(s.Issuer+"/ann", "user"):
			access = "user"
		default:
			access = "admin"
		}
	}
	slices.Sort(callers)
	return callers, access
}

// pass is what the policies together decide for a pod with the labels.
func (all authorizations) pass(labels map[string]string, q request) bool {
	allows, allowed := false, false
	for _, a := range all {
		if !covers(a.Selector.MatchLabels, labels) {
			continue
		}
		matches := slices.ContainsFunc(a.Rules, func(r rule) bool { return r.matches(q) })
		if a.Action == "DENY" {
			if matches {
				return false
			}
			continue
		}
		allows, allowed = true, allowed || matches
	}
	return allowed || !allows
}

func covers(selector, labels map[string]string) bool {
	for k, v := range selector {
		if labels[k] != v {
			return false
		}
	}
	return true
}

func (r rule) matches(q request) bool {
	from, to := len(r.From) == 0, len(r.To) == 0
	for _, f := range r.From {
		s := f.Source
		from = from || in(s.Principals, q.principal) && out(s.NotPrincipals, q.principal) && in(s.RequestPrincipals, q.token) && out(s.NotRequestPrincipals, q.token)
	}
	for _, t := range r.To {
		o := t.Operation
		to = to || in(o.Ports, q.port) && out(o.NotPorts, q.port) && in(o.Methods, q.method) && in(o.Paths, q.path) && out(o.NotPaths, q.path)
	}
	for _, w := range r.When {
		is := func(v string) bool { return slices.Contains(q.roles, v) }
		if w.Values != nil && !slices.ContainsFunc(w.Values, is) || slices.ContainsFunc(w.NotValues, is) {
			return false
		}
	}
	return from && to
}

// in is a field that has to match where it is said.
func in(patterns []string, value string) bool {
	return patterns == nil || slices.ContainsFunc(patterns, func(p string) bool {
		if prefix, ok := strings.CutSuffix(p, "*"); ok {
			return strings.HasPrefix(value, prefix)
		}
		return p == value
	})
}

func out(patterns []string, value string) bool { return patterns == nil || !in(patterns, value) }

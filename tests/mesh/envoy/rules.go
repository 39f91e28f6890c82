package envoy

import (
	"fmt"
	"slices"
	"strings"

	rbac "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	matcher "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
)

// unknown is a rule that this package can't judge. It is raised as a panic, and
// Passes returns it.
type unknown struct{ rule any }

func (u unknown) Error() string { return fmt.Sprintf("a rule of a kind that is not known: %T", u.rule) }

// permitted reports whether any of the permissions takes the request.
func (q Request) permitted(all []*rbac.Permission) bool { return slices.ContainsFunc(all, q.permits) }

func (q Request) permits(p *rbac.Permission) bool {
	switch r := p.GetRule().(type) {
	case *rbac.Permission_Any:
		return r.Any
	case *rbac.Permission_AndRules:
		return !slices.ContainsFunc(r.AndRules.GetRules(), func(p *rbac.Permission) bool { return !q.permits(p) })
	case *rbac.Permission_OrRules:
		return q.permitted(r.OrRules.GetRules())
	case *rbac.Permission_NotRule:
		return !q.permits(r.NotRule)
	case *rbac.Permission_DestinationPort:
		return r.DestinationPort == q.Port
	case *rbac.Permission_UrlPath:
		return text(r.UrlPath.GetPath(), q.Path)
	case *rbac.Permission_Header:
		if r.Header.GetName() == ":method" {
			return text(r.Header.GetStringMatch(), q.Method)
		}
	}
	panic(unknown{p.GetRule()})
}

// from reports whether any of the principals is the request's.
func (q Request) from(all []*rbac.Principal) bool { return slices.ContainsFunc(all, q.is) }

func (q Request) is(p *rbac.Principal) bool {
	switch r := p.GetIdentifier().(type) {
	case *rbac.Principal_Any:
		return r.Any
	case *rbac.Principal_AndIds:
		return !slices.ContainsFunc(r.AndIds.GetIds(), func(p *rbac.Principal) bool { return !q.is(p) })
	case *rbac.Principal_OrIds:
		return q.from(r.OrIds.GetIds())
	case *rbac.Principal_NotId:
		return !q.is(r.NotId)
	case *rbac.Principal_Authenticated_:
		return q.Principal != "" && text(r.Authenticated.GetPrincipalName(), q.Principal)
	case *rbac.Principal_Metadata:
		//lint:ignore SA1019 it is what istiod sends
		return q.claims(r.Metadata)
	}
	panic(unknown{p.GetIdentifier()})
}

// claims reports whether the token's claims match.
func (q Request) claims(m *matcher.MetadataMatcher) bool {
	if m.GetFilter() != "envoy.filters.http.jwt_authn" || m.GetInvert() {
		panic(unknown{m})
	}
	var v any = map[string]any{"payload": q.Claims}
	for _, step := range m.GetPath() {
		fields, _ := v.(map[string]any)
		v = fields[step.GetKey()]
	}
	return value(m.GetValue(), v)
}

func value(m *matcher.ValueMatcher, v any) bool {
	switch r := m.GetMatchPattern().(type) {
	case *matcher.ValueMatcher_StringMatch:
		s, ok := v.(string)
		return ok && text(r.StringMatch, s)
	case *matcher.ValueMatcher_ListMatch:
		all, _ := v.([]any)
		return slices.ContainsFunc(all, func(v any) bool { return value(r.ListMatch.GetOneOf(), v) })
	case *matcher.ValueMatcher_OrMatch:
		return slices.ContainsFunc(r.OrMatch.GetValueMatchers(), func(m *matcher.ValueMatcher) bool { return value(m, v) })
	}
	panic(unknown{m.GetMatchPattern()})
}

func text(m *matcher.StringMatcher, s string) bool {
	switch r := m.GetMatchPattern().(type) {
	case *matcher.StringMatcher_Exact:
		return s == r.Exact
	case *matcher.StringMatcher_Prefix:
		return strings.HasPrefix(s, r.Prefix)
	case *matcher.StringMatcher_Suffix:
		return strings.HasSuffix(s, r.Suffix)
	case *matcher.StringMatcher_SafeRegex:
		if r.SafeRegex.GetRegex() == ".+" {
			return s != ""
		}
	}
	panic(unknown{m.GetMatchPattern()})
}

package envoy

import (
	"fmt"

	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	rbac "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	jwt "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/jwt_authn/v3"
	rbacfilter "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	tls "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/types/known/anypb"
)

// Door is what a sidecar has before one port of its service.
type Door struct {
	// Strict says that no call comes in without a certificate of the mesh.
	Strict bool
	// Issuers are those of tokens that it verifies, with what it asks of them.
	Issuers map[string]*jwt.JwtProvider
	rules   []*rbac.RBAC
}

// Inbound returns the door of a port.
func (v *View) Inbound(port uint32) (*Door, error) {
	d := &Door{Strict: true, Issuers: map[string]*jwt.JwtProvider{}}
	found := false
	for _, chain := range v.Listeners["virtualInbound"].GetFilterChains() {
		if chain.GetFilterChainMatch().GetDestinationPort().GetValue() != port {
			continue
		}
		m := manager(chain)
		if m == nil {
			return nil, fmt.Errorf("port %d: a filter chain that does not read HTTP", port)
		}
		d.Strict = d.Strict && mutual(chain)
		for _, f := range m.GetHttpFilters() {
			if err := d.filter(f.GetTypedConfig()); err != nil {
				return nil, err
			}
		}
		found = true
	}
	if !found {
		return nil, fmt.Errorf("port %d: nothing listens", port)
	}
	return d, nil
}

func mutual(chain *listener.FilterChain) bool {
	t := &tls.DownstreamTlsContext{}
	return chain.GetTransportSocket().GetTypedConfig().UnmarshalTo(t) == nil && t.GetRequireClientCertificate().GetValue()
}

func (d *Door) filter(config *anypb.Any) error {
	j, r := &jwt.JwtAuthentication{}, &rbacfilter.RBAC{}
	switch {
	case config.MessageIs(j):
		if err := config.UnmarshalTo(j); err != nil {
			return err
		}
		for _, p := range j.GetProviders() {
			d.Issuers[p.GetIssuer()] = p
		}
	case config.MessageIs(r):
		if err := config.UnmarshalTo(r); err != nil {
			return err
		}
		d.rules = append(d.rules, r.GetRules())
	}
	return nil
}

// Request is a call as it comes in.
type Request struct {
	// Principal is the caller's SPIFFE id.
	Principal string
	Port      uint32
	Method    string // of HTTP
	Path      string
	// Claims are those of a token that was verified; nil for none.
	Claims map[string]any
}

// Passes reports whether the door lets a request in.
func (d *Door) Passes(q Request) (pass bool, err error) {
	defer func() { // raised where a rule is of a kind that is not known here
		if e, ok := recover().(unknown); ok {
			err = e
		}
	}()
	for _, r := range d.rules {
		matched := false
		for _, p := range r.GetPolicies() {
			matched = matched || q.permitted(p.GetPermissions()) && q.from(p.GetPrincipals())
		}
		if matched != (r.GetAction() == rbac.RBAC_ALLOW) {
			return false, nil
		}
	}
	return true, nil
}

package held

import (
	"slices"

	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/contract"
	"github.com/meshmart/meshmart/tests/mesh/overlay"
)

// Network reads from NetworkPolicies who reaches the port of each service: the
// callers of all its RPCs together, as no more can be said of them.
func Network(s *contract.Shop, objects []overlay.Object) (map[string][]string, error) {
	var all []networkPolicy
	for _, o := range objects {
		if o["kind"] != "NetworkPolicy" {
			continue
		}
		var p networkPolicy
		if err := strictly(o["spec"], &p); err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	found := map[string][]string{}
	for _, svc := range s.Services {
		for _, account := range append(s.Accounts(), outsiders...) {
			if account != svc.Host && reaches(all, labels(account), labels(svc.Host), svc.Port) {
				found[svc.Host] = append(found[svc.Host], account)
			}
		}
		slices.Sort(found[svc.Host])
	}
	return found, nil
}

func labels(app string) map[string]string {
	return map[string]string{"app": app, "version": "v1", "app.kubernetes.io/part-of": "meshmart"}
}

type selector struct {
	MatchLabels map[string]string `json:"matchLabels"`
}

type networkPolicy struct {
	PodSelector selector      `json:"podSelector"`
	PolicyTypes []string      `json:"policyTypes"`
	Ingress     []networkRule `json:"ingress"`
	Egress      []networkRule `json:"egress"`
}

type networkRule struct {
	From  []networkPeer `json:"from"`
	To    []networkPeer `json:"to"`
	Ports []struct {
		Protocol string `json:"protocol"`
		Port     uint32 `json:"port"`
	} `json:"ports"`
}

type networkPeer struct {
	PodSelector       *selector `json:"podSelector"`
	NamespaceSelector *selector `json:"namespaceSelector"`
	IPBlock           *struct {
		CIDR string `json:"cidr"`
	} `json:"ipBlock"`
}

// reaches reports whether both ends let a connection be, within the namespace.
func reaches(all []networkPolicy, from, to map[string]string, port uint32) bool {
	return open(all, "Egress", from, to, port) && open(all, "Ingress", to, from, port)
}

// open reports whether the policies of one end name the other. No policy for an
// end leaves it open.
func open(all []networkPolicy, direction string, own, other map[string]string, port uint32) bool {
	bound := false
	for _, p := range all {
		if !covers(p.PodSelector.MatchLabels, own) || !slices.Contains(p.PolicyTypes, direction) {
			continue
		}
		bound = true
		rules := p.Ingress
		if direction == "Egress" {
			rules = p.Egress
		}
		if slices.ContainsFunc(rules, func(r networkRule) bool { return r.takes(other, port) }) {
			return true
		}
	}
	return !bound
}

func (r networkRule) takes(other map[string]string, port uint32) bool {
	named := len(r.Ports) == 0
	for _, p := range r.Ports {
		named = named || p.Port == port
	}
	peers := append(slices.Clone(r.From), r.To...)
	return named && (len(peers) == 0 || slices.ContainsFunc(peers, func(p networkPeer) bool {
		return p.PodSelector != nil && p.NamespaceSelector == nil && covers(p.PodSelector.MatchLabels, other)
	}))
}

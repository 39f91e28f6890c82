package references

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/meshmart/meshmart/tests/mesh/overlay"
)

// everywhere checks all that a spec names, by the names of its fields: they mean
// the same in all kinds that meshes have.
func (c *checker) everywhere(v any) {
	switch v := v.(type) {
	case []any:
		for _, item := range v {
			if !elsewhere(item) {
				c.everywhere(item)
			}
		}
	case Object:
		for field, inner := range v {
			c.field(field, inner)
			c.everywhere(inner)
		}
	}
}

// elsewhere reports whether a peer is in another namespace, of which nothing is
// known here.
func elsewhere(v any) bool {
	peer, _ := v.(Object)
	return peer["namespaceSelector"] != nil
}

func (c *checker) field(name string, v any) {
	o, _ := v.(Object)
	switch name {
	case "matchLabels", "labels":
		if c.at["kind"] != "DestinationRule" && c.at["kind"] != "Gateway" {
			c.pod(overlay.Strings(Object{"l": o}, "l"))
		}
	case "podSelector":
		if o["matchLabels"] == nil && o["matchExpressions"] == nil && len(o) > 0 {
			c.pod(overlay.Strings(Object{"l": o}, "l"))
		}
	case "selector":
		if c.at["kind"] == "Gateway" {
			c.pod(overlay.Strings(Object{"l": o}, "l"))
		}
	case "destination":
		c.destination(o)
	case "host":
		if c.at["kind"] == "DestinationRule" {
			c.host(fmt.Sprint(v), 0)
		}
	case "hosts":
		c.hosts(strs(v))
	case "gateways":
		for _, g := range strs(v) {
			c.object("Gateway", g)
		}
	case "principals", "notPrincipals", "serviceAccounts":
		for _, p := range strs(v) {
			c.account(p)
		}
	case "ports":
		for _, p := range strs(v) {
			c.port(p)
		}
	case "credentialName":
		c.object("Secret", fmt.Sprint(v))
	case "targetRef":
		c.reference(o)
	case "parentRefs", "backendRefs", "targetRefs", "requiredAuthenticationRefs", "identityRefs":
		for _, r := range overlay.List(Object{"r": v}, "r") {
			c.reference(r)
		}
	case "identities":
		for _, id := range strs(v) {
			c.identity(id)
		}
	}
}

// pod checks that something has the labels.
func (c *checker) pod(labels map[string]string) {
	if labels["app.kubernetes.io/name"] == "prometheus" {
		return // wherever it is
	}
	if len(c.templates(labels)) == 0 {
		c.missing("no pods with %v", labels)
	}
}

func (c *checker) destination(o Object) {
	host := overlay.Text(o, "host")
	port, _ := overlay.Get(o, "port", "number").(int64)
	c.host(host, port)
	subset := overlay.Text(o, "subset")
	if subset == "" {
		return
	}
	for _, rule := range c.objects {
		if rule["kind"] == "DestinationRule" && overlay.Text(rule, "spec", "host") == host &&
			slices.ContainsFunc(overlay.List(rule, "spec", "subsets"), func(s Object) bool { return s["name"] == subset }) {
			return
		}
	}
	c.missing("no subset %s of %s", subset, host)
}

func (c *checker) hosts(names []string) {
	for _, n := range names {
		if n != "*" && n != "~/*" {
			c.host(n, 0)
		}
	}
}

// account checks an identity as Istio writes it: TRUST/ns/NAMESPACE/sa/NAME.
func (c *checker) account(p string) {
	part := strings.Split(p, "/")
	switch {
	case p == "*": // whoever has one
	case len(part) == 5 && part[1] == "ns" && part[3] == "sa" && part[2] == c.namespace():
		if part[4] != "*" {
			c.object("ServiceAccount", part[4])
		}
	case len(part) == 2 && part[0] == c.namespace():
		c.object("ServiceAccount", part[1])
	default:
		c.missing("%q is no account of the namespace", p)
	}
}

// identity checks one as Linkerd writes it: NAME.NAMESPACE.serviceaccount...
func (c *checker) identity(id string) {
	part := strings.Split(id, ".")
	if len(part) < 3 || part[1] != c.namespace() || part[2] != "serviceaccount" {
		if !strings.HasPrefix(id, "*") {
			c.missing("%q is no account of the namespace", id)
		}
		return
	}
	c.object("ServiceAccount", part[0])
}

// port checks that some pod or Gateway listens there.
func (c *checker) port(p string) {
	for _, o := range c.objects {
		if t, _ := overlay.Get(o, "spec", "template").(Object); t != nil && listens(t, p) {
			return
		}
		for _, l := range overlay.List(o, "spec", "listeners") { // of a Gateway, to which HTTPS may be added
			if port := fmt.Sprint(l["port"]); port == p || port == "80" && p == "443" {
				return
			}
		}
	}
	c.missing("nothing listens on port %s", p)
}

// reference checks one of Gateway API's references to objects.
func (c *checker) reference(r Object) {
	kind, name := overlay.Text(r, "kind"), overlay.Text(r, "name")
	if kind == "" {
		kind = "Service"
		if overlay.Text(c.at, "apiVersion") == "gateway.networking.k8s.io/v1" && r["weight"] == nil && r["port"] == nil {
			kind = "Gateway"
		}
	}
	if ns := overlay.Text(r, "namespace"); ns != "" && ns != c.namespace() {
		return
	}
	if kind == "Namespace" || strings.HasSuffix(kind, "Class") {
		return
	}
	port, _ := r["port"].(int64)
	if kind == "Service" {
		c.host(name, port)
		return
	}
	c.object(kind, name)
}

// strs are the strings of a list; numbers are written as such.
func strs(v any) []string {
	all, _ := v.([]any)
	var out []string
	for _, item := range all {
		switch item := item.(type) {
		case string:
			out = append(out, item)
		case int64:
			out = append(out, strconv.FormatInt(item, 10))
		}
	}
	return out
}

// Package references tells what objects name that is not there: a host, a port, a
// subset, a pod, an account, a Secret or ConfigMap and its keys.
package references

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/meshmart/meshmart/tests/mesh/overlay"
)

// Object is a Kubernetes object.
type Object = overlay.Object

// checker has what there is, and what is missing so far.
type checker struct {
	objects  []Object
	outside  []string
	problems []string
	at       Object // whose references are being checked
}

// Check returns what is missing, each once. outside are names that a cluster
// brings along or the user makes by hand.
func Check(objects []Object, outside ...string) []string {
	c := &checker{objects: objects, outside: outside}
	for _, o := range objects {
		c.at = o
		c.check()
	}
	slices.Sort(c.problems)
	return slices.Compact(c.problems)
}

func (c *checker) check() {
	switch kind := c.at["kind"].(string); kind {
	case "Deployment", "StatefulSet":
		c.pods(overlay.Get(c.at, "spec", "template", "spec").(Object))
		if !selects(overlay.Strings(c.at, "spec", "selector", "matchLabels"), overlay.Strings(c.at, "spec", "template", "metadata", "labels")) {
			c.missing("its selector does not take its own pods")
		}
	case "Service":
		c.service()
	case "HorizontalPodAutoscaler":
		c.object(overlay.Text(c.at, "spec", "scaleTargetRef", "kind"), overlay.Text(c.at, "spec", "scaleTargetRef", "name"))
	case "RoleBinding":
		c.object(overlay.Text(c.at, "roleRef", "kind"), overlay.Text(c.at, "roleRef", "name"))
		for _, s := range overlay.List(c.at, "subjects") {
			c.object(overlay.Text(s, "kind"), overlay.Text(s, "name"))
		}
	default:
		c.everywhere(overlay.Get(c.at, "spec"))
	}
	if c.at["kind"] == "RequestAuthentication" {
		for _, r := range overlay.List(c.at, "spec", "jwtRules") {
			c.url(overlay.Text(r, "jwksUri"))
		}
	}
}

func (c *checker) missing(format string, args ...any) {
	text := fmt.Sprintf("%s %s: ", c.at["kind"], overlay.Text(c.at, "metadata", "name")) + fmt.Sprintf(format, args...)
	if !slices.ContainsFunc(c.outside, func(name string) bool { return strings.Contains(text, name) }) {
		c.problems = append(c.problems, text)
	}
}

// find returns the object of a kind, nil if there is none.
func (c *checker) find(kind, name string) Object {
	i := slices.IndexFunc(c.objects, func(o Object) bool { return o["kind"] == kind && overlay.Text(o, "metadata", "name") == name })
	if i < 0 {
		return nil
	}
	return c.objects[i]
}

func (c *checker) object(kind, name string) Object {
	o := c.find(kind, name)
	if o == nil && (kind != "ServiceAccount" || !c.madeFor(name)) {
		c.missing("no %s %s", kind, name)
	}
	return o
}

// madeFor reports whether Istio makes the account, for a Gateway that it runs.
func (c *checker) madeFor(account string) bool {
	return slices.ContainsFunc(c.objects, func(o Object) bool {
		class := overlay.Text(o, "spec", "gatewayClassName")
		named := overlay.Strings(o, "metadata", "annotations")["gateway.istio.io/service-account"]
		if named == "" && class == "istio-waypoint" {
			named = overlay.Text(o, "metadata", "name")
		}
		return class != "" && named == account
	})
}

// pods checks the template of pods.
func (c *checker) pods(spec Object) {
	if name := overlay.Text(spec, "serviceAccountName"); name != "" {
		c.object("ServiceAccount", name)
	}
	for _, container := range append(overlay.List(spec, "containers"), overlay.List(spec, "initContainers")...) {
		for _, from := range overlay.List(container, "envFrom") {
			c.keys(from, "configMapRef", "ConfigMap", "")
			c.keys(from, "secretRef", "Secret", "")
		}
		for _, env := range overlay.List(container, "env") {
			from, _ := env["valueFrom"].(Object)
			c.keys(from, "configMapKeyRef", "ConfigMap", overlay.Text(from, "configMapKeyRef", "key"))
			c.keys(from, "secretKeyRef", "Secret", overlay.Text(from, "secretKeyRef", "key"))
		}
	}
	for _, v := range overlay.List(spec, "volumes") {
		if name := overlay.Text(v, "configMap", "name"); name != "" {
			c.object("ConfigMap", name)
		}
		if name := overlay.Text(v, "secret", "secretName"); name != "" && overlay.Get(v, "secret", "optional") != true {
			c.object("Secret", name)
		}
	}
}

// keys checks a reference to a ConfigMap or a Secret, and to a key of it.
func (c *checker) keys(from Object, field, kind, key string) {
	ref, _ := from[field].(Object)
	if ref == nil || ref["optional"] == true {
		return
	}
	o := c.object(kind, overlay.Text(ref, "name"))
	if o == nil || key == "" {
		return
	}
	for _, data := range []string{"data", "stringData"} {
		if m, _ := o[data].(Object); m[key] != nil {
			return
		}
	}
	c.missing("no key %s in %s %s", key, kind, overlay.Text(ref, "name"))
}

// service checks that there are pods, with its ports.
func (c *checker) service() {
	if overlay.Text(c.at, "spec", "type") == "ExternalName" {
		return // its pods are somewhere else
	}
	selector := overlay.Strings(c.at, "spec", "selector")
	templates := c.templates(selector)
	if len(templates) == 0 {
		c.missing("no pods with %v", selector)
	}
	for _, p := range overlay.List(c.at, "spec", "ports") {
		want := p["targetPort"]
		if want == nil {
			want = p["port"]
		}
		for _, t := range templates {
			if !listens(t, fmt.Sprint(want)) {
				c.missing("port %v is none of its pods'", want)
			}
		}
	}
}

// templates are those of the pods that a selector takes.
func (c *checker) templates(selector map[string]string) []Object {
	var out []Object
	for _, o := range c.objects {
		t, _ := overlay.Get(o, "spec", "template").(Object)
		if t != nil && selects(selector, overlay.Strings(t, "metadata", "labels")) {
			out = append(out, t)
		}
	}
	return out
}

func selects(selector, labels map[string]string) bool {
	for k, v := range selector {
		if labels[k] != v {
			return false
		}
	}
	return true
}

// listens reports whether a pod has the port, by number or name.
func listens(template Object, port string) bool {
	for _, container := range overlay.List(template, "spec", "containers") {
		for _, p := range overlay.List(container, "ports") {
			if port == fmt.Sprint(p["containerPort"]) || port == overlay.Text(p, "name") {
				return true
			}
		}
	}
	return false
}

// host checks a name of a Service, and a port of it, 0 for any.
func (c *checker) host(name string, port int64) {
	short, rest, _ := strings.Cut(strings.TrimPrefix(name, "./"), ".")
	if namespace, _, _ := strings.Cut(rest, "."); rest != "" && namespace != c.namespace() {
		c.missing("the host %s is of another namespace", name)
		return
	}
	s := c.find("Service", short)
	if s == nil {
		c.missing("no Service for the host %s", name)
		return
	}
	if port != 0 && !slices.ContainsFunc(overlay.List(s, "spec", "ports"), func(p Object) bool { return p["port"] == port }) {
		c.missing("the host %s has no port %d", name, port)
	}
}

func (c *checker) namespace() string { return overlay.Text(c.at, "metadata", "namespace") }

// url checks a URL of a Service.
func (c *checker) url(u string) {
	_, rest, _ := strings.Cut(u, "://")
	authority, _, _ := strings.Cut(rest, "/")
	name, text, _ := strings.Cut(authority, ":")
	port, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		c.missing("no port in %s", u)
		return
	}
	c.host(name, port)
}

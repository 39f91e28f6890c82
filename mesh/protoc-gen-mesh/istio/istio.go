// Package istio writes the manifests for Istio with sidecars. They are in two
// folders: mesh/istio/policy is what both Envoy and proxyless gRPC execute, so
// that mesh/proxyless can use it as it is; mesh/istio/sidecar is what only
// Envoy does.
package istio

import (
	"embed"
	"slices"
	"strings"
	"text/template"

	"google.golang.org/grpc/codes"

	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/contract"
	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/target"
)

//go:embed *.tmpl
var folder embed.FS

// Target is Istio with sidecars.
func Target() target.Target {
	return target.Target{Name: "istio", Version: "Istio 1.31, sidecars", Files: files, Losses: losses}
}

// HealthPaths are the RPCs of gRPC's own health service.
var HealthPaths = []string{"/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/List", "/grpc.health.v1.Health/Watch"}

// page is what a template is given; what it has no use for is not set.
type page struct {
	Shop    *contract.Shop
	Account string
	// Service is nil for the edge, which has no contract of its own.
	Service   *contract.Service
	Callees   []callee
	Tokens    bool
	Doors     []Door
	Resources []string
}

// Reaches reports whether there is anything that the account may call.
func (p page) Reaches() bool { return len(p.Callees)+len(p.Shop.BackendsOf(p.Account)) > 0 }

// callee is a service that an account may call, and which contracts say so.
type callee struct{ Host, Because string }

func files(s *contract.Shop) ([]target.File, error) {
	w := writer{shop: s, templates: templates()}
	w.render("namespace.yaml.tmpl", "policy/namespace.yaml", page{})
	for _, svc := range s.Services {
		w.render("policy.yaml.tmpl", "policy/"+svc.Host+".yaml", page{Service: svc})
	}
	w.list("policy")
	w.render("sidecars.yaml.tmpl", "sidecar/namespace.yaml", page{})
	w.render("edge.yaml.tmpl", "sidecar/ingress.yaml", page{Doors: Doors(s)})
	w.render("backends.yaml.tmpl", "sidecar/backends.yaml", page{})
	for _, account := range s.Accounts() {
		w.sidecar(account)
	}
	w.list("sidecar")
	return w.files, w.err
}

// writer keeps the files so far, and the first error.
type writer struct {
	shop      *contract.Shop
	templates *template.Template
	files     []target.File
	err       error
}

func (w *writer) render(name, path string, p page) {
	if w.err != nil {
		return
	}
	p.Shop = w.shop
	var f target.File
	f, w.err = target.Render(w.templates, name, "mesh/istio/"+path, p)
	w.files = append(w.files, f)
}

// list writes the kustomization of what is in the folder so far.
func (w *writer) list(dir string) {
	var names []string
	for _, f := range w.files {
		if name, ok := strings.CutPrefix(f.Path, "mesh/istio/"+dir+"/"); ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	w.render("kustomization.yaml.tmpl", dir+"/kustomization.yaml", page{Resources: names})
}

func (w *writer) sidecar(account string) {
	p := page{Account: account, Service: w.shop.Service(account)}
	p.Tokens = account == w.shop.Edge.Host || p.Service != nil && len(p.Service.WithToken()) > 0
	for _, svc := range w.shop.Callees(account) {
		p.Callees = append(p.Callees, callee{svc.Host, target.Names(svc.For(account))})
	}
	w.render("sidecar.yaml.tmpl", "sidecar/"+account+".yaml", p)
}

func templates() *template.Template {
	return target.Templates(folder, template.FuncMap{
		"principals":  Principals,
		"retryOn":     RetryOn,
		"healthPaths": func() []string { return HealthPaths },
		"health":      func() string { return "[" + strings.Join(HealthPaths, ", ") + "]" },
	})
}

// Principals writes the identities of service accounts as a list in YAML.
func Principals(s *contract.Shop, accounts []string) string {
	names := make([]string, len(accounts))
	for i, a := range accounts {
		names[i] = s.Principal(a)
	}
	return "[" + strings.Join(names, ", ") + "]"
}

// RetryOn writes the codes as Envoy calls them. The contract allows no others.
//
// A client reads UNAVAILABLE, too, where there was no answer at all: no
// connection, a stream refused or reset, or an attempt that took longer than
// perTryTimeout. Envoy has names of its own for these; without "reset" a
// perTryTimeout would end the call in place of repeating it.
func RetryOn(r *contract.Retry) string {
	var names []string
	for _, c := range r.On {
		switch c {
		case codes.Unavailable:
			names = append(names, "unavailable", "connect-failure", "refused-stream", "reset")
		case codes.DeadlineExceeded:
			names = append(names, "deadline-exceeded")
		case codes.Internal:
			names = append(names, "internal")
		}
	}
	return strings.Join(names, ",")
}

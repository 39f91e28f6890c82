// Package istio writes the manifests for Istio with sidecars. They are in two
// folders: mesh/istio/policy is what both Envoy and proxyless gRPC execute, so
// that mesh/proxyless can use it as it is; mesh/istio/sidecar is what only
// Envoy does.
package istio

import (
	"embed"
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
	Service *contract.Service
	Callees []callee
	Tokens  bool
	Doors   []Door
}

// Reaches reports whether there is anything that the account may call.
func (p page) Reaches() bool { return len(p.Callees)+len(p.Shop.BackendsOf(p.Account)) > 0 }

// callee is a service that an account may call, and which contracts say so.
type callee struct{ Host, Because string }

func files(s *contract.Shop) ([]target.File, error) {
	f := target.Folder{Path: "mesh/istio", Templates: templates()}
	f.Render("namespace.yaml.tmpl", "policy/namespace.yaml", page{Shop: s})
	for _, svc := range s.Services {
		f.Render("policy.yaml.tmpl", "policy/"+svc.Host+".yaml", page{Shop: s, Service: svc})
	}
	f.List("policy")
	f.Render("sidecars.yaml.tmpl", "sidecar/namespace.yaml", page{Shop: s})
	f.Render("edge.yaml.tmpl", "sidecar/ingress.yaml", page{Shop: s, Doors: Doors(s)})
	f.Render("backends.yaml.tmpl", "sidecar/backends.yaml", page{Shop: s})
	for _, account := range s.Accounts() {
		f.Render("sidecar.yaml.tmpl", "sidecar/"+account+".yaml", sidecar(s, account))
	}
	f.List("sidecar")
	return f.Files()
}

func sidecar(s *contract.Shop, account string) page {
	p := page{Shop: s, Account: account, Service: s.Service(account)}
	p.Tokens = account == s.Edge.Host || p.Service != nil && len(p.Service.WithToken()) > 0
	for _, svc := range s.Callees(account) {
		p.Callees = append(p.Callees, callee{svc.Host, target.Names(svc.For(account))})
	}
	return p
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

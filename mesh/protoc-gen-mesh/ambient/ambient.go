// Package ambient writes the manifests for Istio without sidecars: what ztunnel
// holds, which sees identities and ports, and what a waypoint holds, an Envoy
// before the services, which sees calls.
//
// Routes are written twice. mesh/ambient/routes is Gateway API, for which ambient
// is made; mesh/ambient/virtualservice is the same in Istio's own API, which says
// retries exactly. An overlay has one of them: which counts where a service has
// both is not defined.
package ambient

import (
	"embed"
	"fmt"
	"strings"
	"text/template"

	"google.golang.org/grpc/codes"

	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/contract"
	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/istio"
	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/target"
)

//go:embed *.tmpl
var folder embed.FS

// Target is Istio's ambient mode.
func Target() target.Target {
	return target.Target{Name: "ambient", Version: "Istio 1.31, ambient, with Gateway API 1.6's standard channel", Files: files, Losses: losses}
}

// page is what a template is given; what it has no use for is not set.
type page struct {
	Shop    *contract.Shop
	Account string
	// Service is nil for the edge, which has no contract of its own.
	Service *contract.Service
	Doors   []istio.Door
}

func files(s *contract.Shop) ([]target.File, error) {
	f := target.Folder{Path: "mesh/ambient", Templates: templates()}
	f.Render("ztunnel.yaml.tmpl", "ztunnel/namespace.yaml", page{Shop: s})
	f.Render("backends.yaml.tmpl", "ztunnel/backends.yaml", page{Shop: s})
	for _, account := range s.Accounts() {
		f.Render("account.yaml.tmpl", "ztunnel/"+account+".yaml", page{Shop: s, Account: account, Service: s.Service(account)})
	}
	f.List("ztunnel")
	f.Render("waypoint.yaml.tmpl", "waypoint/namespace.yaml", page{Shop: s})
	f.Render("edge.yaml.tmpl", "waypoint/edge.yaml", page{Shop: s, Doors: istio.Doors(s)})
	for _, svc := range s.Services {
		f.Render("policy.yaml.tmpl", "waypoint/"+svc.Host+".yaml", page{Shop: s, Service: svc})
	}
	f.List("waypoint")
	for _, dir := range []string{"routes", "virtualservice"} {
		for _, svc := range s.Services {
			f.Render(dir+".yaml.tmpl", dir+"/"+svc.Host+".yaml", page{Shop: s, Service: svc})
		}
		f.List(dir)
	}
	return f.Files()
}

func templates() *template.Template {
	return target.Templates(folder, template.FuncMap{
		"principals":  istio.Principals,
		"retryOn":     istio.RetryOn,
		"headers":     headers,
		"healthPaths": func() []string { return istio.HealthPaths },
		"health":      func() string { return "[" + strings.Join(istio.HealthPaths, ", ") + "]" },
	})
}

type header struct{ Name, Value string }

// headers are how a route of Gateway API says retries to Envoy, which puts them
// before those that istiod gives every route: two, on CANCELLED too. The number
// counts in place of istiod's; the conditions are added to it.
func headers(r *contract.Retry) []header {
	if r == nil {
		return []header{{"x-envoy-max-retries", "0"}}
	}
	hs := []header{{"x-envoy-max-retries", fmt.Sprint(r.Attempts)}, {"x-envoy-retry-on", "reset"}}
	var names []string
	for _, c := range r.On {
		names = append(names, map[codes.Code]string{
			codes.Unavailable: "unavailable", codes.DeadlineExceeded: "deadline-exceeded", codes.Internal: "internal",
		}[c])
	}
	return append(hs, header{"x-envoy-retry-grpc-on", strings.Join(names, ",")})
}

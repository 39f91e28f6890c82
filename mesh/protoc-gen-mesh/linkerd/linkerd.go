// Package linkerd writes the manifests for Linkerd. How a service is called is in
// GRPCRoutes of the Service, one for each policy, which the caller's proxy holds;
// who may call is in HTTPRoutes of the Server, one for each set of callers, which
// the service's own proxy holds. These are HTTPRoutes as Linkerd bounds the rate of
// a Server that is HTTP/2, and not of one that is gRPC.
//
// Linkerd reads Gateway API 1.2.1: a route with a newer field would count for
// nothing. There is no ServiceProfile: it would switch the routes off.
package linkerd

import (
	"embed"
	"fmt"
	"slices"
	"strings"
	"text/template"

	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	meshpb "github.com/meshmart/meshmart/proto/mesh/v1"

	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/contract"
	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/target"
)

//go:embed *.tmpl
var folder embed.FS

// Target is Linkerd.
func Target() target.Target {
	return target.Target{Name: "linkerd", Version: "Linkerd 2.20, with Gateway API 1.2.1", Files: files, Losses: losses}
}

// page is what a template is given; what it has no use for is not set.
type page struct {
	Shop    *contract.Shop
	Service *contract.Service
	Classes []class
	Ways    []way
	// Total is how many calls a second a replica takes, of all RPCs; 0 for no bound.
	Total int64
}

func files(s *contract.Shop) ([]target.File, error) {
	f := target.Folder{Path: "mesh/linkerd", Templates: templates()}
	f.Render("namespace.yaml.tmpl", "policy/namespace.yaml", page{Shop: s})
	f.Render("backends.yaml.tmpl", "policy/backends.yaml", page{Shop: s})
	for _, svc := range s.Services {
		f.Render("service.yaml.tmpl", "policy/"+svc.Host+".yaml", page{Shop: s, Service: svc, Classes: classes(svc), Ways: ways(svc), Total: total(svc)})
	}
	f.List("policy")
	return f.Files()
}

func templates() *template.Template {
	return target.Templates(folder, template.FuncMap{
		"retryOn": retryOn,
	})
}

// class is the RPCs of a service with the same timeout and retry: as many as one
// route can say the policy of.
type class struct {
	// Name says the policy: "1s-2x300ms-unavailable".
	Name string
	// RPCs are never empty; the policy is that of the first.
	RPCs []*contract.RPC
}

// Policy is an RPC that has the policy of all of the class.
func (c class) Policy() *contract.RPC { return c.RPCs[0] }

func classes(svc *contract.Service) []class {
	var all []class
	for _, r := range svc.RPCs {
		name := policyName(r)
		i := slices.IndexFunc(all, func(c class) bool { return c.Name == name })
		if i < 0 {
			i, all = len(all), append(all, class{Name: name})
		}
		all[i].RPCs = append(all[i].RPCs, r)
	}
	return all
}

func policyName(r *contract.RPC) string {
	name := "open"
	if r.Timeout > 0 {
		name = target.Duration(r.Timeout)
	}
	if r.Retry == nil {
		return name + "-once"
	}
	return fmt.Sprintf("%s-%dx%s-%s", name, r.Retry.Attempts, target.Duration(r.Retry.PerTry), strings.ReplaceAll(retryOn(r.Retry), ",", "-"))
}

// way is RPCs of a service that the same may call.
type way struct {
	Name string
	// RPCs have contracts; Health are the paths of those that have none.
	RPCs   []*contract.RPC
	Health []string
	// Callers are service accounts; nil for a kubelet, which is none.
	Callers []string
}

func ways(svc *contract.Service) []way {
	var all []way
	for _, g := range svc.ByCallers() {
		all = append(all, way{Name: svc.Host + "-from-" + strings.Join(g.Callers, "-"), RPCs: g.RPCs, Callers: g.Callers})
	}
	return append(all,
		way{Name: svc.Host + "-health", Health: []string{healthpb.Health_List_FullMethodName, healthpb.Health_Watch_FullMethodName}, Callers: svc.Callers()},
		way{Name: svc.Host + "-probes", Health: []string{healthpb.Health_Check_FullMethodName}},
	)
}

// retryOn writes the codes as Linkerd calls them. The contract allows no others.
func retryOn(r *contract.Retry) string {
	var names []string
	for _, c := range r.On {
		names = append(names, map[codes.Code]string{
			codes.Unavailable: "unavailable", codes.DeadlineExceeded: "deadline-exceeded", codes.Internal: "internal",
		}[c])
	}
	return strings.Join(names, ",")
}

// total is what a replica takes at the most when each RPC has its own rate or
// burst, so that Linkerd refuses nothing that the process would take. It is 0 where
// an RPC is not bounded for all callers together: then no number is right.
func total(svc *contract.Service) int64 {
	var sum float64
	for _, r := range svc.RPCs {
		if !bounded(r) {
			return 0
		}
		sum += max(r.Rate.GetPerSecond(), float64(r.Rate.GetBurst()))
	}
	return int64(sum)
}

func bounded(r *contract.RPC) bool {
	return r.Rate != nil && r.Rate.GetKey() != meshpb.RateKey_RATE_KEY_CALLER
}

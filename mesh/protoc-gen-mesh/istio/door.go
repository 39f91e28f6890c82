package istio

import (
	"strings"

	meshpb "github.com/meshmart/meshmart/proto/mesh/v1"

	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/contract"
)

// Door is a public route that asks for a token.
type Door struct {
	RPC   *contract.RPC
	Route contract.Route
}

// Pattern is the route as an AuthorizationPolicy writes it: a path, or how it
// begins.
func (d Door) Pattern() string {
	path, _, variable := strings.Cut(d.Route.Path, "{")
	if variable {
		return path + "*"
	}
	return path
}

// covers reports whether the pattern takes in another route, too.
func (d Door) covers(r contract.Route) bool {
	if r.Verb != d.Route.Verb {
		return false
	}
	prefix, variable := strings.CutSuffix(d.Pattern(), "*")
	if !variable {
		return r.Path == prefix
	}
	fixed, _, open := strings.Cut(r.Path, "{")
	return strings.HasPrefix(fixed, prefix) || open && strings.HasPrefix(prefix, fixed)
}

// Doors are the routes at which the edge can ask for a token: those whose
// pattern takes in no route that is open to everyone.
func Doors(s *contract.Shop) []Door {
	ds, _ := sorted(s)
	return ds
}

// Unguarded are the RPCs with a route at which only the service can ask.
func Unguarded(s *contract.Shop) []*contract.RPC {
	_, rest := sorted(s)
	return rest
}

func sorted(s *contract.Shop) (guarded []Door, rest []*contract.RPC) {
	rest = []*contract.RPC{}
	for _, r := range s.RPCs() {
		if !r.NeedsToken() {
			continue
		}
		for _, route := range r.Routes {
			if d := (Door{r, route}); d.coversPublic(s) {
				rest = append(rest, r)
			} else {
				guarded = append(guarded, d)
			}
		}
	}
	return guarded, rest
}

func (d Door) coversPublic(s *contract.Shop) bool {
	for _, r := range s.RPCs() {
		if r.Access != meshpb.Access_ACCESS_PUBLIC {
			continue
		}
		for _, route := range r.Routes {
			if d.covers(route) {
				return true
			}
		}
	}
	return false
}

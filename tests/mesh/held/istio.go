package held

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/contract"
	"github.com/meshmart/meshmart/tests/mesh/overlay"
)

// outsiders are accounts that no contract names, and that nothing lets in.
var outsiders = []string{"ingress", "default", "stranger"}

// Istio reads from manifests for Istio what a sidecar holds of every RPC.
func Istio(s *contract.Shop, objects []overlay.Object) (map[string]Policy, error) {
	doors, err := policies(objects)
	if err != nil {
		return nil, err
	}
	routes, err := virtuals(objects)
	if err != nil {
		return nil, err
	}
	all := map[string]Policy{}
	for _, r := range s.RPCs() {
		p, err := virtual(s, r, routes[s.FQDN(r.Host)])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", r.FullName(), err)
		}
		p.Callers, p.Access = doors.of(s, r)
		all[r.Path()] = p
	}
	return all, nil
}

// httpRoute is a route of a VirtualService, with the fields that ours have.
type httpRoute struct {
	Name    string  `json:"name"`
	Match   []match `json:"match"`
	Timeout string  `json:"timeout"`
	Retries *struct {
		Attempts      int    `json:"attempts"`
		PerTryTimeout string `json:"perTryTimeout"`
		RetryOn       string `json:"retryOn"`
		Backoff       string `json:"backoff"`
	} `json:"retries"`
	Route []struct {
		Destination struct {
			Host, Subset string
			Port         struct{ Number uint32 }
		} `json:"destination"`
		Weight int `json:"weight"`
	} `json:"route"`
}

type match struct {
	URI struct {
		Exact string `json:"exact"`
	} `json:"uri"`
}

// virtuals are the routes of all VirtualServices, by host.
func virtuals(objects []overlay.Object) (map[string][]httpRoute, error) {
	all := map[string][]httpRoute{}
	for _, o := range objects {
		if o["kind"] != "VirtualService" {
			continue
		}
		var routes []httpRoute
		if err := strictly(overlay.Get(o, "spec", "http"), &routes); err != nil {
			return nil, fmt.Errorf("VirtualService %s: %w", overlay.Text(o, "metadata", "name"), err)
		}
		hosts, _ := overlay.Get(o, "spec", "hosts").([]any)
		for _, h := range hosts {
			all[fmt.Sprint(h)] = append(all[fmt.Sprint(h)], routes...)
		}
	}
	return all, nil
}

// virtual reads the route of an RPC.
func virtual(s *contract.Shop, r *contract.RPC, routes []httpRoute) (Policy, error) {
	i := slices.IndexFunc(routes, func(h httpRoute) bool { // the first one counts
		return len(h.Match) == 0 || slices.ContainsFunc(h.Match, func(m match) bool { return m.URI.Exact == r.Path() })
	})
	if i < 0 || len(routes[i].Match) == 0 {
		return Policy{}, errors.New("no route of its own")
	}
	return routes[i].policy(s.FQDN(r.Host), s.ServiceOf(r).Port)
}

func (h httpRoute) policy(host string, port uint32) (Policy, error) {
	p, weight := Policy{Attempts: 1}, 0
	for _, to := range h.Route {
		weight += to.Weight
		if to.Destination.Host != host || to.Destination.Port.Number != port {
			return p, fmt.Errorf("goes to %s:%d", to.Destination.Host, to.Destination.Port.Number)
		}
	}
	if weight != 100 {
		return p, fmt.Errorf("%d of 100 calls have a destination", weight)
	}
	if h.Retries == nil {
		return p, errors.New("retries are not said, and Istio would do two")
	}
	var err error
	if h.Timeout != "" { // which is none
		p.Timeout, err = time.ParseDuration(h.Timeout)
	}
	if err != nil || h.Retries.Attempts == 0 {
		return p, err
	}
	p.Attempts += h.Retries.Attempts
	p.On = RetryOn(h.Retries.RetryOn)
	p.PerTry, err = time.ParseDuration(h.Retries.PerTryTimeout)
	return p, err
}

// RetryOn are the codes of gRPC among what Istio calls retryOn,
// sorted.
func RetryOn(names string) []codes.Code {
	known := map[string]codes.Code{
		"cancelled": codes.Canceled, "deadline-exceeded": codes.DeadlineExceeded, "internal": codes.Internal,
		"resource-exhausted": codes.ResourceExhausted, "unavailable": codes.Unavailable,
	}
	var all []codes.Code
	for _, n := range strings.Split(names, ",") {
		if c, ok := known[n]; ok {
			all = append(all, c)
		}
	}
	slices.Sort(all)
	return all
}

// strictly reads a value; a field that it has and into has not is an error.
func strictly(v, into any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	return d.Decode(into)
}

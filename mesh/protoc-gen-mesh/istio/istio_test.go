package istio

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	meshpb "github.com/meshmart/meshmart/proto/mesh/v1"

	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/contract"
	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/contract/contracttest"
	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/istio/authztest"
	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/target"
)

// object is a Kubernetes object, with the fields that the tests look at.
type object struct {
	Kind     string
	Metadata struct{ Name, Namespace string }
	Spec     struct {
		Selector struct {
			MatchLabels map[string]string `yaml:"matchLabels"`
		}
		Hosts  []string
		HTTP   []httpRoute `yaml:"http"`
		Action string
		Rules  []authztest.Rule
		Egress []struct{ Hosts []string }

		TrafficPolicy struct {
			OutlierDetection struct {
				ConsecutiveGatewayErrors int `yaml:"consecutiveGatewayErrors"`
			} `yaml:"outlierDetection"`
		} `yaml:"trafficPolicy"`
	}
}

type httpRoute struct {
	Name  string
	Match []struct {
		URI struct{ Exact string } `yaml:"uri"`
	}
	Timeout string
	Retries struct {
		Attempts      *int
		PerTryTimeout string `yaml:"perTryTimeout"`
		RetryOn       string `yaml:"retryOn"`
	}
	Route []struct{ Weight int }
}

func (o object) matches(c authztest.Call) bool { return authztest.Match(o.Spec.Rules, c) }

func generated(t *testing.T, s *contract.Shop) []target.File {
	t.Helper()
	fs, err := files(s)
	if err != nil {
		t.Fatal(err)
	}
	return fs
}

// objects are those of one folder.
func objects(t *testing.T, s *contract.Shop, dir string) []object {
	t.Helper()
	return contracttest.Objects[object](t, generated(t, s), "mesh/istio/"+dir)
}

func find(t *testing.T, all []object, kind, name string) object {
	t.Helper()
	i := slices.IndexFunc(all, func(o object) bool { return o.Kind == kind && o.Metadata.Name == name })
	if i < 0 {
		t.Fatalf("no %s %s", kind, name)
	}
	return all[i]
}

func TestEveryMethodHasARouteOfItsOwn(t *testing.T) {
	s := contracttest.Shop(t)
	all := objects(t, s, "policy/")
	for _, svc := range s.Services {
		vs := find(t, all, "VirtualService", svc.Host)
		if got, want := len(vs.Spec.HTTP), len(svc.RPCs)+1; got != want {
			t.Fatalf("%s: got %d routes, want %d", svc.Host, got, want)
		}
		for i, r := range svc.RPCs {
			if diff := cmp.Diff(policyOf(vs.Spec.HTTP[i]), wanted(r)); diff != "" {
				t.Errorf("%s: got-want %s", r.FullName(), diff)
			}
		}
		if last := vs.Spec.HTTP[len(svc.RPCs)]; last.Match != nil || *last.Retries.Attempts != 0 {
			t.Errorf("%s: the last route is %+v", svc.Host, last)
		}
	}
}

// held is what a route holds of an RPC's policy.
type held struct {
	Path              string
	Timeout, PerTry   time.Duration
	Attempts, Weights int
	On                []string
}

func policyOf(r httpRoute) held {
	h := held{Path: r.Match[0].URI.Exact, Attempts: *r.Retries.Attempts, Weights: r.Route[0].Weight + r.Route[1].Weight}
	h.Timeout, _ = time.ParseDuration(r.Timeout)
	h.PerTry, _ = time.ParseDuration(r.Retries.PerTryTimeout)
	for _, name := range strings.Split(r.Retries.RetryOn, ",") {
		if slices.Contains([]string{"cancelled", "deadline-exceeded", "internal", "resource-exhausted", "unavailable"}, name) {
			h.On = append(h.On, name)
		}
	}
	return h
}

func wanted(r *contract.RPC) held {
	h := held{Path: r.Path(), Timeout: r.Timeout, Weights: 100}
	if r.Retry == nil {
		return h
	}
	h.Attempts, h.PerTry = r.Retry.Attempts, r.Retry.PerTry
	for _, c := range r.Retry.On {
		h.On = append(h.On, map[codes.Code]string{codes.Unavailable: "unavailable", codes.DeadlineExceeded: "deadline-exceeded", codes.Internal: "internal"}[c])
	}
	return h
}

// An order that cannot be placed while the payment is out is UNAVAILABLE from
// every replica: none may be left out for it (ADR 7).
func TestAnOutageFurtherDownEjectsNobody(t *testing.T) {
	s := contracttest.Shop(t)
	all := objects(t, s, "policy/")
	for host, want := range map[string]bool{"order": false, "payment": true} {
		counts := find(t, all, "DestinationRule", host).Spec.TrafficPolicy.OutlierDetection.ConsecutiveGatewayErrors > 0
		if counts != want {
			t.Errorf("%s: UNAVAILABLE counts: %v, want %v", host, counts, want)
		}
	}
}

func TestEveryCodeThatMayBeRetriedHasAName(t *testing.T) {
	for code, want := range map[codes.Code]string{
		codes.Unavailable:      "unavailable,connect-failure,refused-stream,reset",
		codes.DeadlineExceeded: "deadline-exceeded",
		codes.Internal:         "internal",
	} {
		if got := RetryOn(&contract.Retry{On: []codes.Code{code}}); got != want {
			t.Errorf("%v: got %q, want %q", code, got, want)
		}
	}
}

// Who may call what is asked of the policies themselves, in the way of Envoy and
// of grpc-go: a DENY that matches refuses, and an ALLOW has to match. Either
// kind by itself is enough to refuse.
func TestOnlyCallersPass(t *testing.T) {
	s := contracttest.Shop(t)
	all := objects(t, s, "policy/")
	callers := append(s.Accounts(), "postgres", "stranger")
	for _, svc := range s.Services {
		allow := find(t, all, "AuthorizationPolicy", svc.Host+"-callers")
		deny := find(t, all, "AuthorizationPolicy", svc.Host+"-others")
		if allow.Spec.Action != "ALLOW" || deny.Spec.Action != "DENY" {
			t.Fatalf("%s: %s and %s", svc.Host, allow.Spec.Action, deny.Spec.Action)
		}
		for _, o := range []object{allow, deny} {
			if diff := cmp.Diff(o.Spec.Selector.MatchLabels, map[string]string{"app": svc.Host}); diff != "" {
				t.Errorf("%s: %s", o.Metadata.Name, diff)
			}
		}
		for _, caller := range callers {
			for path, listed := range paths(s, svc) {
				c := authztest.Call{Principal: s.Principal(caller), Port: fmt.Sprint(svc.Port), Path: path}
				want := slices.Contains(listed, caller)
				if got := allow.matches(c); got != want {
					t.Errorf("%s calls %s: the ALLOW says %v, want %v", caller, path, got, want)
				}
				if got := !deny.matches(c); got != want {
					t.Errorf("%s calls %s: the DENY says %v, want %v", caller, path, got, want)
				}
			}
		}
	}
}

// paths are all that can be called of a service, those of the other services
// and those without a contract, each with who may.
func paths(s *contract.Shop, svc *contract.Service) map[string][]string {
	all := map[string][]string{"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo": nil, "/": nil}
	for _, r := range s.RPCs() {
		all[r.Path()] = nil
	}
	for _, r := range svc.RPCs {
		all[r.Path()] = r.Callers
	}
	for _, health := range HealthPaths {
		all[health] = svc.Callers()
	}
	return all
}

func TestStrangersAreDenied(t *testing.T) {
	s := contracttest.Shop(t)
	deny := find(t, objects(t, s, "policy/"), "AuthorizationPolicy", "strangers")
	for _, c := range []struct {
		authztest.Call
		want bool
	}{
		{authztest.Call{Principal: s.Principal("order"), Port: "9090"}, false},
		{authztest.Call{Principal: "cluster.local/ns/other/sa/order", Port: "9090"}, true},
		{authztest.Call{Principal: "", Port: "5432"}, true},
		{authztest.Call{Principal: "", Port: "8080"}, false}, // the edge's own policy
	} {
		if got := deny.matches(c.Call); got != c.want {
			t.Errorf("%+v: got %v, want %v", c.Call, got, c.want)
		}
	}
}

func TestTokensAreRequiredByAccess(t *testing.T) {
	s := contracttest.Shop(t)
	all := objects(t, s, "sidecar/")
	tokens := map[string]authztest.Call{
		"nobody": {},
		"other":  {Token: "elsewhere/ann", Roles: []string{"admin"}},
		"user":   {Token: "meshmart/ann", Roles: []string{"user"}},
		"admin":  {Token: "meshmart/root", Roles: []string{"user", "admin"}},
	}
	may := map[meshpb.Access][]string{
		meshpb.Access_ACCESS_PUBLIC:   {"nobody", "other", "user", "admin"},
		meshpb.Access_ACCESS_INTERNAL: {"nobody", "other", "user", "admin"},
		meshpb.Access_ACCESS_USER:     {"user", "admin"},
		meshpb.Access_ACCESS_ADMIN:    {"admin"},
	}
	for _, r := range s.RPCs() {
		for who, c := range tokens {
			c.Port, c.Path = fmt.Sprint(s.ServiceOf(r).Port), r.Path()
			refused := slices.ContainsFunc(all, func(o object) bool {
				return o.Metadata.Name == r.Host+"-tokens" && o.matches(c)
			})
			if want := slices.Contains(may[r.Access], who); refused == want {
				t.Errorf("%s by %s: got %v, want %v", r.FullName(), who, !refused, want)
			}
		}
		if r.NeedsToken() {
			find(t, all, "RequestAuthentication", r.Host)
		}
	}
}

func TestSidecarsReachWhatTheyCall(t *testing.T) {
	s := contracttest.Shop(t)
	all := objects(t, s, "sidecar/")
	for _, account := range s.Accounts() {
		var want []string
		for _, svc := range s.Callees(account) {
			want = append(want, "./"+s.FQDN(svc.Host))
		}
		for _, b := range s.BackendsOf(account) {
			want = append(want, "./"+s.FQDN(b.Host))
		}
		if diff := cmp.Diff(find(t, all, "Sidecar", account).Spec.Egress[0].Hosts, want); diff != "" {
			t.Errorf("%s: got-want %s", account, diff)
		}
	}
}

func TestAccountThatCallsNothingReachesNothing(t *testing.T) {
	s := contracttest.Shop(t)
	s.Backends = nil
	got := find(t, objects(t, s, "sidecar/"), "Sidecar", "greeter").Spec.Egress[0].Hosts
	if diff := cmp.Diff(got, []string{"~/*"}); diff != "" {
		t.Errorf("got-want %s", diff)
	}
}

package ambient

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	meshpb "github.com/meshmart/meshmart/proto/mesh/v1"

	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/contract"
	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/contract/contracttest"
	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/istio"
	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/istio/authztest"
)

// object is a Kubernetes object, with the fields that the tests look at.
type object struct {
	Kind     string
	Metadata struct{ Name string }
	Data     map[string]string
	Spec     struct {
		Infrastructure struct {
			ParametersRef ref `yaml:"parametersRef"`
		}
		ParentRefs []ref `yaml:"parentRefs"`
		TargetRefs []ref `yaml:"targetRefs"`
		Selector   struct {
			MatchLabels map[string]string `yaml:"matchLabels"`
		}
		Rules  []rule
		HTTP   []httpRoute `yaml:"http"`
		Action string
	}
}

type ref struct {
	Kind, Name string
	Port       uint32
}

// rule is that of a route or of a policy.
type rule struct {
	authztest.Rule `yaml:",inline"`
	Matches        []struct {
		Path   struct{ Type, Value string }
		Method string
	}
	Timeouts struct{ Request string }
	Filters  []struct {
		RequestHeaderModifier struct {
			Set []struct{ Name, Value string }
		} `yaml:"requestHeaderModifier"`
	}
	BackendRefs []ref `yaml:"backendRefs"`
}

type httpRoute struct {
	Match []struct {
		URI struct{ Exact string } `yaml:"uri"`
	}
	Timeout string
	Retries struct {
		Attempts      *int
		PerTryTimeout string `yaml:"perTryTimeout"`
		RetryOn       string `yaml:"retryOn"`
	}
}

func (o object) matches(c authztest.Call) bool {
	rules := make([]authztest.Rule, len(o.Spec.Rules))
	for i, r := range o.Spec.Rules {
		rules[i] = r.Rule
	}
	return authztest.Match(rules, c)
}

func objects(t *testing.T, s *contract.Shop, dir string) []object {
	t.Helper()
	fs, err := files(s)
	if err != nil {
		t.Fatal(err)
	}
	return contracttest.Objects[object](t, fs, "mesh/ambient/"+dir)
}

func find(t *testing.T, all []object, kind, name string) object {
	t.Helper()
	i := slices.IndexFunc(all, func(o object) bool { return o.Kind == kind && o.Metadata.Name == name })
	if i < 0 {
		t.Fatalf("no %s %s", kind, name)
	}
	return all[i]
}

// The namespace is "restricted", and what istiod runs is so only if it is told. One
// waypoint alone would be the end of all calls when it is moved.
func TestWhatIstiodRunsIsRestrictedAndThereTwice(t *testing.T) {
	all := objects(t, contracttest.Shop(t), "waypoint/")
	for _, name := range []string{"waypoint", "edge"} {
		params := find(t, all, "Gateway", name).Spec.Infrastructure.ParametersRef
		data := find(t, all, params.Kind, params.Name).Data
		if d := data["deployment"]; !strings.Contains(d, "seccompProfile: {type: RuntimeDefault}") || !strings.Contains(d, "replicas: 2") {
			t.Errorf("%s: its Deployment is told %q", name, d)
		}
		if b := data["podDisruptionBudget"]; !strings.Contains(b, "maxUnavailable: 1") {
			t.Errorf("%s: its PodDisruptionBudget is told %q", name, b)
		}
	}
}

func TestEveryRPCHasAnHTTPRouteOfItsOwn(t *testing.T) {
	s := contracttest.Shop(t)
	all := objects(t, s, "routes/")
	if got, want := len(slices.DeleteFunc(slices.Clone(all), func(o object) bool { return o.Kind != "HTTPRoute" })), len(s.RPCs())+len(s.Services); got != want {
		t.Errorf("got %d routes, want %d", got, want)
	}
	for _, r := range s.RPCs() {
		o := find(t, all, "HTTPRoute", r.Host+"-"+r.Name())
		port := s.ServiceOf(r).Port
		if diff := cmp.Diff(o.Spec.ParentRefs, []ref{{"Service", r.Host, port}}); diff != "" {
			t.Errorf("%s: got-want %s", r.FullName(), diff)
		}
		got := o.Spec.Rules[0]
		if m := got.Matches[0]; len(got.Matches) != 1 || m.Path.Type != "Exact" || m.Path.Value != r.Path() || m.Method != "POST" {
			t.Errorf("%s: matches %+v", r.FullName(), got.Matches)
		}
		if d, err := time.ParseDuration(got.Timeouts.Request); err != nil || d != r.Timeout {
			t.Errorf("%s: timeout %q, want %v", r.FullName(), got.Timeouts.Request, r.Timeout)
		}
		if diff := cmp.Diff(got.BackendRefs, []ref{{"", r.Host, port}}); diff != "" {
			t.Errorf("%s: got-want %s", r.FullName(), diff)
		}
	}
}

// A route that says nothing is repeated twice.
func TestEveryRouteSaysHowOftenItIsRepeated(t *testing.T) {
	s := contracttest.Shop(t)
	want := map[string]string{}
	for _, r := range s.RPCs() {
		want[r.Host+"-"+r.Name()] = "0"
		if r.Retry != nil {
			want[r.Host+"-"+r.Name()] = strconv.Itoa(r.Retry.Attempts)
		}
	}
	for _, o := range objects(t, s, "") {
		if o.Kind != "HTTPRoute" {
			continue
		}
		attempts, on := "", ""
		for _, h := range o.Spec.Rules[0].Filters[0].RequestHeaderModifier.Set {
			switch h.Name {
			case "x-envoy-max-retries":
				attempts = h.Value
			case "x-envoy-retry-on", "x-envoy-retry-grpc-on":
				on += h.Value
			}
		}
		w, ok := want[o.Metadata.Name]
		if !ok {
			w = "0" // the edge and health
		}
		if attempts != w || (w == "0") != (on == "") {
			t.Errorf("%s: %q times on %q, want %q", o.Metadata.Name, attempts, on, w)
		}
	}
}

func TestEveryCodeIsAHeaderForEnvoy(t *testing.T) {
	got := headers(&contract.Retry{Attempts: 2, On: []codes.Code{codes.DeadlineExceeded, codes.Internal, codes.Unavailable}})
	want := []header{{"x-envoy-max-retries", "2"}, {"x-envoy-retry-on", "reset"}, {"x-envoy-retry-grpc-on", "deadline-exceeded,internal,unavailable"}}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("got-want %s", diff)
	}
}

func TestVirtualServicesSayTheSame(t *testing.T) {
	s := contracttest.Shop(t)
	all := objects(t, s, "virtualservice/")
	for _, svc := range s.Services {
		routes := find(t, all, "VirtualService", svc.Host).Spec.HTTP
		if len(routes) != len(svc.RPCs)+1 || *routes[len(svc.RPCs)].Retries.Attempts != 0 {
			t.Fatalf("%s: %d routes", svc.Host, len(routes))
		}
		for i, r := range svc.RPCs {
			got, want := routes[i], 0
			perTry, on := time.Duration(0), ""
			if r.Retry != nil {
				want, perTry, on = r.Retry.Attempts, r.Retry.PerTry, istio.RetryOn(r.Retry)
			}
			timeout, _ := time.ParseDuration(got.Timeout)
			limit, _ := time.ParseDuration(got.Retries.PerTryTimeout)
			if got.Match[0].URI.Exact != r.Path() || timeout != r.Timeout || *got.Retries.Attempts != want || limit != perTry || got.Retries.RetryOn != on {
				t.Errorf("%s: got %+v", r.FullName(), got)
			}
		}
	}
}

// A call comes by its waypoint, and each of its two policies is enough to refuse.
func TestOnlyCallersPassTheWaypoint(t *testing.T) {
	s := contracttest.Shop(t)
	all := objects(t, s, "waypoint/")
	for _, svc := range s.Services {
		allow := find(t, all, "AuthorizationPolicy", svc.Host+"-callers")
		deny := find(t, all, "AuthorizationPolicy", svc.Host+"-others")
		if allow.Spec.Action != "ALLOW" || deny.Spec.Action != "DENY" {
			t.Fatalf("%s: %s and %s", svc.Host, allow.Spec.Action, deny.Spec.Action)
		}
		for _, caller := range append(s.Accounts(), "postgres", "waypoint", "stranger") {
			for path, listed := range paths(s, svc) {
				c := authztest.Call{Principal: s.Principal(caller), Port: fmt.Sprint(svc.Port), Path: path}
				want := slices.Contains(listed, caller)
				if a, d := allow.matches(c), deny.matches(c); a != want || d == want {
					t.Errorf("%s calls %s: allowed %v, denied %v, want %v", caller, path, a, d, want)
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
	for _, health := range istio.HealthPaths {
		all[health] = svc.Callers()
	}
	return all
}

// What is held by path has to be bound to a waypoint or an ingress: ztunnel would
// refuse too much, and a waypoint does not read selectors.
func TestPoliciesAreBoundToWhatCanHoldThem(t *testing.T) {
	s := contracttest.Shop(t)
	for _, o := range objects(t, s, "waypoint/") {
		if strings.HasSuffix(o.Kind, "Policy") || o.Kind == "RequestAuthentication" {
			if len(o.Spec.TargetRefs) != 1 {
				t.Errorf("%s %s is bound to %v", o.Kind, o.Metadata.Name, o.Spec.TargetRefs)
			}
		}
	}
	for _, o := range objects(t, s, "ztunnel/") {
		if o.Spec.TargetRefs != nil {
			t.Errorf("%s %s is bound to %v", o.Kind, o.Metadata.Name, o.Spec.TargetRefs)
		}
		for _, r := range o.Spec.Rules {
			for _, to := range r.To {
				if op := to.Operation; op.Paths != nil || op.NotPaths != nil || op.Methods != nil {
					t.Errorf("%s asks ztunnel for %+v", o.Metadata.Name, op)
				}
			}
		}
	}
}

// Around the waypoint nobody comes to a service, and to a store only its users.
func TestNobodyGoesAroundTheWaypoint(t *testing.T) {
	s := contracttest.Shop(t)
	all := objects(t, s, "ztunnel/")
	may := func(app, principal, port string) bool {
		allowed := false
		for _, o := range all {
			if o.Kind != "AuthorizationPolicy" || o.Spec.Selector.MatchLabels["app"] != app && o.Metadata.Name != "strangers" {
				continue
			}
			hit := o.matches(authztest.Call{Principal: principal, Port: port})
			if o.Spec.Action == "DENY" && hit {
				return false
			}
			allowed = allowed || o.Spec.Action == "ALLOW" && hit
		}
		return allowed
	}
	other := "cluster.local/ns/other/sa/order"
	for _, c := range []struct {
		app, principal, port string
		want                 bool
	}{
		{"payment", s.Principal("waypoint"), "9090", true},
		{"payment", s.Principal("order"), "9090", false},
		{"payment", "", "9090", false},
		{"payment", "", "9100", true},
		{"payment", other, "9100", true},
		{"gateway", s.Principal("ingress"), "8080", true},
		{"gateway", "", "8080", true},
		{"gateway", s.Principal("order"), "8080", false},
		{"gateway", other, "8080", false},
		{"postgres", s.Principal("order"), "5432", true},
		{"postgres", s.Principal("gateway"), "5432", false},
		{"postgres", "", "5432", false},
		{"postgres", other, "5432", false},
	} {
		if got := may(c.app, c.principal, c.port); got != c.want {
			t.Errorf("%q comes to %s:%s: got %v, want %v", c.principal, c.app, c.port, got, c.want)
		}
	}
}

func TestTokensAreRequiredByAccess(t *testing.T) {
	s := contracttest.Shop(t)
	all := objects(t, s, "waypoint/")
	tokens := map[string]authztest.Call{
		"nobody": {},
		"other":  {Token: "elsewhere/ann", Roles: []string{"admin"}},
		"user":   {Token: "meshmart/ann", Roles: []string{"user"}},
		"admin":  {Token: "meshmart/root", Roles: []string{"user", "admin"}},
	}
	for _, r := range s.RPCs() {
		for who, c := range tokens {
			c.Port, c.Path = fmt.Sprint(s.ServiceOf(r).Port), r.Path()
			refused := r.NeedsToken() && find(t, all, "AuthorizationPolicy", r.Host+"-tokens").matches(c)
			want := r.Access == meshpb.Access_ACCESS_PUBLIC || r.Access == meshpb.Access_ACCESS_INTERNAL ||
				who == "admin" || who == "user" && !r.NeedsAdmin()
			if refused == want {
				t.Errorf("%s by %s: got %v, want %v", r.FullName(), who, !refused, want)
			}
		}
		if r.NeedsToken() {
			find(t, all, "RequestAuthentication", r.Host)
		}
	}
	edge := find(t, all, "AuthorizationPolicy", "edge-tokens")
	for _, d := range istio.Doors(s) {
		if !edge.matches(authztest.Call{Port: "80", Method: d.Route.Verb, Path: d.Route.Path}) {
			t.Errorf("%s %s asks for no token", d.Route.Verb, d.Route.Path)
		}
	}
	if edge.matches(authztest.Call{Port: "80", Method: "GET", Path: s.Keys}) {
		t.Error("the keys ask for a token")
	}
}

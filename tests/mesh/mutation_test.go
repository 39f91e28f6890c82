package mesh_test

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/contract"
	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/contract/contracttest"
	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/istio"
	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/network"
	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/target"
	meshpb "github.com/meshmart/meshmart/proto/mesh/v1"
	"github.com/meshmart/meshmart/tests/mesh/envoy"
	"github.com/meshmart/meshmart/tests/mesh/held"
	"github.com/meshmart/meshmart/tests/mesh/kubestub"
	"github.com/meshmart/meshmart/tests/mesh/overlay"
)

// mutation is one change of one policy.
type mutation struct {
	// name says what is changed, aspect what must be found to differ.
	name   string
	aspect held.Aspect
	change func(*meshpb.MethodPolicy)
}

// mutations are the changes that are made to the policy of an RPC.
func mutations(s *contract.Shop, r *contract.RPC) []mutation {
	all := []mutation{
		{"a caller more", held.Callers, func(p *meshpb.MethodPolicy) { p.Callers = append(p.Callers, stranger(s, r)) }},
		{"another caller", held.Callers, func(p *meshpb.MethodPolicy) { p.Callers[0] = stranger(s, r) }},
		{"a timeout 10 ms longer", held.Timeout, func(p *meshpb.MethodPolicy) { p.Timeout = longer(p.GetTimeout(), 10*time.Millisecond) }},
		{"another access", held.Access, func(p *meshpb.MethodPolicy) { p.Access = otherAccess(p.GetAccess()) }},
	}
	if r.Timeout > 0 {
		all = append(all, mutation{"a timeout 10 ms shorter", held.Timeout, func(p *meshpb.MethodPolicy) { p.Timeout = longer(p.GetTimeout(), -10*time.Millisecond) }})
	}
	if r.Retry == nil {
		return append(all, mutation{"a retry", held.Attempts, func(p *meshpb.MethodPolicy) {
			p.Retry = &meshpb.Retry{Attempts: 1, PerTryTimeout: durationpb.New(time.Millisecond)}
		}})
	}
	return append(all,
		mutation{"an attempt more", held.Attempts, func(p *meshpb.MethodPolicy) { p.Retry.Attempts++ }},
		mutation{"an attempt less", held.Attempts, func(p *meshpb.MethodPolicy) {
			if p.Retry.Attempts--; p.Retry.Attempts == 0 {
				p.Retry = nil
			}
		}},
		mutation{"shorter attempts", held.PerTry, func(p *meshpb.MethodPolicy) {
			p.Retry.PerTryTimeout = longer(p.GetRetry().GetPerTryTimeout(), -10*time.Millisecond)
		}},
		mutation{"another code that is repeated", held.On, func(p *meshpb.MethodPolicy) { p.Retry.On = otherCodes(r) }},
	)
}

// stranger is an account that may not call the RPC.
func stranger(s *contract.Shop, r *contract.RPC) string {
	for _, a := range s.Accounts() {
		if a != r.Host && !slices.Contains(r.Callers, a) {
			return a
		}
	}
	return r.Host
}

func longer(d *durationpb.Duration, by time.Duration) *durationpb.Duration {
	return durationpb.New(d.AsDuration() + by)
}

func otherAccess(a meshpb.Access) meshpb.Access {
	if a == meshpb.Access_ACCESS_USER {
		return meshpb.Access_ACCESS_ADMIN
	}
	return meshpb.Access_ACCESS_USER
}

func otherCodes(r *contract.RPC) []code.Code {
	if len(r.Retry.On) > 1 {
		return []code.Code{code.Code_UNAVAILABLE}
	}
	return []code.Code{code.Code_UNAVAILABLE, code.Code_DEADLINE_EXCEEDED}
}

// mutate returns the shop of contracts in which one policy is another one, or
// why the generator refuses them.
func mutate(t *testing.T, s *contract.Shop, r *contract.RPC, m mutation) (*contract.Shop, error) {
	t.Helper()
	var files []protoreflect.FileDescriptor
	changed := false
	protoregistry.GlobalFiles.RangeFiles(func(f protoreflect.FileDescriptor) bool {
		opts, _ := f.Options().(*descriptorpb.FileOptions)
		if !strings.HasPrefix(opts.GetGoPackage(), "github.com/meshmart/meshmart/proto/") {
			return true
		}
		text := protodesc.ToFileDescriptorProto(f)
		if change(text, r, m) {
			changed = true
			var err error
			if f, err = protodesc.NewFile(text, protoregistry.GlobalFiles); err != nil {
				t.Fatal(err)
			}
		}
		files = append(files, f)
		return true
	})
	if !changed {
		t.Fatalf("no descriptor of %s", r.FullName())
	}
	return contract.Read(files, s.Options)
}

// change mutates the RPC if it is in the file.
func change(f *descriptorpb.FileDescriptorProto, r *contract.RPC, m mutation) bool {
	for _, svc := range f.GetService() {
		for _, method := range svc.GetMethod() {
			if f.GetPackage()+"."+svc.GetName()+"/"+method.GetName() != r.FullName() {
				continue
			}
			method.Options = proto.CloneOf(method.GetOptions()) // it is the program's own
			p := proto.CloneOf(proto.GetExtension(method.GetOptions(), meshpb.E_Method).(*meshpb.MethodPolicy))
			m.change(p)
			proto.SetExtension(method.GetOptions(), meshpb.E_Method, p)
			return true
		}
	}
	return false
}

// written is what a target writes of the contracts, below the folder.
func written(t *testing.T, tg target.Target, s *contract.Shop, dir string) []overlay.Object {
	t.Helper()
	files, err := tg.Files(s)
	if err != nil {
		t.Fatal(err)
	}
	var all []overlay.Object
	for _, f := range files {
		if !strings.HasPrefix(f.Path, dir) || strings.HasSuffix(f.Path, "/kustomization.yaml") {
			continue
		}
		objects, err := kubestub.Parse(f.Content)
		if err != nil {
			t.Fatalf("%s: %v", f.Path, err)
		}
		all = append(all, objects...)
	}
	return all
}

// Whichever policy of whichever RPC is changed in a .proto: either the generator
// refuses it, or the manifests change and these tests, with the contract as it
// was, tell what of which RPC is not as it should be.
func TestEveryChangedPolicyIsFound(t *testing.T) {
	s := contracttest.Shop(t)
	before := written(t, istio.Target(), s, "")
	refused, found := 0, 0
	for _, r := range s.RPCs() {
		for _, m := range mutations(s, r) {
			changed, err := mutate(t, s, r, m)
			if err != nil {
				refused++
				continue
			}
			objects := written(t, istio.Target(), changed, "")
			if reflect.DeepEqual(objects, before) {
				t.Errorf("%s: %s: the manifests stay the same", r.FullName(), m.name)
			}
			if tells(t, s, r, m, objects) {
				found++
			}
		}
	}
	if refused == 0 || found == 0 {
		t.Errorf("%d refused, %d found: a kind of mutation is missing", refused, found)
	}
	t.Logf("figure: mutations of a policy: %d, of which %d refused by the generator and %d found in the manifests", refused+found, refused, found)
}

// tells reports whether the difference is found in the manifests.
func tells(t *testing.T, s *contract.Shop, r *contract.RPC, m mutation, objects []overlay.Object) bool {
	got, err := held.Istio(s, objects)
	if err != nil {
		t.Errorf("%s: %s: %v", r.FullName(), m.name, err)
		return false
	}
	differences := held.Compare(s, got, held.All...)
	want := fmt.Sprintf("%s: %s: ", r.FullName(), m.aspect)
	if !slices.ContainsFunc(differences, func(d string) bool { return strings.HasPrefix(d, want) }) {
		t.Errorf("%s: %s: not found; found are %q", r.FullName(), m.name, differences)
		return false
	}
	return true
}

// One mutation of each kind that grpc-go can tell goes all the way: to istiod,
// to clients and servers, into calls.
func TestChangedPolicyIsFoundInCalls(t *testing.T) {
	base, err := overlay.Build(paths("base")[0])
	if err != nil {
		t.Fatal(err)
	}
	s := contracttest.Shop(t)
	m := own(t, append(slices.Clone(base), written(t, istio.Target(), s, "mesh/istio/policy/")...))
	see := map[held.Aspect]func(r *contract.RPC) held.Policy{
		held.Callers:  func(r *contract.RPC) held.Policy { return held.Policy{Callers: callers(t, m, m.CallOf(r))} },
		held.Timeout:  func(r *contract.RPC) held.Policy { return timeout(t, m, r) },
		held.Attempts: func(r *contract.RPC) held.Policy { return attempts(t, m, r) },
	}
	apply := func(t *testing.T, changed *contract.Shop) {
		objects := append(slices.Clone(base), written(t, istio.Target(), changed, "mesh/istio/policy/")...)
		if err := m.Apply(t.Context(), objects, m.Pods); err != nil {
			t.Fatal(err)
		}
	}
	sample(t, s, slices.Collect(maps.Keys(see)), func(t *testing.T, r *contract.RPC, mu mutation, changed *contract.Shop) {
		apply(t, changed)
		eventually(t, "found", func() bool { return len(held.CompareOne(r, see[mu.aspect](r), mu.aspect)) > 0 })
		apply(t, s)
		eventually(t, "gone", func() bool { return len(held.CompareOne(r, see[mu.aspect](r), mu.aspect)) == 0 })
	})
}

// The same with what only an Envoy can tell.
func TestChangedPolicyIsFoundAsComputedForEnvoy(t *testing.T) {
	base, err := overlay.Build(paths("base")[0])
	if err != nil {
		t.Fatal(err)
	}
	s := contracttest.Shop(t)
	cars := startSidecars(t, append(slices.Clone(base), written(t, istio.Target(), s, "")...))
	sample(t, s, held.All, func(t *testing.T, r *contract.RPC, mu mutation, changed *contract.Shop) {
		text, err := overlay.YAML(overlay.Running(s.Namespace, append(slices.Clone(base), written(t, istio.Target(), changed, "")...), cars.pods))
		if err != nil {
			t.Fatal(err)
		}
		if err := cars.istiod.Apply(t.Context(), text); err != nil {
			t.Fatal(err)
		}
		eventually(t, "found", func() bool {
			views := map[string]*envoy.View{r.Host: cars.view(t, r.Host)}
			for _, c := range r.Callers {
				views[c] = cars.view(t, c)
			}
			got := computed(t, s, []*contract.RPC{r}, views)
			return len(held.CompareOne(r, got[r.Path()], mu.aspect)) > 0
		})
	})
}

// sample calls fn with one mutation of each kind among the aspects, each of an
// RPC of which the generator takes it.
func sample(t *testing.T, s *contract.Shop, aspects []held.Aspect, fn func(*testing.T, *contract.RPC, mutation, *contract.Shop)) {
	done := map[string]bool{}
	for _, r := range s.RPCs() {
		for _, m := range mutations(s, r) {
			if done[m.name] || !slices.Contains(aspects, m.aspect) {
				continue
			}
			changed, err := mutate(t, s, r, m)
			if err != nil || m.name == "another caller" && len(r.Callers) == 1 && r.Callers[0] != s.Edge.Host {
				continue
			}
			done[m.name] = true
			t.Run(m.name+" of "+r.Method, func(t *testing.T) { fn(t, r, m, changed) })
		}
	}
	t.Logf("figure: %s: %d mutations, one of each kind", t.Name(), len(done))
}

// eventually waits until something holds: a change takes istiod a moment.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	limit := time.Now().Add(time.Minute)
	for !holds() {
		if t.Failed() || time.Now().After(limit) {
			t.Fatalf("the change is not %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// The same with NetworkPolicies, as far as they know callers: one that calls a
// service as the only one.
func TestChangedCallersAreFoundInNetworkPolicies(t *testing.T) {
	s := contracttest.Shop(t)
	found := 0
	for _, r := range s.RPCs() {
		m := mutations(s, r)[0]
		changed, err := mutate(t, s, r, m)
		if err != nil || slices.Contains(s.ServiceOf(r).Callers(), stranger(s, r)) {
			continue
		}
		got, err := held.Network(s, written(t, network.Target(), changed, ""))
		if err != nil {
			t.Fatal(err)
		}
		if slices.Equal(got[r.Host], s.ServiceOf(r).Callers()) {
			t.Errorf("%s: %s: not found", r.FullName(), m.name)
		}
		found++
	}
	if found == 0 {
		t.Error("no mutation that NetworkPolicies could tell")
	}
	t.Logf("figure: mutations found in the NetworkPolicies: %d", found)
}

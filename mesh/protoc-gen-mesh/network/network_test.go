package network

import (
	"bytes"
	"io"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/contract"
	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/contract/contracttest"
)

type object struct {
	Metadata struct{ Name string }
	Spec     struct {
		PodSelector labels   `yaml:"podSelector"`
		PolicyTypes []string `yaml:"policyTypes"`
		Ingress     []hole
		Egress      []hole
	}
}

type hole struct {
	From, To []struct {
		PodSelector labels `yaml:"podSelector"`
	}
	Ports []struct{ Port uint32 }
}

type labels struct {
	MatchLabels map[string]string `yaml:"matchLabels"`
}

func objects(t *testing.T, s *contract.Shop) map[string]object {
	t.Helper()
	fs, err := files(s)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]object{}
	for _, f := range fs {
		d := yaml.NewDecoder(bytes.NewReader(f.Content))
		for {
			var o object
			if err := d.Decode(&o); err == io.EOF {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", f.Path, err)
			}
			all[o.Metadata.Name] = o
		}
	}
	return all
}

func TestNothingIsOpenByDefault(t *testing.T) {
	o := objects(t, contracttest.Shop(t))["default"]
	if o.Spec.PodSelector.MatchLabels != nil || o.Spec.Ingress != nil || o.Spec.Egress != nil || !slices.Equal(o.Spec.PolicyTypes, []string{"Ingress", "Egress"}) {
		t.Errorf("got %+v", o)
	}
}

// A way between two pods needs both ends to agree: the policies are read as the
// pairs that can speak, and compared with what the contracts say.
func TestPodsSpeakOnlyAsTheContractsSay(t *testing.T) {
	s := contracttest.Shop(t)
	all := objects(t, s)
	names := s.Accounts()
	for _, b := range s.Backends {
		names = append(names, b.Host)
	}
	for _, from := range names {
		for _, to := range names {
			out := opens(all[from].Spec.Egress, to)
			in := opens(all[to].Spec.Ingress, from)
			if to == s.Edge.Host {
				in = nil // it is open to all, and nobody in the shop goes there
			}
			want := expected(s, from, to)
			if diff := cmp.Diff(out, want); diff != "" {
				t.Errorf("%s to %s, out: got-want %s", from, to, diff)
			}
			if diff := cmp.Diff(in, want); diff != "" {
				t.Errorf("%s to %s, in: got-want %s", from, to, diff)
			}
		}
	}
}

func opens(holes []hole, host string) []uint32 {
	var ports []uint32
	for _, h := range holes {
		for _, p := range append(h.From, h.To...) {
			if p.PodSelector.MatchLabels["app"] == host {
				ports = append(ports, h.Ports[0].Port)
			}
		}
	}
	return ports
}

func expected(s *contract.Shop, from, to string) []uint32 {
	for _, r := range s.RPCs() {
		if r.Host == to && slices.Contains(r.Callers, from) {
			return []uint32{s.ServiceOf(r).Port}
		}
	}
	for _, b := range s.Backends {
		if b.Host == to && slices.Contains(b.Users, from) {
			return []uint32{b.Port}
		}
	}
	return nil
}

func TestEveryoneComesToTheEdge(t *testing.T) {
	o := objects(t, contracttest.Shop(t))["gateway"]
	if len(o.Spec.Ingress) != 1 || o.Spec.Ingress[0].From != nil || o.Spec.Ingress[0].Ports[0].Port != 8080 {
		t.Errorf("got %+v", o.Spec.Ingress)
	}
}

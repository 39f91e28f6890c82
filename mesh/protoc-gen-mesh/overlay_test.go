package main

import (
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/contract/contracttest"
)

// kustomization is an overlay that is written by hand.
type kustomization struct {
	Resources []string
	Patches   []patch
}

type patch struct {
	Patch  string
	Target struct {
		Kind, Name    string
		LabelSelector string `yaml:"labelSelector"`
	}
}

func overlay(t *testing.T, name string) kustomization {
	t.Helper()
	var k kustomization
	if err := yaml.Unmarshal([]byte(read(t, "mesh/"+name+"/kustomization.yaml")), &k); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return k
}

// What the process must know of its mesh is in the ConfigMap of each overlay.
func TestOverlaysTellTheProcessItsMesh(t *testing.T) {
	for name, mesh := range map[string]string{"istio": "istio", "ambient": "ambient", "linkerd": "linkerd", "proxyless": "proxyless", "plain": "none"} {
		k := overlay(t, name)
		i := slices.IndexFunc(k.Patches, func(p patch) bool { return p.Target.Kind == "ConfigMap" })
		if i < 0 || !strings.Contains(k.Patches[i].Patch, "path: /data/MESH, value: "+mesh+"}") {
			t.Errorf("%s does not set MESH=%s", name, mesh)
		}
	}
}

// Without a mesh to tell, INTERNAL RPCs and balancing are the process's: the
// policies alone would be a shop that takes no order.
func TestPoliciesAloneAreAShopWithoutAMesh(t *testing.T) {
	if got := overlay(t, "network").Resources; !slices.Equal(got, []string{"../plain"}) {
		t.Errorf("network has %q", got)
	}
	if !strings.Contains(read(t, "mesh/plain/kustomization.yaml"), `/data/TRUST_NETWORK, value: "true"`) {
		t.Error("plain does not set TRUST_NETWORK")
	}
}

// Patches have to reach every service, those that are new, too.
func TestOverlaysPatchEveryService(t *testing.T) {
	s := contracttest.Shop(t)
	var services, others []string
	for _, svc := range s.Services {
		services = append(services, svc.Host)
	}
	others = append(others, s.Edge.Host)
	for _, b := range s.Backends {
		others = append(others, b.Host)
	}
	slices.Sort(others)
	for _, c := range []struct {
		overlay, kind string
		want          []string
	}{
		{"plain", "Service", services},
		{"proxyless", "Deployment", services},
		{"ambient", "Service", others},
	} {
		if diff := cmp.Diff(patched(t, overlay(t, c.overlay), c.kind), c.want); diff != "" {
			t.Errorf("%s: got-want %s", c.overlay, diff)
		}
	}
}

func patched(t *testing.T, k kustomization, kind string) []string {
	var names []string
	for _, p := range k.Patches {
		switch {
		case p.Target.Kind != kind:
		case p.Target.LabelSelector == "app,app!=gateway":
			names = append(names, labelled(t, kind)...)
		case strings.Contains(p.Target.Name, "|"): // else it is about one of them
			names = append(names, strings.Split(p.Target.Name, "|")...)
		}
	}
	slices.Sort(names)
	return names
}

// labelled are the services, but for the gateway, whose objects of a kind have
// the label app.
func labelled(t *testing.T, kind string) []string {
	var names []string
	for _, file := range overlay(t, "base/services").Resources {
		d := yaml.NewDecoder(strings.NewReader(read(t, "mesh/base/services/"+file)))
		for {
			var o struct {
				Kind     string
				Metadata struct {
					Name   string
					Labels struct{ App string }
				}
			}
			if err := d.Decode(&o); err == io.EOF {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			if o.Kind == kind && o.Metadata.Labels.App == o.Metadata.Name && o.Metadata.Name != "gateway" {
				names = append(names, o.Metadata.Name)
			}
		}
	}
	return names
}

// What is said of versions has to be what go.mod asks for.
func TestVersionOfGRPCIsThatOfTheModule(t *testing.T) {
	for _, tg := range targets() {
		if tg.Name != "proxyless" {
			continue
		}
		_, version, _ := strings.Cut(tg.Version, "gRPC in Go ")
		version, _, _ = strings.Cut(version, " ")
		if !strings.Contains(read(t, "go.mod"), "google.golang.org/grpc v"+version+".") {
			t.Errorf("%q is not what go.mod has", tg.Version)
		}
	}
}

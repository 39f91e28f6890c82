package certificates

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/contract/contracttest"
)

// Whoever is an account has a certificate by which the process knows it, in the
// Secret that its pods read.
func TestEveryAccountHasACertificateOfItsOwn(t *testing.T) {
	s := contracttest.Shop(t)
	fs, err := files(s)
	if err != nil {
		t.Fatal(err)
	}
	var named []string
	for d := yaml.NewDecoder(bytes.NewReader(fs[0].Content)); ; {
		var c struct {
			Metadata struct{ Name, Namespace string }
			Spec     struct {
				SecretName   string `yaml:"secretName"`
				URIs, Usages []string
			}
		}
		if d.Decode(&c) != nil {
			break
		}
		name := c.Metadata.Name
		named = append(named, name)
		want := "spiffe://cluster.local/ns/" + s.Namespace + "/sa/" + name
		if !slices.Equal(c.Spec.URIs, []string{want}) || !slices.Contains(c.Spec.Usages, "server auth") || !slices.Contains(c.Spec.Usages, "client auth") {
			t.Errorf("%s: %+v", name, c)
		}
		if patch := "secretName: " + c.Spec.SecretName + "}"; !strings.Contains(string(fs[1].Content), patch) {
			t.Errorf("no pod has %s", c.Spec.SecretName)
		}
	}
	if want := s.Accounts(); !slices.Equal(named, want) {
		t.Errorf("got %q, want %q", named, want)
	}
}

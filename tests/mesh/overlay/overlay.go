// Package overlay renders the manifests of mesh/ as kustomize does.
package overlay

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"

	"github.com/meshmart/meshmart/tests/mesh/kubestub"
)

// Object is a Kubernetes object.
type Object = kubestub.Object

// Build renders the overlay in a folder.
func Build(dir string) ([]Object, error) {
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		return nil, fmt.Errorf("kustomize build %s: %w", dir, err)
	}
	text, err := built.AsYaml()
	if err != nil {
		return nil, fmt.Errorf("kustomize build %s: %w", dir, err)
	}
	return kubestub.Parse(text)
}

// BuildWith renders overlays together with components, as an overlay of a user's
// own would.
func BuildWith(resources, components []string) ([]Object, error) {
	own, err := os.MkdirTemp("", "overlay")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(own)
	if own, err = filepath.EvalSymlinks(own); err != nil {
		return nil, err
	}
	text, err := yaml.Marshal(map[string][]string{"resources": relative(own, resources), "components": relative(own, components)})
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(own, "kustomization.yaml"), text, 0o600); err != nil {
		return nil, err
	}
	return Build(own)
}

// relative is how the paths are written in a kustomization, which takes no
// absolute ones.
func relative(from string, paths []string) []string {
	out := []string{}
	for _, p := range paths {
		rel, err := filepath.Rel(from, p)
		if err != nil {
			rel = p // which kustomize refuses, and says so
		}
		out = append(out, rel)
	}
	return out
}

// YAML writes objects as one text.
func YAML(objects []Object) (string, error) {
	var all bytes.Buffer
	for _, o := range objects {
		text, err := yaml.Marshal(o)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&all, "---\n%s", text)
	}
	return all.String(), nil
}

// Folders are all folders below dir that have a kustomization of the kind,
// "Kustomization" or "Component", sorted.
func Folders(dir, kind string) ([]string, error) {
	var found []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Name() != "kustomization.yaml" {
			return err
		}
		text, err := os.ReadFile(path)
		if err == nil && slices.Contains(strings.Split(string(text), "\n"), "kind: "+kind) {
			found = append(found, filepath.Dir(path))
		}
		return err
	})
	return found, err
}

// Get follows a path of fields into an object; nil if there is nothing.
func Get(o Object, path ...string) any {
	var v any = o
	for _, name := range path {
		m, _ := v.(Object)
		v = m[name]
	}
	return v
}

// Text is Get for a string, "" if there is none.
func Text(o Object, path ...string) string {
	s, _ := Get(o, path...).(string)
	return s
}

// List is Get for a list of objects.
func List(o Object, path ...string) []Object {
	all, _ := Get(o, path...).([]any)
	var out []Object
	for _, v := range all {
		if m, ok := v.(Object); ok {
			out = append(out, m)
		}
	}
	return out
}

// Strings is Get for a map of strings.
func Strings(o Object, path ...string) map[string]string {
	m, _ := Get(o, path...).(Object)
	out := map[string]string{}
	for k, v := range m {
		out[k] = fmt.Sprint(v)
	}
	return out
}

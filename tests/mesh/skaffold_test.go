package mesh_test

import (
	"os"
	"slices"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/meshmart/meshmart/tests/mesh/overlay"
)

// skaffold is what skaffold.yaml deploys, and of which images, in itself and in
// each profile.
type skaffold struct {
	Build     struct{ Artifacts []struct{ Image string } }
	Manifests struct{ Kustomize struct{ Paths []string } }
	Profiles  []skaffold
}

// An image that nothing builds is pulled, and is nowhere.
func TestSkaffoldBuildsWhatItDeploys(t *testing.T) {
	text, err := os.ReadFile(paths("../skaffold.yaml")[0])
	if err != nil {
		t.Fatal(err)
	}
	var all skaffold
	if err := yaml.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	var built []string
	for _, a := range all.Build.Artifacts {
		built = append(built, a.Image)
	}
	for _, s := range append(all.Profiles, all) {
		for _, dir := range s.Manifests.Kustomize.Paths {
			images := deployed(t, dir)
			if len(images) < 7 {
				t.Errorf("%s has %d of the services", dir, len(images))
			}
			for _, image := range images {
				if !slices.Contains(built, image) {
					t.Errorf("%s has %s, which is not built", dir, image)
				}
			}
		}
	}
}

// deployed are the images of this module in an overlay.
func deployed(t *testing.T, dir string) []string {
	t.Helper()
	objects, err := overlay.Build(paths("../" + dir)[0])
	if err != nil {
		t.Fatal(err)
	}
	var images []string
	for _, o := range objects {
		for _, c := range overlay.List(o, "spec", "template", "spec", "containers") {
			if image := overlay.Text(c, "image"); overlay.Text(c, "name") == "service" {
				images = append(images, image)
			}
		}
	}
	return images
}

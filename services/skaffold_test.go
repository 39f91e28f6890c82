package services

import (
	"bytes"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

// artifact is an image of skaffold.yaml: where its program is, and what skaffold
// watches to build it again.
type artifact struct {
	Image string
	Ko    struct {
		Main         string
		Dependencies struct{ Paths []string }
	}
}

// TestSkaffoldWatchesWhatEachServiceIsMadeOf: a change that is not watched is not
// deployed, and one that is watched for nothing restarts who has nothing of it.
func TestSkaffoldWatchesWhatEachServiceIsMadeOf(t *testing.T) {
	var config struct {
		Build struct{ Artifacts []artifact }
	}
	text, err := os.ReadFile("../skaffold.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, &config); err != nil {
		t.Fatal(err)
	}
	needed := programs(t)
	delete(needed, "services/cmd/shop") // all in one, which no cluster needs
	for _, a := range config.Build.Artifacts {
		main := strings.TrimPrefix(a.Ko.Main, "./")
		if a.Image != module+main {
			t.Errorf("%s is built of %s", a.Image, main)
		}
		watched := slices.DeleteFunc(a.Ko.Dependencies.Paths, func(p string) bool { return !strings.Contains(p, "/") }) // go.mod and the like
		slices.Sort(watched)
		if diff := cmp.Diff(watched, needed[main]); diff != "" {
			t.Errorf("%s watches, got-want %s", main, diff)
		}
		delete(needed, main)
	}
	for main := range needed {
		t.Errorf("skaffold.yaml does not build %s", main)
	}
}

// TestWithoutProxiesTheRestIsLeftOutAllTheSame: flags of an artifact go before those
// of .ko.yaml.
func TestWithoutProxiesTheRestIsLeftOutAllTheSame(t *testing.T) {
	var config struct {
		Profiles []struct {
			Name    string
			Patches []struct {
				Path  string
				Value any
			}
		}
	}
	text, err := os.ReadFile("../skaffold.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, &config); err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, p := range config.Profiles {
		for _, patch := range p.Patches {
			if p.Name != "proxyless" || !strings.HasSuffix(patch.Path, "/ko/flags") {
				continue
			}
			seen++
			if diff := cmp.Diff(patch.Value, any([]any{"-tags=" + imageTags(t) + ",proxyless"})); diff != "" {
				t.Errorf("%s, got-want %s", patch.Path, diff)
			}
		}
	}
	if seen == 0 {
		t.Error("no flags are patched")
	}
}

// imageTags are the build tags of the services' images, with commas between.
func imageTags(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../.ko.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var config struct {
		DefaultEnv []string `yaml:"defaultEnv"`
	}
	if err := yaml.Unmarshal(text, &config); err != nil {
		t.Fatal(err)
	}
	for _, v := range config.DefaultEnv {
		if _, tags, ok := strings.Cut(v, "-tags="); ok {
			return tags
		}
	}
	t.Fatal(".ko.yaml has no tags")
	return ""
}

// programs are the folders of this module that each program is made of: the
// runtime as a whole, of each contract the folder above its versions.
func programs(t *testing.T) map[string][]string {
	t.Helper()
	list := exec.Command("go", "list", "-f", "{{.ImportPath}}{{range .Deps}} {{.}}{{end}}", "./cmd/...")
	var stderr bytes.Buffer
	list.Stderr = &stderr
	out, err := list.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.Bytes())
	}
	found := map[string][]string{}
	for line := range strings.Lines(string(out)) {
		packages := strings.Fields(line)
		var folders []string
		for _, p := range packages {
			if own, ours := strings.CutPrefix(p, module); ours {
				folders = append(folders, folder(own))
			}
		}
		slices.Sort(folders)
		found[strings.TrimPrefix(packages[0], module)] = slices.Compact(folders)
	}
	return found
}

// folder is services/cmd/x, or else the first two of a path.
func folder(path string) string {
	parts := strings.Split(path, "/")
	if parts[1] == "cmd" {
		return path
	}
	return strings.Join(parts[:2], "/")
}

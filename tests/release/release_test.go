// Package release tries tools/release, as far as a machine of one's own can.
package release

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/meshmart/meshmart/tests/follow"
)

// TestDryRunIsARelease makes one twice, the second with nothing remembered of the
// first, and looks at what GitHub would get.
func TestDryRunIsARelease(t *testing.T) {
	if testing.Short() {
		t.Skip("builds an image and shopctl twice")
	}
	follow.Needs(t, "git", "bash", "sha256sum")
	tree := filepath.Join(t.TempDir(), "meshmart")
	follow.Tree(t, tree)
	const story = "\n## v1.2.3 - 2026-11-21\n\n- The first one.\n\n## v1.2.2\n\n- Not this.\n"
	changelog := filepath.Join(tree, "CHANGELOG.md")
	text, err := os.ReadFile(changelog)
	if err == nil {
		err = os.WriteFile(changelog, append(text, story...), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	var sums [2]string
	for i := range sums {
		out, env := t.TempDir(), fresh(t)
		said, err := follow.Run(t, tree, env, "tools/release -dry-run -scratch -platform linux/amd64 -out "+out+" v1.2.3 greeter")
		if err != nil {
			t.Fatalf("%v\n%s", err, said)
		}
		sums[i] = read(t, out, "subjects.sha256")
		if said, err := follow.Run(t, filepath.Join(out, "assets"), env, "sha256sum -c SHA256SUMS"); err != nil {
			t.Errorf("%v\n%s", err, said)
		}
		if got := read(t, out, "notes.md"); got != "- The first one.\n\n" {
			t.Errorf("the notes are %q", got)
		}
		wantSBOM(t, filepath.Join(out, "assets", "greeter-linux-amd64.spdx.json"))
		if said, err := follow.Run(t, out, env, "assets/shopctl-linux-amd64 version"); err != nil || !strings.Contains(said, "v1.2.3") {
			t.Errorf("shopctl says it is %s, %v", said, err)
		}
	}
	if diff := cmp.Diff(sums[0], sums[1]); diff != "" {
		t.Errorf("the same source made two releases (-first +second):\n%s", diff)
	}
	for _, want := range []string{"  meshmart/greeter\n", "  shopctl-linux-amd64\n", "  shopctl.1\n", "  greeter-linux-amd64.spdx.json\n"} {
		if !strings.Contains(sums[0], want) {
			t.Errorf("no %q in\n%s", want, sums[0])
		}
	}
}

// fresh is an environment in which ko remembers nothing; the tools that were built
// before are there.
func fresh(t *testing.T) []string {
	t.Helper()
	cache, dir := os.Getenv("MESHMART_CACHE"), t.TempDir()
	if cache == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		cache = filepath.Join(user, "meshmart")
	}
	if err := os.MkdirAll(filepath.Join(cache, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(cache, "bin"), filepath.Join(dir, "bin")); err != nil {
		t.Fatal(err)
	}
	return append(os.Environ(), "MESHMART_CACHE="+dir)
}

func read(t *testing.T, path ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// wantSBOM wants one in SPDX that names the shop's module, and others by version.
func wantSBOM(t *testing.T, file string) {
	t.Helper()
	var sbom struct {
		SPDXVersion string
		Packages    []struct{ Name, VersionInfo string }
	}
	if err := json.Unmarshal([]byte(read(t, file)), &sbom); err != nil {
		t.Fatal(err)
	}
	modules := map[string]string{}
	for _, p := range sbom.Packages {
		modules[p.Name] = p.VersionInfo
	}
	if _, ok := modules["github.com/meshmart/meshmart"]; !ok || !strings.HasPrefix(modules["google.golang.org/grpc"], "v1.") || !strings.HasPrefix(sbom.SPDXVersion, "SPDX-2") {
		t.Errorf("%s (%s) has %v", filepath.Base(file), sbom.SPDXVersion, modules)
	}
}

func TestWhatIsNoReleaseIsRefused(t *testing.T) {
	follow.Needs(t, "git", "bash")
	tree := filepath.Join(t.TempDir(), "meshmart")
	follow.Tree(t, tree)
	for _, tt := range []struct{ args, want string }{
		{"-dry-run v9.9.9", `CHANGELOG.md has no section "## v9.9.9"`},
		{"-dry-run 1.2", "the version 1.2 is none such as v1.2.3"},
		{"v1.2.3", "-push REPOSITORY"},
		{"-push localhost:1/x v1.2.3", "this commit has no tag v1.2.3"},
		{"", "which version?"},
		{"-fast", "usage:"},
	} {
		said, err := follow.Run(t, tree, os.Environ(), "tools/release "+tt.args)
		if err == nil || !strings.Contains(said, tt.want) {
			t.Errorf("tools/release %s: %v, and says %q; want %q", tt.args, err, said, tt.want)
		}
	}
	if said, err := follow.Run(t, tree, os.Environ(), "git tag v1.2.3 && touch new && tools/release -push localhost:1/x v1.2.3"); err == nil || !strings.Contains(said, "not committed") {
		t.Errorf("of what is not committed: %v, %s", err, said)
	}
}

type workflow struct {
	On          map[string]any
	Permissions any
	Jobs        map[string]struct {
		Steps []struct{ Uses, Run string }
	}
}

// TestWorkflowsDoNothingElse holds them to calling what can be tried here, and to
// actions of one commit each.
func TestWorkflowsDoNothingElse(t *testing.T) {
	root := follow.Root(t)
	files, err := filepath.Glob(filepath.Join(root, ".github", "workflows", "*.yaml"))
	if err != nil || len(files) < 2 {
		t.Fatalf("only the workflows %v: %v", files, err)
	}
	pinned := regexp.MustCompile(`^[a-z-]+/[a-z-]+@[0-9a-f]{40}$`)
	var runs []string
	for _, f := range files {
		var w workflow
		if err := yaml.Unmarshal([]byte(read(t, f)), &w); err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		if w.Permissions == nil {
			t.Errorf("%s has all permissions", f)
		}
		for _, job := range w.Jobs {
			for _, s := range job.Steps {
				if s.Uses != "" && !pinned.MatchString(s.Uses) {
					t.Errorf("%s: %q is not pinned to a commit", f, s.Uses)
				}
				if s.Run != "" {
					runs = append(runs, s.Run)
				}
			}
		}
	}
	slices.Sort(runs)
	if diff := cmp.Diff([]string{".ci/run", `tools/release -push "ghcr.io/$GITHUB_REPOSITORY" "$GITHUB_REF_NAME"`}, runs); diff != "" {
		t.Errorf("what workflows run (-want +got):\n%s", diff)
	}
}

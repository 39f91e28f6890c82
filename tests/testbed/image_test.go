package testbed

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/network"
	"github.com/testcontainers/testcontainers-go/wait"
)

// largest is what the files of a service's image may come to: 25 MiB.
const largest = 25 << 20

// TestImages looks at the images that all tests of this package run.
func TestImages(t *testing.T) {
	NeedsDocker(t)
	names, err := ServiceImages(t.Context(), "testbed", "")
	if err != nil {
		t.Fatal(err)
	}
	docker, err := testcontainers.NewDockerClientWithOpts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = docker.Close() })
	var sizes []string
	for _, service := range Services {
		got, err := docker.ImageInspect(t.Context(), names[service])
		if err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, fmt.Sprintf("%s %.1f", service, float64(got.Size)/1e6))
		if got.Size > largest {
			t.Errorf("%s: %d bytes, more than %d", service, got.Size, largest)
		}
		want := []string{"/ko-app/" + service}
		if diff := cmp.Diff(want, got.Config.Entrypoint); diff != "" {
			t.Errorf("%s: entrypoint (-want +got):\n%s", service, diff)
		}
		if got.Config.User != "65532:65532" {
			t.Errorf("%s: the user is %q, which a cluster can't tell from root", service, got.Config.User)
		}
	}
	t.Logf("figure: images, MB: %s", strings.Join(sizes, ", "))
}

// TestImageIsReproducible builds one from two folders: here, and in a copy that is
// no clone, with other times and nothing remembered of the first.
func TestImageIsReproducible(t *testing.T) {
	root := moduleRoot(t)
	tool := run(t, root, nil, filepath.Join(root, "tools/bin"), "images")
	elsewhere := t.TempDir()
	copySource(t, root, elsewhere)
	var got [2]string
	for i, dir := range []string{elsewhere, root} {
		layout := t.TempDir()
		env := []string{"MESHMART_CACHE=" + t.TempDir(), "VERSION=v1.2.3"}
		run(t, dir, env, tool, "-scratch", "-layout", layout, "-platform", "linux/amd64", "greeter")
		index, err := os.ReadFile(filepath.Join(layout, "index.json"))
		if err != nil {
			t.Fatal(err)
		}
		got[i] = string(index)
		wantSBOM(t, filepath.Join(layout, "sbom", "greeter-linux-amd64.spdx.json"), "google.golang.org/grpc")
	}
	if diff := cmp.Diff(got[0], got[1]); diff != "" {
		t.Errorf("the same source made two images (-elsewhere +here):\n%s", diff)
	}
}

// TestShopImage runs the all-in-one, which keeps its data in one volume.
func TestShopImage(t *testing.T) {
	NeedsDocker(t)
	root := moduleRoot(t)
	run(t, root, []string{"VERSION=test"}, filepath.Join(root, "tools/bin"), "-exec", "images", "-scratch", "-docker", "-tag", "testbed", "shop", "shopctl")
	if err := engineIsHere(); err != nil {
		t.Fatal(err)
	}
	nw, err := network.New(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	testcontainers.CleanupNetwork(t, nw)
	shop, err := testcontainers.Run(t.Context(), "meshmart/shop:testbed",
		testcontainers.WithHostConfigModifier((&Bed{opt: Options{Engine: SQLite}}).restrict),
		testcontainers.WithEnv(map[string]string{"HTTP_ADDR": ":8080", "DATA_DIR": dataDir}),
		testcontainers.WithExposedPorts(portHTTP),
		testcontainers.WithWaitStrategy(wait.ForHTTP("/healthz").WithPort(portHTTP)),
		network.WithNetwork([]string{"shop"}, nw),
	)
	testcontainers.CleanupContainer(t, shop)
	if err != nil {
		t.Fatal(err)
	}
	url, err := shop.PortEndpoint(t.Context(), portHTTP, "http")
	if err != nil {
		t.Fatal(err)
	}
	if products, err := get(t.Context(), url+"/v1/products"); err != nil || !strings.Contains(products, `"products"`) {
		t.Errorf("the products: %v, %v", products, err)
	}
	ctl, err := testcontainers.Run(t.Context(), "meshmart/shopctl:testbed",
		testcontainers.WithHostConfigModifier((&Bed{}).restrict),
		testcontainers.WithCmd("-help"), testcontainers.WithWaitStrategy(wait.ForExit()))
	testcontainers.CleanupContainer(t, ctl)
	if err != nil {
		t.Fatal(err)
	}
	if state, err := ctl.State(t.Context()); err != nil || state.ExitCode != 0 {
		t.Errorf("shopctl -help: %+v, %v", state, err)
	}
}

func moduleRoot(t *testing.T) string {
	return run(t, ".", nil, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/meshmart/meshmart")
}

// run returns what a program prints, without spaces around it.
func run(t *testing.T, dir string, env []string, name string, args ...string) string {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir, cmd.Env, cmd.Stderr = dir, append(os.Environ(), env...), &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, &stderr)
	}
	return strings.TrimSpace(string(out))
}

// copySource copies what images are made of.
func copySource(t *testing.T, from, to string) {
	t.Helper()
	for _, name := range []string{".ko.yaml", "go.mod", "go.sum"} {
		text, err := os.ReadFile(filepath.Join(from, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"proto", "services", "mesh"} {
		if err := os.CopyFS(filepath.Join(to, name), os.DirFS(filepath.Join(from, name))); err != nil {
			t.Fatal(err)
		}
	}
}

// wantSBOM wants the file to be an SBOM in SPDX that names a module.
func wantSBOM(t *testing.T, file, module string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var sbom struct {
		SPDXVersion string
		Packages    []struct{ Name string }
	}
	if err := json.Unmarshal(text, &sbom); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(sbom.SPDXVersion, "SPDX-2") {
		t.Errorf("%s: the version is %q", file, sbom.SPDXVersion)
	}
	for _, p := range sbom.Packages {
		if p.Name == module {
			return
		}
	}
	t.Errorf("%s does not name %s", file, module)
}

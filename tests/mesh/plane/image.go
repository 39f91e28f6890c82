package plane

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/meshmart/meshmart/tests/testbed"
)

// One container is a whole control plane: istiod, and the Kubernetes API that it
// reads. They share files, and nothing else is in the image.
const dockerfile = `FROM scratch
COPY kubestub pilot-discovery definitions.yaml mesh.yaml /
COPY kubeconfig /kubeconfig
`

// meshConfig is of the whole mesh; what else there is is Istio's default.
const meshConfig = `trustDomain: cluster.local
rootNamespace: istio-system
`

// BuildImage makes the image of the control plane from the tools of the
// repository in the folder root. It is removed when the process has ended.
func BuildImage(ctx context.Context, root string) (string, error) {
	return testbed.Image(ctx, "meshmart-istiod", func(dir string) error { return fill(ctx, root, dir) })
}

// fill puts into a folder what the image is made of.
func fill(ctx context.Context, root, dir string) error {
	istiod, err := Tool(ctx, root, "pilot-discovery")
	if err != nil {
		return err
	}
	if err := os.Link(istiod, filepath.Join(dir, "pilot-discovery")); err != nil {
		if err := copyFile(istiod, filepath.Join(dir, "pilot-discovery")); err != nil {
			return err
		}
	}
	definitions, err := Definitions(ctx, root)
	if err != nil {
		return err
	}
	for name, content := range map[string]string{"Dockerfile": dockerfile, "mesh.yaml": meshConfig, "kubeconfig": "", "definitions.yaml": definitions} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			return err
		}
	}
	kubestub := testbed.Build{
		Dir: filepath.Join(root, "tests", "mesh"), Out: filepath.Join(dir, "kubestub"), Tags: "grpcnotrace", Packages: []string{"./cmd/kubestub"},
	}
	return kubestub.Run(ctx)
}

func copyFile(from, to string) error {
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, content, 0o700)
}

// Tool returns the path of one of the programs of tools/, which are built once.
func Tool(ctx context.Context, root, name string) (string, error) {
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, filepath.Join(root, "tools", "bin"), name)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("tools/bin %s: %w\n%s", name, err, stderr.Bytes())
	}
	return strings.TrimSpace(string(out)), nil
}

// Definitions are the CustomResourceDefinitions of the Istio and the Gateway API
// that tools/istio names.
func Definitions(ctx context.Context, root string) (string, error) {
	istio, err := Module(ctx, root, "istio.io/istio")
	if err != nil {
		return "", err
	}
	gateway, err := Module(ctx, root, "sigs.k8s.io/gateway-api")
	if err != nil {
		return "", err
	}
	return join(filepath.Join(istio, "manifests/charts/base/files/crd-all.gen.yaml"), filepath.Join(gateway, "config/crd/standard/gateway*.yaml"))
}

// LinkerdDefinitions are those of Linkerd 2.20, and of the Gateway API that its
// routes are of.
func LinkerdDefinitions(ctx context.Context, root string) (string, error) {
	gateway, err := Module(ctx, root, "sigs.k8s.io/gateway-api@v1.2.1")
	if err != nil {
		return "", err
	}
	return join(filepath.Join(root, "tests/mesh/testdata/crds/linkerd/*.yaml"), filepath.Join(gateway, "config/crd/standard/gateway*.yaml"))
}

// join returns the YAML documents of all files that match.
func join(patterns ...string) (string, error) {
	var all []string
	for _, p := range patterns {
		files, err := filepath.Glob(p)
		if err != nil || len(files) == 0 {
			return "", fmt.Errorf("no file %s: %w", p, err)
		}
		for _, f := range files {
			text, err := os.ReadFile(f)
			if err != nil {
				return "", err
			}
			all = append(all, string(text))
		}
	}
	return strings.Join(all, "\n---\n"), nil
}

// Module returns the folder of a Go module, which is downloaded first if it is
// not there. Without a version it is that of tools/istio.
func Module(ctx context.Context, root, module string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", "mod", "download", "-json", module)
	cmd.Dir = filepath.Join(root, "tools", "istio")
	cmd.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off")
	out, err := cmd.Output()
	var found struct{ Dir, Error string }
	if jsonErr := json.Unmarshal(out, &found); jsonErr != nil || found.Dir == "" {
		return "", fmt.Errorf("download %s: %s: %w", module, found.Error, err)
	}
	return found.Dir, nil
}

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

	"github.com/testcontainers/testcontainers-go"

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
	if err := testbed.EngineIsHere(); err != nil {
		return "", err
	}
	return build(ctx, "meshmart-istiod", func(dir string) error { return fill(ctx, root, dir) })
}

// BuildServices makes the image of the shop's own services as they run without
// proxies: /bin/NAME for each. It is removed when the process has ended.
func BuildServices(ctx context.Context, root string) (string, error) {
	if err := testbed.EngineIsHere(); err != nil {
		return "", err
	}
	return build(ctx, "meshmart-proxyless", func(dir string) error {
		if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte("FROM scratch\nCOPY bin/ /bin/\n"), 0o600); err != nil {
			return err
		}
		if err := os.Mkdir(filepath.Join(dir, "bin"), 0o700); err != nil {
			return err
		}
		var packages []string
		for _, name := range testbed.Services {
			packages = append(packages, "./services/cmd/"+name)
		}
		return compile(ctx, root, filepath.Join(dir, "bin"), packages...)
	})
}

// build makes an image of what fill puts into a folder.
func build(ctx context.Context, name string, fill func(dir string) error) (string, error) {
	dir, err := os.MkdirTemp("", "image")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	if err := fill(dir); err != nil {
		return "", err
	}
	provider, err := testcontainers.NewDockerProvider()
	if err != nil {
		return "", err
	}
	defer provider.Close()
	image, err := provider.BuildImage(ctx, &testcontainers.ContainerRequest{FromDockerfile: testcontainers.FromDockerfile{
		Context: dir, Repo: name, Tag: fmt.Sprint(os.Getpid()),
	}})
	if err != nil {
		return "", fmt.Errorf("build image %s: %w", name, err)
	}
	return image, nil
}

// compile builds programs of the module in dir as `make build` does, with xDS.
func compile(ctx context.Context, dir, out string, packages ...string) error {
	args := []string{"build", "-trimpath", "-buildvcs=false", "-tags", "grpcnotrace,proxyless", "-ldflags", "-s -w", "-o", out}
	cmd := exec.CommandContext(ctx, "go", append(args, packages...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", packages[0], err, text)
	}
	return nil
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
	return compile(ctx, filepath.Join(root, "tests", "mesh"), filepath.Join(dir, "kubestub"), "./cmd/kubestub")
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

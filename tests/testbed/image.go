package testbed

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/testcontainers/testcontainers-go"
)

// The services' image has their binaries and nothing else.
const dockerfile = `FROM scratch
COPY bin/ /bin/
`

// buildImage compiles the services and returns the image they are in.
func (b *Bed) buildImage(ctx context.Context) (string, error) {
	b.opt.Progress("building the services")
	dir, err := os.MkdirTemp("", "testbed")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	if err := compile(ctx, filepath.Join(dir, "bin")); err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(dockerfile), 0o600); err != nil {
		return "", err
	}
	provider, err := testcontainers.NewDockerProvider()
	if err != nil {
		return "", err
	}
	defer provider.Close()
	image, err := provider.BuildImage(ctx, &testcontainers.ContainerRequest{FromDockerfile: testcontainers.FromDockerfile{
		Context: dir, Repo: "meshmart-testbed", Tag: fmt.Sprintf("%d", os.Getpid()),
	}})
	if err != nil {
		return "", fmt.Errorf("build image: %w", err)
	}
	return image, nil
}

// compile builds the services as `make build` does, all but what people start.
func compile(ctx context.Context, bin string) error {
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return fmt.Errorf("find the module: %w", err)
	}
	if err := os.Mkdir(bin, 0o700); err != nil {
		return err
	}
	args := []string{"build", "-trimpath", "-buildvcs=false", "-tags", "grpcnotrace", "-ldflags", "-s -w", "-o", bin}
	for _, name := range Services {
		args = append(args, "./services/cmd/"+name)
	}
	build := exec.CommandContext(ctx, "go", args...)
	build.Dir = strings.TrimSpace(string(root))
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the services: %w\n%s", err, out)
	}
	return nil
}

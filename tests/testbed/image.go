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

// ServicesImage compiles the services as `make build` does, with those tags, and
// makes an image in which each is /bin/NAME.
func ServicesImage(ctx context.Context, name, tags string) (string, error) {
	return Image(ctx, name, func(dir string) error {
		root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/meshmart/meshmart").Output()
		if err != nil {
			return fmt.Errorf("find the module: %w", err)
		}
		if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(dockerfile), 0o600); err != nil {
			return err
		}
		b := Build{Dir: strings.TrimSpace(string(root)), Out: filepath.Join(dir, "bin"), Tags: tags}
		for _, name := range Services {
			b.Packages = append(b.Packages, "./services/cmd/"+name)
		}
		if err := os.Mkdir(b.Out, 0o700); err != nil {
			return err
		}
		return b.Run(ctx)
	})
}

// Image makes an image of what fill puts into a folder, a Dockerfile among it.
// It is removed when the process has ended.
func Image(ctx context.Context, name string, fill func(dir string) error) (string, error) {
	if err := engineIsHere(); err != nil {
		return "", err
	}
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

// Build is programs to be compiled, static as for an image with nothing else.
type Build struct {
	Dir      string   // of the module
	Out      string   // the program, or an existing folder for several
	Tags     string   // with commas between
	Packages []string // as for go build
}

// Run compiles them. The error has what the compiler says.
func (b Build) Run(ctx context.Context) error {
	args := []string{"build", "-trimpath", "-buildvcs=false", "-tags", b.Tags, "-ldflags", "-s -w", "-o", b.Out}
	cmd := exec.CommandContext(ctx, "go", append(args, b.Packages...)...)
	cmd.Dir = b.Dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", b.Packages[0], err, text)
	}
	return nil
}

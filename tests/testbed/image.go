package testbed

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/testcontainers/testcontainers-go"
)

// dataDir is where the services' images let them write, if it is a volume.
const dataDir = "/home/nonroot"

// ServiceImages has ko make the images of the services for this machine, as `make
// images` does but on a base that needs no registry, under that tag and with these
// build tags of Go ("": those of .ko.yaml). It returns their names. They stay: what
// is as it was is not made again.
func ServiceImages(ctx context.Context, tag, gotags string) (map[string]string, error) {
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/meshmart/meshmart").Output()
	if err != nil {
		return nil, fmt.Errorf("find the module: %w", err)
	}
	args := append([]string{"-exec", "images", "-scratch", "-docker", "-tag", tag, "-gotags", gotags}, Services...)
	cmd := exec.CommandContext(ctx, "tools/bin", args...)
	cmd.Dir = strings.TrimSpace(string(root))
	cmd.Env = append(os.Environ(), "VERSION=test")
	if text, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("make images: %w\n%s", err, text)
	}
	names := map[string]string{}
	for _, name := range Services {
		names[name] = "meshmart/" + name + ":" + tag
	}
	return names, nil
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

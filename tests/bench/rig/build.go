// Package rig builds and starts what is measured: the services as processes of
// their own on PostgreSQL, the shop in one process on SQLite, the bare server,
// a broker and a database that is durable.
package rig

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Services are those that run as processes of their own.
var Services = []string{"product", "user", "inventory", "payment", "order", "greeter", "gateway"}

// Programs are binaries by their names: the services, shop, bare and nats-server.
type Programs map[string]string

// tags are those of `make build`; services that keep their data in PostgreSQL are
// built without SQLite as well, as in .ko.yaml.
const tags = "grpcnotrace,nethttpomithttp2,nopgxregisterdefaulttypes"

// Root is the folder of the module.
func Root(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/meshmart/meshmart").Output()
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// Tools compiles into dir what is measured beside the services: the bare server
// and the broker.
func Tools(ctx context.Context, root, dir string) (Programs, error) {
	p := Programs{}
	for name, path := range map[string]string{
		"bare":        "github.com/meshmart/meshmart/tests/bench/bare",
		"nats-server": "github.com/nats-io/nats-server/v2",
	} {
		p[name] = filepath.Join(dir, name)
		if err := compile(ctx, root, "-tags", tags, "-o", p[name], path); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// Build adds the services, which it compiles into dir as those of the images are,
// or takes from have, a folder of binaries. With profile they serve pprof beside
// their work.
func (p Programs) Build(ctx context.Context, root, dir, have string, profile bool) error {
	for _, name := range append([]string{"shop"}, Services...) {
		p[name] = filepath.Join(dir, name)
		if have != "" {
			p[name] = filepath.Join(have, name)
			if _, err := os.Stat(p[name]); err != nil {
				return err
			}
		}
	}
	if have != "" {
		return nil
	}
	return buildServices(ctx, root, dir, profile)
}

func buildServices(ctx context.Context, root, dir string, profile bool) error {
	args := []string{"-ldflags", "-s -w", "-o", dir + "/"}
	if profile {
		overlay, err := profiled(root, dir)
		if err != nil {
			return err
		}
		args = append(args, "-overlay", overlay)
	}
	if err := compile(ctx, root, append(slices.Clone(args), "-tags", tags, "./services/cmd/shop")...); err != nil {
		return err
	}
	args = append(args, "-tags", tags+",nosqlite")
	for _, name := range Services {
		args = append(args, "./services/cmd/"+name)
	}
	return compile(ctx, root, args...)
}

func compile(ctx context.Context, root string, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", append([]string{"build", "-trimpath", "-buildvcs=false"}, args...)...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go %s: %w\n%s", strings.Join(cmd.Args[1:], " "), err, out)
	}
	return nil
}

// Package contracttest is the shop's own contracts, for the tests of targets.
package contracttest

import (
	"bytes"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/contract"
	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/target"
	_ "github.com/meshmart/meshmart/proto/greeter/v1"
	_ "github.com/meshmart/meshmart/proto/inventory/v1"
	_ "github.com/meshmart/meshmart/proto/order/v1"
	_ "github.com/meshmart/meshmart/proto/payment/v1"
	_ "github.com/meshmart/meshmart/proto/product/v1"
	_ "github.com/meshmart/meshmart/proto/user/v1"
)

// Root is the folder of the repository: the nearest one above a test's own that
// has what generates. (runtime.Caller knows none where paths are trimmed.)
func Root() string {
	dir, err := os.Getwd()
	if err != nil {
		panic(err)
	}
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, template)); err == nil {
			return dir
		}
	}
	panic("contracttest: not in the repository")
}

// template is what tells the folder of the repository.
const template = "buf.gen.mesh.yaml"

// Shop returns all contracts as they are compiled into this program, with the
// options of buf.gen.mesh.yaml. Compiled descriptors know no lines: all are 0.
func Shop(t testing.TB) *contract.Shop {
	t.Helper()
	s, err := contract.Read(files(), options(t))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func files() []protoreflect.FileDescriptor {
	var fs []protoreflect.FileDescriptor
	protoregistry.GlobalFiles.RangeFiles(func(f protoreflect.FileDescriptor) bool {
		opts, _ := f.Options().(interface{ GetGoPackage() string })
		if strings.HasPrefix(opts.GetGoPackage(), "github.com/meshmart/") {
			fs = append(fs, f)
		}
		return true
	})
	return fs
}

func options(t testing.TB) contract.Options {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(Root(), template))
	if err != nil {
		t.Fatal(err)
	}
	var buf struct {
		Plugins []struct {
			Opt []string
		}
	}
	if err := yaml.Unmarshal(text, &buf); err != nil || len(buf.Plugins) != 1 {
		t.Fatalf("buf.gen.mesh.yaml: %d plugins, %v", len(buf.Plugins), err)
	}
	var o contract.Options
	fs := flag.NewFlagSet("", flag.ContinueOnError)
	o.Flags(fs)
	for _, opt := range buf.Plugins[0].Opt {
		name, value, _ := strings.Cut(opt, "=")
		if err := fs.Set(name, value); err != nil {
			t.Fatalf("buf.gen.mesh.yaml: %s: %v", opt, err)
		}
	}
	return o
}

// Objects reads every document of the YAML in the files whose path, from the
// repository, begins with the prefix.
func Objects[T any](t testing.TB, files []target.File, prefix string) []T {
	t.Helper()
	var all []T
	for _, f := range files {
		if !strings.HasPrefix(f.Path, prefix) {
			continue
		}
		d := yaml.NewDecoder(bytes.NewReader(f.Content))
		for {
			var o T
			if err := d.Decode(&o); err == io.EOF {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", f.Path, err)
			}
			all = append(all, o)
		}
	}
	return all
}

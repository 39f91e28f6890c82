// Command protodeps prints the third-party .proto files that the contracts
// import, taken from the descriptors compiled into the Go modules that the
// product links anyway. So there is one pinned version of each, no copy in the
// tree, and no registry to ask.
package main

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"

	"github.com/jhump/protoreflect/v2/protoprint"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	_ "buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	_ "github.com/grpc-ecosystem/grpc-gateway/v2/protoc-gen-openapiv2/options"
	_ "google.golang.org/genproto/googleapis/api/annotations"
	_ "google.golang.org/genproto/googleapis/rpc/code"
	_ "google.golang.org/genproto/googleapis/rpc/errdetails"
	_ "google.golang.org/genproto/googleapis/rpc/status"
	_ "google.golang.org/genproto/googleapis/type/money"
)

// The files that a contract may import; what these import comes along.
var wanted = []string{
	"buf/validate/validate.proto",
	"google/api/annotations.proto",
	"google/api/client.proto",
	"google/api/field_behavior.proto",
	"google/api/field_info.proto",
	"google/api/http.proto",
	"google/api/resource.proto",
	"google/rpc/code.proto",
	"google/rpc/error_details.proto",
	"google/rpc/status.proto",
	"google/type/money.proto",
	"protoc-gen-openapiv2/options/annotations.proto",
	"protoc-gen-openapiv2/options/openapiv2.proto",
}

// The modules that hold them, and the runtime of the generated code: what is
// printed and generated must fit what the product links.
var pinned = []string{
	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go",
	"github.com/grpc-ecosystem/grpc-gateway/v2",
	"google.golang.org/genproto",
	"google.golang.org/genproto/googleapis/api",
	"google.golang.org/genproto/googleapis/rpc",
	"google.golang.org/protobuf",
}

func main() {
	out := flag.String("out", "", "folder to print into")
	gomod := flag.String("gomod", "", "the product's go.mod, whose versions must equal this tool's")
	flag.Parse()
	if *out == "" || *gomod == "" {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(*out, *gomod); err != nil {
		fmt.Fprintln(os.Stderr, "protodeps:", err)
		os.Exit(1)
	}
}

func run(out, gomod string) error {
	if err := checkVersions(gomod); err != nil {
		return err
	}
	files := map[string]protoreflect.FileDescriptor{}
	for _, path := range wanted {
		fd, err := protoregistry.GlobalFiles.FindFileByPath(path)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		add(files, fd)
	}
	var printer protoprint.Printer
	for path, fd := range files {
		text, err := printer.PrintProtoToString(fd)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if err := write(filepath.Join(out, filepath.FromSlash(path)), text); err != nil {
			return err
		}
	}
	return prune(out, files)
}

// write replaces the file in one step, and only when it differs: another run
// may be reading it.
func write(file, text string) error {
	if old, err := os.ReadFile(file); err == nil && string(old) == text {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	tmp := fmt.Sprintf("%s.%d", file, os.Getpid())
	if err := os.WriteFile(tmp, []byte(text), 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, file)
}

// prune removes what an earlier version printed and this one does not.
func prune(out string, files map[string]protoreflect.FileDescriptor) error {
	return filepath.WalkDir(out, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".proto" {
			return err
		}
		rel, err := filepath.Rel(out, path)
		if err != nil || files[filepath.ToSlash(rel)] != nil {
			return err
		}
		return os.Remove(path)
	})
}

func add(files map[string]protoreflect.FileDescriptor, fd protoreflect.FileDescriptor) {
	// google/protobuf is built into every compiler.
	if strings.HasPrefix(fd.Path(), "google/protobuf/") {
		return
	}
	files[fd.Path()] = fd
	for i := range fd.Imports().Len() {
		add(files, fd.Imports().Get(i).FileDescriptor)
	}
}

func checkVersions(gomod string) error {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return fmt.Errorf("built without module information")
	}
	here := map[string]string{}
	for _, dep := range info.Deps {
		here[dep.Path] = dep.Version
	}
	text, err := os.ReadFile(gomod)
	if err != nil {
		return err
	}
	product := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(strings.TrimPrefix(strings.TrimSpace(line), "require ")); len(f) >= 2 {
			product[f[0]] = f[1]
		}
	}
	for _, mod := range pinned {
		// Not required by the product yet: no contract imports it.
		if v, ok := product[mod]; ok && v != here[mod] {
			return fmt.Errorf("%s is %s in the product's go.mod and %s in tools/proto/go.mod; run: (cd tools/proto && go get %s@%s && go mod tidy)",
				mod, v, here[mod], mod, v)
		}
	}
	return nil
}

package services

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/meshmart/meshmart/"

// A service is one package whose layers are files; the prefix of a file's name
// tells its layer (store_list.go belongs to the store). TestLayers holds each
// file to what its layer may know, and the runtime to knowing no service.
func TestLayers(t *testing.T) {
	checked := 0
	err := filepath.WalkDir(".", func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		checked++
		for _, imp := range f.Imports {
			p, _ := strconv.Unquote(imp.Path.Value)
			if why := forbidden(filepath.ToSlash(file), p); why != "" {
				t.Errorf("%s imports %s: %s", file, p, why)
			}
		}
		return nil
	})
	if err != nil || checked < 50 {
		t.Fatalf("checked %d files: %v", checked, err)
	}
}

// forbidden says why a file may not import a package, or "".
func forbidden(file, imported string) string {
	own, ours := strings.CutPrefix(imported, module)
	switch dir, _, _ := strings.Cut(file, "/"); dir {
	case "cmd", "shop": // put services together
		return ""
	case "internal":
		return forbiddenToRuntime(file, own, ours)
	case "gateway", "shopctl": // have no state and speak for or to all
		if isDatabase(imported, own, ours) {
			return "only services have a database"
		}
		return otherService(dir, own, ours)
	default:
		if why := otherService(dir, own, ours); why != "" {
			return why
		}
		return forbiddenToLayer(layer(file), imported, own, ours)
	}
}

func forbiddenToRuntime(file, own string, ours bool) string {
	service := ours && strings.HasPrefix(own, "services/") && !strings.HasPrefix(own, "services/internal/")
	contract := ours && strings.HasPrefix(own, "proto/") && own != "proto/mesh/v1"
	switch {
	case service:
		return "the runtime knows no service"
	case contract && own == "proto/user/v1" && slices.Contains([]string{"internal/auth", "internal/app", "internal/app/apptest"}, path.Dir(file)):
		return "" // tokens come from the user service: its contract says how
	case contract:
		return "the runtime knows no contract"
	}
	return ""
}

// forbiddenToLayer says what the files of one service may not know.
func forbiddenToLayer(layer, imported, own string, ours bool) string {
	switch {
	case imported == "database/sql" && layer != "store":
		return "only the store speaks SQL"
	case isDatabase(imported, own, ours) && !slices.Contains([]string{"store", "events", "service"}, layer):
		return "only the store, the events and the wiring know the database"
	case (strings.HasPrefix(imported, "google.golang.org/") || ours && strings.HasPrefix(own, "proto/")) &&
		!slices.Contains([]string{"handler", "clients", "events", "service"}, layer):
		return "only the edges of a service know gRPC and its contracts"
	}
	return ""
}

func isDatabase(imported, own string, ours bool) bool {
	return imported == "database/sql" || ours && own == "services/internal/db"
}

func otherService(dir, own string, ours bool) string {
	p, ok := strings.CutPrefix(own, "services/")
	if !ours || !ok || strings.HasPrefix(p, "internal/") || p == dir || strings.HasPrefix(p, dir+"/") {
		return ""
	}
	return "services meet over gRPC, not in Go"
}

func layer(file string) string {
	name := strings.TrimSuffix(path.Base(file), ".go")
	l, _, _ := strings.Cut(name, "_")
	return l
}

func TestForbidden(t *testing.T) {
	for _, tt := range []struct {
		file, imported string
		ok             bool
	}{
		{"order/store.go", "database/sql", true},
		{"order/store_list.go", module + "services/internal/db", true},
		{"order/order.go", module + "services/internal/db", false},
		{"order/order.go", module + "services/internal/fault", true},
		{"order/order.go", "google.golang.org/grpc", false},
		{"order/handler.go", "google.golang.org/grpc", true},
		{"order/handler.go", "database/sql", false},
		{"order/clients.go", module + "proto/inventory/v1", true},
		{"order/clients.go", module + "services/inventory", false},
		{"internal/db/db.go", module + "services/order", false},
		{"internal/rpc/server.go", module + "proto/order/v1", false},
		{"internal/auth/remote.go", module + "proto/user/v1", true},
		{"gateway/rest.go", "database/sql", false},
		{"gateway/rest.go", module + "proto/order/v1", true},
		{"shop/shop.go", module + "services/order", true},
		{"shopctl/orders.go", module + "proto/order/v1", true},
		{"shopctl/orders.go", module + "services/order", false},
	} {
		if got := forbidden(tt.file, tt.imported) == ""; got != tt.ok {
			t.Errorf("%s importing %s: allowed %v, want %v", tt.file, tt.imported, got, tt.ok)
		}
	}
}

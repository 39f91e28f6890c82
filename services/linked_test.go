package services

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"
)

// unlinked is what no image of a service is made of, by how import paths begin:
// what one of them takes in by accident, all of them carry.
var unlinked = map[string]string{
	"modernc.org":                    "images are for PostgreSQL: it is for what is built without -tags nosqlite",
	"github.com/nats-io/nats-server": "the broker is a server of its own",
	"google.golang.org/grpc/xds":     "it is for what is built with -tags proxyless",
	"github.com/envoyproxy":          "it is for what is built with -tags proxyless",
	"github.com/cncf/xds":            "it is for what is built with -tags proxyless",
	"go.etcd.io":                     "it is for what is built with -tags etcd",
	"go.uber.org/zap":                "it is for what is built with -tags etcd",
	"golang.org/x/net/trace":         "it is for what is built without -tags grpcnotrace",
	"html/template":                  "it finds methods by name, and so has the linker keep all there are",
	"net/http/pprof":                 "profiles are not for whoever reaches a port",
	"net/http/httptest":              "it is for tests",
	"testing":                        "it is for tests",
	"github.com/go-openapi":          "it is for generators",
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp":   "telemetry goes over gRPC",
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp": "telemetry goes over gRPC",
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploghttp":       "telemetry goes over gRPC",
}

// TestImagesOfServicesHaveNothingTheyDoNotUse looks at what they are compiled of;
// how large they may be is in tests/testbed/image_test.go.
func TestImagesOfServicesHaveNothingTheyDoNotUse(t *testing.T) {
	list := exec.Command("go", "list", "-tags", imageTags(t), "-f", "{{.ImportPath}}{{range .Deps}} {{.}}{{end}}", "./cmd/...")
	var stderr bytes.Buffer
	list.Stderr = &stderr
	out, err := list.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, &stderr)
	}
	checked := 0
	for line := range strings.Lines(string(out)) {
		program, deps, _ := strings.Cut(strings.TrimSpace(line), " ")
		if program == module+"services/cmd/shop" { // has all with it
			continue
		}
		checked++
		for _, dep := range strings.Fields(deps) {
			for unwanted, why := range unlinked {
				if strings.HasPrefix(dep+"/", unwanted+"/") {
					t.Errorf("%s has %s: %s", program, dep, why)
				}
			}
		}
	}
	if checked < 7 {
		t.Errorf("checked %d programs", checked)
	}
}

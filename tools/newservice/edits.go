package main

import (
	"slices"
	"strings"
)

// imports is the end of the first import declaration; gofmt sorts what is put there.
const imports = `(?s)\A(.*?\nimport \(.*?\n)\)\n`

// edits are the lines that files which are there need. A list is found by what it
// looks like, not by what is in it.
func edits() []edit {
	return slices.Concat(code(), manifests(), watched(), operations(), tests())
}

// code is where a service is wired.
func code() []edit {
	return []edit{
		{"services/shop/shop.go", imports, "${1}\t\"github.com/meshmart/meshmart/services/gadget\"\n)\n"},
		{"services/shop/shop.go", `(?m)^(\t\t\t\{\w+\.New\(\), "\d+"\},\n)\t\t\},\n\t\}\n\}\n`, "${1}\t\t\t{gadget.New(), \"PORT\"},\n\t\t},\n\t}\n}\n"},
		{"services/gateway/routed.go", imports, "${1}\tgadgetpb \"github.com/meshmart/meshmart/proto/gadget/v1\"\n)\n"},
		{
			"services/gateway/routed.go", `(?s)(\treturn \[\]routedService\{\n.*?)\n\t\}\n\}\n`,
			"${1}\n\t\t{\"gadget\", gadgetpb.File_gadget_v1_gadget_proto},\n\t}\n}\n",
		},
		{"mesh/protoc-gen-mesh/contract/contracttest/contracttest.go", imports, "${1}\t_ \"github.com/meshmart/meshmart/proto/gadget/v1\"\n)\n"},
		{
			"README.md", "((?m:^\\| \\w+ \\| `127\\.0\\.0\\.1:\\d+` \\|.*\\n)+)",
			"${1}| gadget | `127.0.0.1:PORT` | gadgets, each of which is somebody's own | |\n",
		},
	}
}

// manifests are what deploys it, and who may go to the stores.
func manifests() []edit {
	return []edit{
		{"mesh/base/services/kustomization.yaml", `(resources: \[[^\]]*), gateway\.yaml\]`, "${1}, gadget.yaml, gateway.yaml]"},
		{"mesh/base/stores/databases.sql", `(CREATE DATABASE shop_\w+;\n)\z`, "${1}CREATE DATABASE shop_gadget;\n"},
		{
			"mesh/base/stores/kustomization.yaml", `((?m:^      - \w+=postgres://\S+\n)+)`,
			"${1}      - gadget=postgres://shop:shop@postgres:5432/shop_gadget?sslmode=disable\n",
		},
		{"mesh/base/managed/egress.yaml", `(operator: In, values: \[[^\]]*)\]`, "${1}, gadget]"},
		{"buf.gen.mesh.yaml", `(- backend=postgres:5432:\S+)`, "${1}+gadget"},
		{"buf.gen.mesh.yaml", `(- backend=nats:4222:\S+)`, "${1}+gadget"},
		{"buf.gen.mesh.yaml", `(- backend=otel-collector:4317:\S+)`, "${1}+gadget"},
		{
			"observability/grafana/kustomization.yaml", `((?m:^      - dashboards/service-\w+\.json\n)+)`,
			"${1}      - dashboards/service-gadget.json\n",
		},
	}
}

// watched is what skaffold builds it of, and when it builds the gateway again. The
// profiles change the artifacts by their numbers; a new one goes before those that
// they leave alone, and so is the next number.
func watched() []edit {
	return []edit{
		{
			"skaffold.yaml", `(?m)^(    - image: github\.com/meshmart/meshmart/services/cmd/shopctl\n)`,
			`    - image: github.com/meshmart/meshmart/services/cmd/gadget
      ko:
        main: ./services/cmd/gadget
        dependencies:
          paths:
            [go.mod, go.sum, .ko.yaml, proto/mesh, proto/gadget, proto/user,
             services/internal, services/gadget, services/cmd/gadget]
          ignore: ["**/*_test.go"]
${1}`,
		},
		{"skaffold.yaml", `(?s)(main: \./services/cmd/gateway\n.*?proto/mesh, )`, "${1}proto/gadget, "},
		artifactFlags("flags"),
		artifactFlags("ldflags"),
	}
}

// artifactFlags gives the new artifact what a profile gives all others.
func artifactFlags(what string) edit {
	line := `^      - \{op: add, path: /build/artifacts/(\d+)/ko/` + what + `(, value: .*\}\n)`
	return edit{
		"skaffold.yaml", `(?m)(?:` + strings.ReplaceAll(line, "(", "(?:") + `)*` + line,
		"${0}      - {op: add, path: /build/artifacts/NEXT/ko/" + what + "${2}",
	}
}

// operations is what has a line for each database or service that runs.
func operations() []edit {
	return []edit{
		{"tools/backup/main.go", `(var services = \[\]string\{[^}]*)\}`, `${1}, "gadget"}`},
		{
			"tests/cluster/identity.go", `(?s)(var asked = map\[string\]string\{\n.*?\n)\}\n`,
			"${1}\t\"gadget\": \"gadget.v1.GadgetService/GetGadget\",\n}\n",
		},
	}
}

// tests is where tests know all services, or everything that changes something.
func tests() []edit {
	return []edit{
		{"tests/testbed/testbed.go", `(var Services = \[\]string\{[^}]*), "gateway"\}`, `${1}, "gadget", "gateway"}`},
		{"tests/testbed/testbed.go", `(var Owners = \[\]string\{[^}]*)\}`, `${1}, "gadget"}`},
		{"services/shop/engines_test.go", `(var owners = \[\]string\{[^}]*)\}`, `${1}, "GADGET"}`},
		{
			"services/shop/idempotency_table_test.go", `(?s)(\treturn \[\]repetition\{\n.*?)\n\t\}\n\}\n`,
			"${1}\n\n\t\t{rpc: \"gadget.v1.GadgetService/CreateGadget\", setup: (*caller).createGadget, announced: \"gadget.created\"},\n" +
				"\t\t{rpc: \"gadget.v1.GadgetService/DeleteGadget\", setup: (*caller).deleteGadget, announced: \"gadget.created gadget.deleted\"},\n\t}\n}\n",
		},
		{
			"tests/observability/shop_test.go", `(?m)^(\ts\.must\("GET", "/\.well-known/jwks\.json", "", nil\)\n)`,
			"\ts.visitGadgets(admin)\n${1}",
		},
		{
			"tests/observability/live_test.go", `((?m:^\t\{"service-\w+\.json", .*\n)+)`,
			"${1}\t{\"service-gadget.json\", \"Events, Duplicates\", \"\", \"the service consumes no events\"},\n",
		},
	}
}

package mesh_test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"testing"

	"google.golang.org/grpc/xds"

	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/contract/contracttest"
	"github.com/meshmart/meshmart/tests/mesh/overlay"
	"github.com/meshmart/meshmart/tests/mesh/plane"
)

// bootstrap is what of gRPC's has to be right, and gRPC itself can't know.
type bootstrap struct {
	Servers []struct {
		URI   string `json:"server_uri"`
		Creds []struct {
			Type   string
			Config map[string]string
		} `json:"channel_creds"`
	} `json:"xds_servers"`
	Node struct {
		ID       string
		Metadata map[string]string
	}
}

// Each process asks istiod itself, as who it is, by mutual TLS: the agent beside
// it would pass on one of its streams at a time.
func TestProxylessAsksIstiodItself(t *testing.T) {
	pods := 0
	for _, o := range proxyless(t) {
		account := overlay.Text(o, "spec", "template", "spec", "serviceAccountName")
		for _, c := range overlay.List(o, "spec", "template", "spec", "containers") {
			if overlay.Text(c, "name") == "service" {
				pods++
				asksIstiod(t, plane.Node{IP: "10.0.0.7", Name: account + "-1", Namespace: contracttest.Shop(t).Namespace, Account: account}, c)
			}
		}
	}
	if want := len(contracttest.Shop(t).Accounts()); pods != want {
		t.Errorf("got %d services, want %d", pods, want)
	}
}

func asksIstiod(t *testing.T, n plane.Node, container overlay.Object) {
	t.Helper()
	env := environment(n, container)
	if file, ok := env["GRPC_XDS_BOOTSTRAP"]; !ok || file != "" {
		t.Errorf("%s: GRPC_XDS_BOOTSTRAP is %q, so gRPC reads this file (or the injector's) and not the bootstrap beside it", n.Account, file)
	}
	text := []byte(env["GRPC_XDS_BOOTSTRAP_CONFIG"])
	if _, err := xds.NewXDSResolverWithConfigForTesting(text); err != nil {
		t.Fatalf("%s: gRPC does not take the bootstrap: %v\n%s", n.Account, err, text)
	}
	var b bootstrap
	if err := json.Unmarshal(text, &b); err != nil {
		t.Fatalf("%s: %v", n.Account, err)
	}
	if len(b.Servers) != 1 || b.Servers[0].URI != "istiod.istio-system.svc:15012" || len(b.Servers[0].Creds) != 1 || b.Servers[0].Creds[0].Type != "tls" || b.Servers[0].Creds[0].Config["certificate_file"] == "" {
		t.Errorf("%s: got %+v, want istiod itself, by mutual TLS", n.Account, b.Servers)
	}
	if b.Node.ID != n.ID() {
		t.Errorf("%s: got node %q, want %q", n.Account, b.Node.ID, n.ID())
	}
	for key, want := range map[string]string{"GENERATOR": "grpc", "NAMESPACE": n.Namespace, "SERVICE_ACCOUNT": n.Account, "CLUSTER_ID": "Kubernetes"} {
		if got := b.Node.Metadata[key]; got != want {
			t.Errorf("%s: got %s %q, want %q", n.Account, key, got, want)
		}
	}
}

var reference = regexp.MustCompile(`\$\(([A-Z_]+)\)`)

// environment is that of a container as Kubernetes makes it: a value may name
// variables that come before it, and what names any other stays as it is.
func environment(n plane.Node, container overlay.Object) map[string]string {
	fields := map[string]string{"metadata.name": n.Name, "metadata.namespace": n.Namespace, "status.podIP": n.IP, "spec.serviceAccountName": n.Account}
	env := map[string]string{}
	for _, v := range overlay.List(container, "env") {
		value := fields[overlay.Text(v, "valueFrom", "fieldRef", "fieldPath")]
		if text, ok := v["value"]; ok {
			value = reference.ReplaceAllStringFunc(fmt.Sprint(text), func(r string) string {
				if known, ok := env[reference.FindStringSubmatch(r)[1]]; ok {
					return known
				}
				return r
			})
		}
		env[overlay.Text(v, "name")] = value
	}
	return env
}

// Package shop_test runs the shop itself without proxies: the services' own
// binaries, which a real istiod tells by xDS what the manifests of mesh/ say, with
// certificates of their own and mutual TLS on everything.
package shop_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	dockernet "github.com/moby/moby/api/types/network"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/network"
	"github.com/testcontainers/testcontainers-go/wait"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/contract"
	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/contract/contracttest"
	"github.com/meshmart/meshmart/tests/images"
	"github.com/meshmart/meshmart/tests/mesh/overlay"
	"github.com/meshmart/meshmart/tests/mesh/plane"
	"github.com/meshmart/meshmart/tests/testbed"
)

const (
	// subnet is of the containers: istiod is told of their addresses before they run.
	subnet = "10.213.77"
	// hang is longer than anything here takes.
	hang = 2 * time.Minute
)

// world is a shop that runs.
type world struct {
	t       *testing.T
	network *testcontainers.DockerNetwork
	images  map[string]string
	ca      *plane.CA
	shop    *contract.Shop
}

// start runs istiod, a broker and one of each service.
func start(t *testing.T) (*world, map[string]testcontainers.Container) {
	t.Helper()
	testbed.NeedsDocker(t)
	root := contracttest.Root()
	if _, err := plane.Tool(t.Context(), root, "pilot-discovery"); err != nil {
		t.Skipf("istiod can't be built: %v", err)
	}
	w := &world{t: t, shop: contracttest.Shop(t)}
	var err error
	// First of all, for the reaper to know that its session goes on: it would remove
	// the images.
	w.network, err = network.New(t.Context(), network.WithIPAM(&dockernet.IPAM{Config: []dockernet.IPAMConfig{{Subnet: netip.MustParsePrefix(subnet + ".0/24")}}}))
	fatal(t, err)
	t.Cleanup(func() { _ = w.network.Remove(context.WithoutCancel(t.Context())) })
	istiod, err := plane.BuildImage(t.Context(), root)
	fatal(t, err)
	w.images, err = testbed.ServiceImages(t.Context(), "proxyless", "grpcnotrace,nethttpomithttp2,nopgxregisterdefaulttypes,proxyless")
	fatal(t, err)
	w.ca, err = plane.NewCA()
	fatal(t, err)
	pods := w.startIstiod(istiod)
	w.run(images.Tag("nats"), network.WithNetwork([]string{"nats"}, w.network),
		testcontainers.WithCmd("-js", "-sd", "/data"), testcontainers.WithWaitStrategy(wait.ForLog("Server is ready")))
	all := map[string]testcontainers.Container{}
	for _, p := range pods {
		all[p.Account] = w.service(p.Account, p)
	}
	for name, c := range all {
		w.ready(name, c)
	}
	return w, all
}

// startIstiod returns the pods that it has been told of, one of each service.
func (w *world) startIstiod(image string) []overlay.Replica {
	w.t.Helper()
	objects, err := overlay.Build(filepath.Join(contracttest.Root(), "mesh", "proxyless"))
	fatal(w.t, err)
	pods := overlay.Replicas(objects, 1, func(d, _ int) string { return fmt.Sprintf("%s.%d", subnet, 100+d) })
	text, err := overlay.YAML(overlay.Running(w.shop.Namespace, objects, pods))
	fatal(w.t, err)
	i, err := plane.StartIstiod(w.t.Context(), image, text, network.WithNetwork([]string{"istiod"}, w.network))
	w.t.Cleanup(func() { _ = i.Close() })
	fatal(w.t, err)
	return pods
}

// service runs a service with the identity of the pod.
func (w *world) service(name string, p overlay.Replica) testcontainers.Container {
	w.t.Helper()
	n := plane.Node{IP: p.IP, Name: p.Name, Namespace: w.shop.Namespace, Account: p.Account, Labels: p.Labels, Certificates: w.t.TempDir()}
	fatal(w.t, w.ca.Issue(n.Certificates, n.SPIFFE()))
	var files []testcontainers.ContainerFile
	names, err := os.ReadDir(n.Certificates)
	fatal(w.t, err)
	for _, f := range names {
		files = append(files, testcontainers.ContainerFile{HostFilePath: filepath.Join(n.Certificates, f.Name()), ContainerFilePath: "/certificates/" + f.Name(), FileMode: 0o644})
	}
	n.Certificates = "/certificates"
	files = append(files, testcontainers.ContainerFile{Reader: bytes.NewReader(n.Bootstrap("istiod:15010")), ContainerFilePath: "/bootstrap.json", FileMode: 0o644})
	return w.run(w.images[name], network.WithNetwork([]string{n.Name}, w.network),
		testcontainers.WithFiles(files...),
		testcontainers.WithExposedPorts("8080/tcp", "9090/tcp", "9100/tcp"),
		testcontainers.WithEndpointSettingsModifier(func(all map[string]*dockernet.EndpointSettings) {
			all[w.network.Name].IPAMConfig = &dockernet.EndpointIPAMConfig{IPv4Address: netip.MustParseAddr(p.IP)}
		}),
		testcontainers.WithEnv(map[string]string{
			"MESH": "proxyless", "GRPC_XDS_BOOTSTRAP": "/bootstrap.json", "POD_NAMESPACE": w.shop.Namespace,
			"GRPC_ADDR": ":9090", "METRICS_ADDR": ":9100", "HTTP_ADDR": ":8080", "DATA_DIR": "/home/nonroot", "NATS_URL": "nats://nats:4222",
			"ADMIN_EMAIL": testbed.AdminEmail, "ADMIN_PASSWORD": testbed.AdminPassword, "CATALOG_FILE": "builtin", "SIMULATOR_LATENCY": "1ms",
		}))
}

func (w *world) run(image string, opts ...testcontainers.ContainerCustomizer) testcontainers.Container {
	w.t.Helper()
	c, err := testcontainers.Run(w.t.Context(), image, opts...)
	w.t.Cleanup(func() {
		ctx := context.WithoutCancel(w.t.Context())
		if w.t.Failed() && c != nil {
			w.t.Logf("%s:\n%s", c.GetContainerID()[:8], log(ctx, c))
		}
		if c != nil {
			_ = testcontainers.TerminateContainer(c, testcontainers.StopTimeout(0))
		}
	})
	fatal(w.t, err)
	return c
}

func log(ctx context.Context, c testcontainers.Container) string {
	r, err := c.Logs(ctx)
	if err != nil {
		return err.Error()
	}
	defer r.Close()
	text, _ := io.ReadAll(r)
	return string(text[max(0, len(text)-3000):])
}

// ready waits until the service says that it is: the mesh has told it who calls.
func (w *world) ready(name string, c testcontainers.Container) {
	w.t.Helper()
	url, err := c.PortEndpoint(w.t.Context(), "9100/tcp", "http")
	fatal(w.t, err)
	w.until(name+" is ready", func() error {
		_, err := get(w.t.Context(), http.MethodGet, url+"/readyz", "", nil)
		return err
	})
}

// until repeats fn until it returns nil.
func (w *world) until(what string, fn func() error) {
	w.t.Helper()
	limit := time.Now().Add(hang)
	for {
		err := fn()
		if err == nil {
			return
		}
		if time.Now().After(limit) {
			w.t.Fatalf("not until now: %s: %v", what, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func fatal(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// refused is an answer other than 200.
type refused struct {
	code int
	text string
}

func (r *refused) Error() string { return fmt.Sprintf("%d %s", r.code, r.text) }

// get makes a request and returns the reply's fields.
func get(ctx context.Context, method, url, token string, body any) (map[string]any, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var in io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		in = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, url, in)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	if token == "" {
		req.Header.Del("Authorization")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = &refused{resp.StatusCode, string(text)}
	}
	reply := map[string]any{}
	_ = json.Unmarshal(text, &reply) // /readyz says it in plain text
	return reply, err
}

func TestOrderIsCompletedWithoutProxies(t *testing.T) {
	w, services := start(t)
	url, err := services["gateway"].PortEndpoint(t.Context(), "8080/tcp", "http")
	fatal(t, err)
	begin := time.Now()
	w.order(url)
	t.Logf("figure: an order over proxyless mutual TLS is COMPLETED %.1f s after the shop is ready", time.Since(begin).Seconds())
	t.Run("plaintext is refused", func(t *testing.T) { plaintext(t, w, services) })
	t.Run("a wrong identity is refused", func(t *testing.T) { w.intruder(t) })
}

// order signs in a customer and has an order come to its end.
func (w *world) order(url string) {
	w.t.Helper()
	call := func(method, path, token string, body any) (map[string]any, error) {
		return get(w.t.Context(), method, url+path, token, body)
	}
	login := func(email, password string) (token string) {
		w.until("login of "+email, func() error {
			reply, err := call(http.MethodPost, "/v1/auth:login", "", map[string]any{"email": email, "password": password})
			token, _ = reply["access_token"].(string)
			return err
		})
		return token
	}
	admin := login(testbed.AdminEmail, testbed.AdminPassword)
	_, err := call(http.MethodPost, "/v1/users", "", map[string]any{"email": "ada@example.com", "password": "s3cret-pass-phrase", "display_name": "Ada"})
	fatal(w.t, err)
	customer := login("ada@example.com", "s3cret-pass-phrase")
	var product string
	w.until("there is stock", func() error { // the inventory must hear of the catalog first
		list, err := call(http.MethodGet, "/v1/products?page_size=1", "", nil)
		if err != nil {
			return err
		}
		all, _ := list["products"].([]any)
		if len(all) == 0 {
			return fmt.Errorf("no products: %v", list)
		}
		product = all[0].(map[string]any)["id"].(string)
		_, err = call(http.MethodPut, "/v1/stock/"+product, admin, map[string]any{"available": 10})
		return err
	})
	items := []map[string]any{{"product_id": product, "quantity": 1}}
	order, err := call(http.MethodPost, "/v1/orders", customer, map[string]any{"payment_token": "tok_visa", "items": items})
	fatal(w.t, err)
	w.until("the order is completed", func() error {
		got, err := call(http.MethodGet, "/v1/orders/"+order["id"].(string), customer, nil)
		if err == nil && !strings.HasSuffix(fmt.Sprint(got["state"]), "COMPLETED") {
			err = fmt.Errorf("it is %v", got["state"])
		}
		return err
	})
}

// plaintext: no service answers a call that is not encrypted.
func plaintext(t *testing.T, w *world, services map[string]testcontainers.Container) {
	for _, svc := range w.shop.Services {
		addr, err := services[svc.Host].PortEndpoint(t.Context(), "9090/tcp", "")
		fatal(t, err)
		cc, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
		fatal(t, err)
		defer cc.Close()
		for _, method := range []string{svc.RPCs[0].Path(), "/grpc.health.v1.Health/Check"} {
			if got := plane.Do(t.Context(), cc, plane.Call{Host: svc.Host, Method: method}, nil); got.Code() != codes.Unavailable {
				t.Errorf("%s in plaintext: got %v, want no connection", method, got.Err)
			}
		}
	}
}

// intruder is a gateway that is not the gateway: it has another service's
// certificate, and gets nothing.
func (w *world) intruder(t *testing.T) {
	p := overlay.Replica{Name: "intruder-1", IP: subnet + ".200", Account: "greeter", Labels: map[string]string{"app": "intruder"}}
	url, err := w.service("gateway", p).PortEndpoint(t.Context(), "8080/tcp", "http")
	fatal(t, err)
	for _, path := range []string{"/v1/products", "/.well-known/jwks.json"} {
		w.until(path+" is refused", func() error {
			_, err := get(t.Context(), http.MethodGet, url+path, "", nil)
			if r, ok := err.(*refused); ok && r.code == http.StatusForbidden {
				return nil
			}
			if err == nil {
				t.Fatalf("%s: a gateway with another's certificate is answered", path)
			}
			return err
		})
	}
}

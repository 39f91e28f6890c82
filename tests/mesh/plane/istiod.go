// Package plane is a real mesh without proxies and without a cluster: istiod in
// a container, which reads the objects that it is given from a Kubernetes API in
// memory; and gRPC servers and clients in this process, which istiod tells by
// xDS what to do, on addresses of the loopback network.
package plane

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/testcontainers/testcontainers-go"
	tclog "github.com/testcontainers/testcontainers-go/log"
	"github.com/testcontainers/testcontainers-go/wait"
)

// Istiod is a control plane that runs.
type Istiod struct {
	// XDS is where workloads of this machine reach it: HOST:PORT.
	XDS string
	// Ready is how long it took from its start until it was ready, with all
	// objects read, as Docker starts a container included.
	Ready     time.Duration
	container testcontainers.Container
	api       string
}

// Ports in the container: xDS in plaintext, readiness, and the Kubernetes API.
const (
	portXDS   = "15010/tcp"
	portReady = "8080/tcp"
	portAPI   = "6080/tcp"
)

// environ has istiod do nothing but read objects and serve xDS; what changes
// shows at once.
var environ = map[string]string{
	"POD_NAMESPACE": "istio-system", "POD_NAME": "istiod",
	"ENABLE_CA_SERVER": "false", "ENABLE_LEADER_ELECTION": "false",
	"INJECT_ENABLED": "false", "VALIDATION_WEBHOOK_CONFIG_NAME": "",
	"PILOT_DEBOUNCE_AFTER": "10ms", "PILOT_DEBOUNCE_MAX": "200ms",
}

// StartIstiod runs the image of a control plane with the objects, a YAML text.
// More options go to the container. The caller closes it, also after an error.
func StartIstiod(ctx context.Context, image, objects string, opts ...testcontainers.ContainerCustomizer) (*Istiod, error) {
	i := &Istiod{}
	tclog.SetDefault(tclog.NewNoopLogger())
	opts = append(opts,
		testcontainers.WithEnv(environ),
		testcontainers.WithExposedPorts(portXDS, portReady, portAPI),
		testcontainers.WithFiles(testcontainers.ContainerFile{Reader: strings.NewReader(objects), ContainerFilePath: "/objects.yaml", FileMode: 0o644}),
		testcontainers.WithEntrypoint("/kubestub", "-definitions", "/definitions.yaml", "-objects", "/objects.yaml", "-kubeconfig", "/kubeconfig", "--",
			"/pilot-discovery", "discovery", "--kubeconfig=/kubeconfig", "--meshConfig=/mesh.yaml", "--grpcAddr=:15010", "--httpAddr=:8080",
			"--secureGRPCAddr=", "--httpsAddr=", "--ctrlz_port=0", "--shutdownDuration=0s"),
		testcontainers.WithWaitStrategy(wait.ForHTTP("/ready").WithPort(portReady).WithPollInterval(20*time.Millisecond).WithStartupTimeout(2*time.Minute)),
	)
	begin := time.Now()
	run, err := testcontainers.Run(ctx, image, opts...)
	if run != nil {
		i.container = run
	}
	if err != nil {
		return i, fmt.Errorf("start istiod: %w\n%s", err, i.Log(ctx))
	}
	i.Ready = time.Since(begin)
	if i.XDS, err = i.container.PortEndpoint(ctx, portXDS, ""); err != nil {
		return i, err
	}
	i.api, err = i.container.PortEndpoint(ctx, portAPI, "http")
	return i, err
}

// Apply makes the objects, a YAML text, all that istiod sees of the cluster.
func (i *Istiod) Apply(ctx context.Context, objects string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, i.api+"/objects", strings.NewReader(objects))
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(resp.Body)
		return fmt.Errorf("apply: %s: %s", resp.Status, text)
	}
	return nil
}

// Log is the last part of what it has written.
func (i *Istiod) Log(ctx context.Context) string {
	if i.container == nil {
		return ""
	}
	r, err := i.container.Logs(ctx)
	if err != nil {
		return err.Error()
	}
	defer r.Close()
	text, _ := io.ReadAll(r)
	return string(text[max(0, len(text)-6000):])
}

// Close ends it.
func (i *Istiod) Close() error {
	if i.container == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return i.container.Terminate(ctx, testcontainers.StopTimeout(0))
}

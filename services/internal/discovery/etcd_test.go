//go:build etcd

package discovery_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/wait"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	greeterpb "github.com/meshmart/meshmart/proto/greeter/v1"
	"github.com/meshmart/meshmart/services/greeter"
	"github.com/meshmart/meshmart/services/internal/app"
	"github.com/meshmart/meshmart/services/internal/discovery"
	"github.com/meshmart/meshmart/services/internal/identity"
	"github.com/meshmart/meshmart/services/internal/rpc"
	"github.com/meshmart/meshmart/tests/certs"
	"github.com/meshmart/meshmart/tests/freeport"
	"github.com/meshmart/meshmart/tests/images"
	"github.com/meshmart/meshmart/tests/testbed"
)

// child is set in the environment of this test's own binary where it is to be an
// instance of a service.
const child = "MESHMART_TEST_INSTANCE"

func TestMain(m *testing.M) {
	if os.Getenv(child) == "" {
		os.Exit(m.Run())
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := app.Run(ctx, greeter.New(), app.Options{}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// hang is how long anything may take.
const hang = 2 * time.Minute

// Instances come, leave and die, and so does etcd, while calls are made over mutual
// TLS. Calls that the contract repeats are never lost; a stream, which nobody repeats,
// only if its instance died under it.
func TestInstancesAndEtcdComeAndGoAndNoCallIsLost(t *testing.T) {
	w := newWorld(t)
	for range 3 {
		w.start(t)
	}
	w.until(t, "all three answer", func() bool { return w.answering(3) })
	w.begin(t)

	for range 3 { // a release: a new one for each
		fresh := w.start(t)
		w.until(t, "the new one answers", func() bool { return w.answers(fresh) })
		w.leave(t, w.instances[0])
	}
	w.none(t, "instances left")

	died := w.instances[0]
	died.kill(t)
	w.instances = w.instances[1:]
	fresh := w.start(t)
	w.until(t, "the new one answers", func() bool { return w.answers(fresh) })
	w.until(t, "the dead one is forgotten", func() bool { return !slices.Contains(w.registered(t), died.addr) })
	broken := w.only(t, "an instance died", streamers)

	w.etcd.stop(t)
	w.leave(t, w.instances[0]) // its callers know by its health
	alone := w.start(t)
	for _, i := range w.instances[:2] {
		w.until(t, "the lease ends", func() bool { return i.log.count("not registered in etcd") == 1 })
	}
	w.etcd.start(t)
	w.until(t, "who came meanwhile is found", func() bool { return w.answers(alone) && w.all(t) })
	w.none(t, "etcd was away")

	w.etcd.lose(t)
	w.until(t, "all are registered with the new one", func() bool { return w.all(t) })
	fresh = w.start(t)
	w.until(t, "who came to the new one is found", func() bool { return w.answers(fresh) })
	w.leave(t, w.instances[0])
	w.none(t, "etcd has lost everything")

	w.end()
	t.Logf("figure: discovery by etcd: instances came (7), left (5) and died (1), etcd was away and lost its data: %d calls, %d lost; %d streams, %d handed over, %d broken by the death",
		w.calls.Load(), w.lost, w.streams.Load(), w.handed.Load(), broken)
}

// world is a service, who calls it, and the etcd between them.
type world struct {
	ca        *certs.CA
	etcd      *etcd
	instances []*instance // that should answer, the oldest first
	greeter   greeterpb.GreetingServiceClient

	calls, streams, handed atomic.Int64 // handed over by an instance that ends
	mu                     sync.Mutex
	lost                   int // calls, in all
	lostCalls, lostStreams []error
	heard                  map[string]time.Time // when an instance answered last, by its address

	stop    chan struct{}
	once    sync.Once // closes it
	callers sync.WaitGroup
}

func newWorld(t *testing.T) *world {
	t.Helper()
	testbed.NeedsDocker(t)
	w := &world{ca: certs.NewCA(t, "shop"), etcd: newEtcd(t), heard: map[string]time.Time{}, stop: make(chan struct{})}
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	r, err := discovery.Open(discovery.Config{Endpoints: []string{w.etcd.url}, Namespace: "default", Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	f := w.files(t, "gateway")
	own, err := identity.Load(identity.Config{CertFile: f.Cert, KeyFile: f.Key, CAFile: f.CA, TrustDomain: "cluster.local", Namespace: "default", Service: "gateway", Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { own.Close() })
	target, instances := r.Target("greeter")
	cc, err := rpc.Dial(rpc.ClientConfig{Name: "greeter", Target: target, Mesh: rpc.NoMesh, Identity: own, Log: log}, grpc.WithResolvers(instances))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cc.Close() })
	w.greeter = greeterpb.NewGreetingServiceClient(cc)
	return w
}

func (w *world) files(t *testing.T, account string) certs.Files {
	f := certs.NewFiles(t)
	f.Take(t, w.ca, "spiffe://cluster.local/ns/default/sa/"+account)
	f.Trust(t, w.ca)
	return f
}

const (
	greeters  = 3
	streamers = 2
)

// begin has calls and streams be made until end.
func (w *world) begin(t *testing.T) {
	each := func(n int, call func(context.Context)) {
		for range n {
			w.callers.Go(func() {
				for {
					select {
					case <-w.stop:
						return
					case <-time.After(2 * time.Millisecond):
						call(t.Context())
					}
				}
			})
		}
	}
	each(greeters, w.call)
	each(streamers, w.stream)
	t.Cleanup(w.end)
}

func (w *world) end() {
	w.once.Do(func() { close(w.stop) })
	w.callers.Wait()
}

func (w *world) call(ctx context.Context) {
	w.calls.Add(1)
	if err := w.greet(ctx); err != nil {
		w.mu.Lock()
		w.lostCalls = append(w.lostCalls, err)
		w.mu.Unlock()
	}
}

func (w *world) greet(ctx context.Context) error {
	var by peer.Peer
	_, err := w.greeter.Greet(ctx, &greeterpb.GreetRequest{Name: "Ada"}, grpc.Peer(&by))
	if err == nil {
		w.mu.Lock()
		w.heard[by.Addr.String()] = time.Now()
		w.mu.Unlock()
	}
	return err
}

func (w *world) stream(ctx context.Context) {
	w.streams.Add(1)
	s, err := w.greeter.ListGreetings(ctx, &greeterpb.ListGreetingsRequest{Name: "Ada", Count: 20})
	for err == nil {
		_, err = s.Recv()
	}
	switch {
	case errors.Is(err, io.EOF):
	case strings.Contains(err.Error(), "go on from start="): // it ends, and says how the stream goes on
		w.handed.Add(1)
	default:
		w.mu.Lock()
		w.lostStreams = append(w.lostStreams, err)
		w.mu.Unlock()
	}
}

// none says that nothing was lost until now.
func (w *world) none(t *testing.T, when string) { t.Helper(); w.only(t, when, 0) }

// only says that so many streams were lost at most, and no call, and begins anew.
func (w *world) only(t *testing.T, when string, streams int) int {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	lost := len(w.lostStreams)
	if len(w.lostCalls) > 0 || lost > streams {
		t.Errorf("while %s: lost %d calls %v and %d streams %v", when, len(w.lostCalls), w.lostCalls, lost, w.lostStreams)
	}
	t.Logf("%s %s: %d calls, %d streams, %d broken", time.Now().Format("15:04:05.000"), when, w.calls.Load(), w.streams.Load(), lost)
	w.lost += len(w.lostCalls)
	w.lostCalls, w.lostStreams = nil, nil
	return lost
}

func (w *world) answers(i *instance) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, ok := w.heard[i.addr]
	return ok
}

// answering makes a call, and reports whether so many instances have answered.
func (w *world) answering(n int) bool {
	if err := w.greet(context.Background()); err != nil && status.Code(err) != codes.Unavailable {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(slices.Collect(maps.Keys(w.heard))) >= n
}

// all reports whether etcd has all instances and no others.
func (w *world) all(t *testing.T) bool {
	var want []string
	for _, i := range w.instances {
		want = append(want, i.addr)
	}
	slices.Sort(want)
	return slices.Equal(w.registered(t), want)
}

// registered are the addresses in etcd; none if it does not answer.
func (w *world) registered(t *testing.T) (addrs []string) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	const prefix = "meshmart/default/greeter/"
	got, err := w.etcd.client.Get(ctx, prefix, clientv3.WithPrefix())
	if err != nil {
		return nil
	}
	for _, kv := range got.Kvs {
		addrs = append(addrs, strings.TrimPrefix(string(kv.Key), prefix))
	}
	slices.Sort(addrs)
	return addrs
}

func (w *world) until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(hang); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			for _, i := range w.instances {
				t.Logf("%s:\n%s", i.addr, i.log.String())
			}
			t.Fatalf("never: %s", what)
		}
	}
}

// instance is a process of the service.
type instance struct {
	cmd  *exec.Cmd
	addr string
	log  *lines
}

func (w *world) start(t *testing.T) *instance {
	t.Helper()
	addrs, err := freeport.Addrs(1)
	if err != nil {
		t.Fatal(err)
	}
	f := w.files(t, "greeter")
	i := &instance{cmd: exec.Command(os.Args[0]), addr: addrs[0], log: &lines{}}
	i.cmd.Env = append(os.Environ(), child+"=1", "MESH=none", "GRPC_ADDR="+i.addr, "ETCD_ENDPOINTS="+w.etcd.url,
		"TLS_CERT_FILE="+f.Cert, "TLS_KEY_FILE="+f.Key, "TLS_CA_FILE="+f.CA)
	i.cmd.Stderr = i.log
	if err := i.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { i.cmd.Process.Kill(); i.cmd.Wait() })
	w.instances = append(w.instances, i)
	w.until(t, "it serves", func() bool { return i.log.count("serving gRPC") > 0 })
	return i
}

// leave ends an instance by SIGTERM.
func (w *world) leave(t *testing.T, i *instance) {
	t.Helper()
	w.instances = slices.DeleteFunc(w.instances, func(o *instance) bool { return o == i })
	i.cmd.Process.Signal(syscall.SIGTERM)
	if err := i.cmd.Wait(); err != nil {
		t.Errorf("an instance ended with %v:\n%s", err, i.log)
	}
}

func (i *instance) kill(t *testing.T) {
	t.Helper()
	i.cmd.Process.Kill()
	if err := i.cmd.Wait(); err == nil {
		t.Error("it ended by itself")
	}
}

// lines is a log.
type lines struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.String()
}

func (l *lines) count(s string) int { return strings.Count(l.String(), s) }

// etcd is a server in a container, always at the same address.
type etcd struct {
	url    string
	port   int
	run    testcontainers.Container
	client *clientv3.Client
}

// With https the services' own certificates are for etcd, too, and etcd's own has to be
// of their authority.
func TestEtcdIsTalkedToByTLS(t *testing.T) {
	testbed.NeedsDocker(t)
	ca := certs.NewCA(t, "shop")
	server := certs.NewFiles(t)
	server.Take(t, ca, "", certs.For127)
	server.Trust(t, ca)
	ports, err := freeport.Ports(1)
	if err != nil {
		t.Fatal(err)
	}
	e := &etcd{url: fmt.Sprintf("https://127.0.0.1:%d", ports[0]), port: ports[0]}
	e.create(t, server)
	t.Cleanup(func() { e.remove(t) })
	for name, tt := range map[string]struct {
		by   *certs.CA
		want bool
	}{"of the authority": {ca, true}, "of another one": {certs.NewCA(t, "shop"), false}} {
		f, log := certs.NewFiles(t), &lines{}
		f.Take(t, tt.by, "spiffe://cluster.local/ns/default/sa/greeter")
		f.Trust(t, ca, tt.by)
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), child+"=1", "MESH=none", "GRPC_ADDR=127.0.0.1:0", "ETCD_ENDPOINTS="+e.url,
			"TLS_CERT_FILE="+f.Cert, "TLS_KEY_FILE="+f.Key, "TLS_CA_FILE="+f.CA)
		cmd.Stderr = log
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(hang); log.count("registered in etcd") == 0; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s: nothing is said:\n%s", name, log)
			}
		}
		if got := log.count("not registered in etcd") == 0; got != tt.want {
			t.Errorf("a certificate %s: registered: %v\n%s", name, got, log)
		}
		cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func newEtcd(t *testing.T) *etcd {
	t.Helper()
	ports, err := freeport.Ports(1)
	if err != nil {
		t.Fatal(err)
	}
	e := &etcd{url: fmt.Sprintf("http://127.0.0.1:%d", ports[0]), port: ports[0]}
	e.create(t, certs.Files{})
	t.Cleanup(func() { e.remove(t) })
	if e.client, err = clientv3.New(clientv3.Config{Endpoints: []string{e.url}, Logger: zap.NewNop()}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.client.Close() })
	return e
}

// create runs one, with TLS if there are files for it.
func (e *etcd) create(t *testing.T, f certs.Files) {
	t.Helper()
	cmd, ready := []string{"/usr/local/bin/etcd", "--data-dir=/tmp/etcd", "--advertise-client-urls=" + e.url}, "serving client traffic insecurely"
	var files []testcontainers.ContainerFile
	if f.Cert == "" {
		cmd = append(cmd, "--listen-client-urls=http://0.0.0.0:2379")
	} else {
		cmd, ready = append(cmd, "--listen-client-urls=https://0.0.0.0:2379", "--client-cert-auth", "--cert-file=/tmp/tls.crt", "--key-file=/tmp/tls.key", "--trusted-ca-file=/tmp/ca.crt"), "serving client traffic securely"
		for to, from := range map[string]string{"/tmp/tls.crt": f.Cert, "/tmp/tls.key": f.Key, "/tmp/ca.crt": f.CA} {
			files = append(files, testcontainers.ContainerFile{HostFilePath: from, ContainerFilePath: to, FileMode: 0o644})
		}
	}
	var err error
	e.run, err = testcontainers.Run(t.Context(), images.Tag("etcd"),
		testcontainers.WithCmd(cmd...), testcontainers.WithFiles(files...),
		testcontainers.WithExposedPorts("2379/tcp"),
		testcontainers.WithHostConfigModifier(func(h *container.HostConfig) {
			h.PortBindings = network.PortMap{network.MustParsePort("2379/tcp"): {{HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: fmt.Sprint(e.port)}}}
		}),
		testcontainers.WithWaitStrategy(wait.ForLog(ready)),
	)
	if err != nil {
		t.Fatal(err)
	}
}

func (e *etcd) stop(t *testing.T) {
	t.Helper()
	limit := 10 * time.Second
	if err := e.run.Stop(t.Context(), &limit); err != nil {
		t.Fatal(err)
	}
}

func (e *etcd) start(t *testing.T) {
	t.Helper()
	if err := e.run.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// lose puts one that knows nothing in its place.
func (e *etcd) lose(t *testing.T) {
	t.Helper()
	e.remove(t)
	e.create(t, certs.Files{})
}

func (e *etcd) remove(t *testing.T) {
	if err := e.run.Terminate(context.Background(), testcontainers.StopTimeout(0)); err != nil {
		t.Error(err)
	}
}

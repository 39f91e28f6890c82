package backup

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/meshmart/meshmart/tests/audit"
	"github.com/meshmart/meshmart/tests/freeport"
	"github.com/meshmart/meshmart/tests/testbed"
)

// shop is one that can be lost. What fails ends the test.
type shop interface {
	engine() testbed.Engine
	url() string // of its gateway; changes with every start
	// try runs tools/backup for its databases, and returns what it says.
	try(command string, args ...string) (string, error)
	kill()  // all services, as a power failure does
	lose()  // the databases and the streams: there are empty ones then
	start() // the services, and returns when they are ready
	// open returns the database of a service; the test closes it.
	open(service string) *sql.DB
}

// environ is that of each shop: payments take long enough that there are always
// orders on their way, whenever somebody looks.
var environ = map[string]string{"SIMULATOR_LATENCY": "100ms", "TRACE_RATIO": "0"}

// program builds a program of the module, with these build tags.
func program(t *testing.T, name, tags string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), filepath.Base(name))
	if err := (testbed.Build{Dir: "../..", Out: out, Tags: tags, Packages: []string{"./" + name}}).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	return out
}

// run runs tools/backup with more variables, and returns what it says.
func run(ctx context.Context, tool string, environ []string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, tool, args...)
	cmd.Env = append(os.Environ(), environ...)
	var said, failed bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &failed
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("backup %s: %w\n%s%s", strings.Join(args, " "), err, &said, &failed)
	}
	return said.String(), nil
}

// tool has tools/backup do what it has to be able to.
func tool(t *testing.T, s shop, command string, args ...string) string {
	t.Helper()
	said, err := s.try(command, args...)
	if err != nil {
		t.Fatal(err)
	}
	return said
}

// books opens what an audit reads of a shop. What the streams had is lost, so they
// are no part of it.
func books(t *testing.T, s shop) (b audit.Books, done func()) {
	b = audit.Books{Order: s.open("order"), Payment: s.open("payment"), Inventory: s.open("inventory")}
	return b, func() {
		for _, db := range []*sql.DB{b.Order, b.Payment, b.Inventory} {
			if err := db.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

// containers is a shop on PostgreSQL and NATS.
type containers struct {
	t    *testing.T
	bed  *testbed.Bed
	path string // of tools/backup
}

func startContainers(t *testing.T) *containers {
	testbed.NeedsDocker(t)
	c := &containers{t: t, path: program(t, "tools/backup", "")}
	var err error
	c.bed, err = testbed.Start(t.Context(), testbed.Options{Environ: environ})
	t.Cleanup(func() {
		if err := c.bed.Close(); err != nil {
			t.Error(err)
		}
	})
	c.must(err)
	return c
}

func (c *containers) engine() testbed.Engine { return testbed.Postgres }

func (c *containers) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *containers) url() string {
	url, err := c.bed.Service("gateway")[0].URL(c.t.Context())
	c.must(err)
	return url
}

// try has pg_dump and pg_restore of the server's own container, and reconciles from
// here.
func (c *containers) try(command string, args ...string) (string, error) {
	if command != "reconcile" {
		args = append(args, "-exec", "docker exec -i "+c.bed.Database().ID(), "-url", "postgres://shop@127.0.0.1/shop_%s")
		return run(c.t.Context(), c.path, nil, append([]string{command}, args...)...)
	}
	var environ []string
	for _, service := range testbed.Owners {
		url, err := c.bed.DatabaseURL(c.t.Context(), service)
		c.must(err)
		environ = append(environ, strings.ToUpper(service)+"_DATABASE_URL="+url)
	}
	return run(c.t.Context(), c.path, environ, append([]string{command}, args...)...)
}

func (c *containers) kill() { c.end(testbed.Services...) }

func (c *containers) end(services ...string) {
	for _, name := range services {
		for _, s := range c.bed.Service(name) {
			c.must(s.Kill(c.t.Context()))
		}
	}
}

func (c *containers) lose() {
	c.must(c.bed.LoseDatabases(c.t.Context()))
	c.must(c.bed.LoseBrokers(c.t.Context()))
}

func (c *containers) start() {
	for _, s := range c.bed.All() {
		c.must(s.Start(c.t.Context()))
	}
	for _, s := range c.bed.All() {
		c.must(s.WaitReady(c.t.Context()))
	}
}

func (c *containers) open(service string) *sql.DB {
	db, err := c.bed.OpenDatabase(c.t.Context(), service)
	c.must(err)
	return db
}

// process is the shop in one process, on SQLite and its own broker.
type process struct {
	t           *testing.T
	path, tools string // the program, and tools/backup
	data, addr  string
	cmd         *exec.Cmd
	log         *os.File
}

func startProcess(t *testing.T, shop, backup string) *process {
	addrs, err := freeport.Addrs(1)
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, path: shop, tools: backup, addr: addrs[0]}
	p.data = filepath.Join(t.TempDir(), "data")
	if p.log, err = os.Create(filepath.Join(t.TempDir(), "log")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.kill()
		_ = p.log.Close() // nobody writes to it any more
	})
	p.start()
	return p
}

func (p *process) engine() testbed.Engine { return testbed.SQLite }

func (p *process) url() string { return "http://" + p.addr }

func (p *process) try(command string, args ...string) (string, error) {
	return run(p.t.Context(), p.tools, nil, append([]string{command, "-data", p.data}, args...)...)
}

func (p *process) kill() {
	if p.cmd != nil {
		_, _ = p.cmd.Process.Kill(), p.cmd.Wait() // which says that it was killed
		p.cmd = nil
	}
}

func (p *process) lose() {
	if err := os.RemoveAll(p.data); err != nil {
		p.t.Fatal(err)
	}
}

func (p *process) start() {
	p.cmd = exec.Command(p.path)
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	p.cmd.Env = append(os.Environ(), "DATA_DIR="+p.data, "HTTP_ADDR="+p.addr,
		"ADMIN_EMAIL="+testbed.AdminEmail, "ADMIN_PASSWORD="+testbed.AdminPassword, "LOG_LEVEL=warn")
	for _, service := range testbed.Services {
		p.cmd.Env = append(p.cmd.Env, strings.ToUpper(service)+"_GRPC_ADDR=127.0.0.1:0")
	}
	for name, value := range environ {
		p.cmd.Env = append(p.cmd.Env, name+"="+value)
	}
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	within(p.t, "the shop is ready", func() error {
		resp, err := http.Get(p.url() + "/readyz")
		if err == nil {
			err = resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				err = fmt.Errorf("/readyz: %s", resp.Status)
			}
		}
		if err != nil {
			said, _ := os.ReadFile(p.log.Name())
			err = fmt.Errorf("%w\n%s", err, said)
		}
		return err
	})
}

func (p *process) open(service string) *sql.DB {
	db, err := sql.Open("sqlite", "file:"+filepath.Join(p.data, service+".db")+"?mode=ro&_pragma=busy_timeout(5000)")
	if err != nil {
		p.t.Fatal(err)
	}
	return db
}

// hang is longer than anything here takes.
const hang = time.Minute

// within calls fn until it returns nil.
func within(t *testing.T, what string, fn func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), hang)
	defer cancel()
	for {
		err := fn()
		if err == nil {
			return
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("%s: %v", what, err)
		}
	}
}

package shop

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/meshmart/meshmart/services/internal/app"
	"github.com/meshmart/meshmart/services/internal/faultpoint"
)

// trapDir names the folder in which a child notes the points that it comes to,
// and reads at which of them it has to die.
const trapDir = "MESHMART_TEST_TRAP_DIR"

// runShop is the program shop, with a trap if the environment asks for one.
func runShop() {
	dir := os.Getenv(trapDir)
	if dir == "" {
		Main()
		return
	}
	start := time.Now()
	environ := app.Environ()
	app.MainFunc("shop", usage, func(ctx context.Context) error {
		hook, err := newTrap(dir)
		if err != nil {
			return err
		}
		return Run(ctx, Options{Environ: environ, Point: hook, Ready: func(http net.Addr) {
			welcome(os.Stdout, environ, http, time.Since(start))
		}})
	})
}

// trap is the hook of a child: it notes each point before anything else happens
// there, and at the one that it is set to it kills its own process.
type trap struct {
	mu    sync.Mutex
	dir   string
	log   *os.File // lines that are written are there, whatever kills the process
	order string   // as it was read last
	point string
	left  int // how often we come to the point, until the last time
}

func newTrap(dir string) (faultpoint.Hook, error) {
	log, err := os.OpenFile(filepath.Join(dir, "points"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	return (&trap{dir: dir, log: log}).at, nil
}

// at holds everybody else who comes to a point meanwhile, so that the line of
// the point at which the process dies is the last.
func (t *trap) at(point string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	fmt.Fprintln(t.log, point)
	order, _ := os.ReadFile(filepath.Join(t.dir, "order")) // there is none at first
	if string(order) != t.order {
		t.order = string(order)
		n, point, _ := strings.Cut(t.order, " ")
		t.point = point
		fmt.Sscan(n, &t.left)
	}
	if t.point != point {
		return
	}
	if t.left--; t.left == 0 {
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}

// victim is a shop in a process of its own that dies where it is told to.
type victim struct {
	*process
	trap string // the folder
	died chan struct{}
}

func newVictim(t *testing.T, environ map[string]string) *victim {
	v := &victim{trap: t.TempDir()}
	more := map[string]string{trapDir: v.trap}
	for name, value := range environ {
		more[name] = value
	}
	v.process = &process{t: t, dir: t.TempDir(), more: more, addr: freeAddr(t), log: &logBuffer{}}
	return v
}

// begin starts the process and watches it. It reports false if the process has
// died before it was ready.
func (v *victim) begin() bool {
	v.t.Helper()
	_, ready := v.launch()
	v.died = make(chan struct{})
	go func(died chan struct{}) {
		v.cmd.Wait() // its state says how it ended
		close(died)
	}(v.died)
	return ready
}

// mustBegin is begin of a process that has to live.
func (v *victim) mustBegin() {
	v.t.Helper()
	if !v.begin() {
		<-v.died
		v.t.Fatalf("the shop ended before it was ready: %v\n%s", v.cmd.ProcessState, tail(v.log.String(), 40))
	}
}

// set has the process die when it comes to a point for the n-th time from now.
func (v *victim) set(point string, n int) {
	v.t.Helper()
	file := filepath.Join(v.trap, "order")
	err := os.WriteFile(file+".new", fmt.Appendf(nil, "%d %s", n, point), 0o600)
	if err == nil {
		err = os.Rename(file+".new", file) // the process reads all of it or nothing
	}
	if err != nil {
		v.t.Fatal(err)
	}
}

// disarm lets the process, or the next one, live.
func (v *victim) disarm() { v.set("", 0) }

// points returns the points that the processes have come to.
func (v *victim) points() []string {
	v.t.Helper()
	text, err := os.ReadFile(filepath.Join(v.trap, "points"))
	if err != nil && !os.IsNotExist(err) {
		v.t.Fatal(err)
	}
	return strings.FieldsFunc(string(text), func(c rune) bool { return c == '\n' })
}

// wantDead checks that the process, which has ended, has killed itself at the
// point that it was set to.
func (v *victim) wantDead(point string) {
	v.t.Helper()
	<-v.died
	status, ok := v.cmd.ProcessState.Sys().(syscall.WaitStatus)
	all := v.points()
	if !ok || !status.Signaled() || status.Signal() != syscall.SIGKILL || len(all) == 0 || all[len(all)-1] != point {
		v.t.Fatalf("set to die at %q, the shop ended with %v at %q\n%s", point, v.cmd.ProcessState, all[max(0, len(all)-1):], tail(v.log.String(), 40))
	}
}

// quiet waits until the process comes to no point for a while.
func (v *victim) quiet(while time.Duration) {
	v.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
		n := len(v.points())
		select {
		case <-v.died:
			return
		case <-time.After(while):
		}
		if len(v.points()) == n {
			return
		}
	}
	v.t.Fatalf("points are met without end, such as %q", v.points()[len(v.points())-1])
}

// end stops the process as an operator does.
func (v *victim) end() {
	v.t.Helper()
	v.cmd.Process.Signal(syscall.SIGTERM)
	<-v.died
	if !v.cmd.ProcessState.Success() {
		v.t.Errorf("SIGTERM: %v\n%s", v.cmd.ProcessState, tail(v.log.String(), 20))
	}
}

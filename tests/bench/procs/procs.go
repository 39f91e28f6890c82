// Package procs starts programs and reads what they use: processor time and
// memory from /proc, allocations from a Go program's /metrics.
package procs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Proc is a program that runs. Its children count as parts of it.
type Proc struct {
	Name    string
	PID     int
	Metrics string // URL of its /metrics; "" if it has none
	Binary  string // its file
	Log     string // file with what it has written
	Profile string // address of its pprof; "" if it has none

	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	err  error         // of Wait; set before done is closed
}

// Command is what to start.
type Command struct {
	Name    string
	Path    string
	Args    []string
	Environ []string // the whole of it
	Dir     string   // where it runs, and its log is; an existing folder
	User    *syscall.Credential
	Metrics string
}

// Start starts a program. It is ended by Stop, and killed when this process ends
// in whatever way.
func Start(c Command) (*Proc, error) {
	p := &Proc{Name: c.Name, Metrics: c.Metrics, Binary: c.Path, Log: filepath.Join(c.Dir, c.Name+".log"), done: make(chan struct{})}
	log, err := os.OpenFile(p.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p.cmd = exec.Command(c.Path, c.Args...)
	p.cmd.Env, p.cmd.Dir = c.Environ, c.Dir
	p.cmd.Stdout, p.cmd.Stderr = log, log
	// A signal from the terminal is for us; the programs follow.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: c.User, Pdeathsig: syscall.SIGKILL}
	if err := startOn(p.cmd); err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Name, err)
	}
	p.PID = p.cmd.Process.Pid
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// Await calls ready until it returns nil, and fails if the program ends, or
// within limit.
func (p *Proc) Await(ctx context.Context, limit time.Duration, ready func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("%s has ended: %w\n%s", p.Name, errors.Join(p.err, err), p.Tail(2000))
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready after %v: %w\n%s", p.Name, limit, err, p.Tail(2000))
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// patience is how long a program may take to end by itself.
const patience = 10 * time.Second

// Stop ends the program with a signal, and kills it if that takes too long, and
// what it leaves behind.
func (p *Proc) Stop(sig syscall.Signal) {
	_ = p.cmd.Process.Signal(sig) // it may have ended
	select {
	case <-p.done:
	case <-time.After(patience):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
	_ = syscall.Kill(-p.PID, syscall.SIGKILL)
}

// Tail returns the last n bytes of what the program has written.
func (p *Proc) Tail(n int) string {
	text, err := os.ReadFile(p.Log)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(text[max(0, len(text)-n):]))
}

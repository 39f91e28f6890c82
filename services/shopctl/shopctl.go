// Package shopctl is the shop's command line for people.
//
// It speaks to the gateway alone: REST and server-sent events at one address.
// How an RPC is called over HTTP, and whether a call may be repeated, package
// rest reads from the contracts, as the gateway does.
package shopctl

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// Process is what shopctl gets from the system.
type Process struct {
	Args   []string // without the program's name
	Env    func(name string) string
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer

	pause func(context.Context, time.Duration) error // nil: by the clock
}

// Main is the program shopctl.
func Main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	os.Exit(Run(ctx, Process{
		Args: os.Args[1:], Env: os.Getenv, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
	}))
}

// Run runs one command until it is done or ctx is, and returns the exit code.
func Run(ctx context.Context, p Process) int {
	if p.pause == nil {
		p.pause = pause
	}
	c := &cli{Process: p}
	root := c.root()
	root.SetArgs(understood(p.Args))
	cmd, err := root.ExecuteContextC(ctx)
	c.close()
	switch {
	case err == nil:
		return exitOK
	case ctx.Err() != nil:
		c.notice("interrupted")
		return exitInterrupted
	case !c.started: // cobra did not understand the command
		err = &usageError{err}
	}
	explain(p.Stderr, err)
	code := exitCode(err)
	if code == exitUsage {
		fmt.Fprintf(p.Stderr, "  see: %s --help\n", cmd.CommandPath())
	}
	return code
}

// understood returns the arguments as cobra takes them: -help is --help, as with
// the services, and the negative number of `stock adjust KIT-001 -5`, which
// quantity reads, is not taken for a flag.
func understood(args []string) []string {
	out := append([]string{}, args...) // never nil: that would be os.Args to cobra
	adjust := slices.Index(out, "adjust")
	for i, arg := range out {
		switch {
		case arg == "--":
			return out
		case arg == "-help":
			out[i] = "--help"
		case adjust >= 0 && i > adjust && len(arg) > 1 && arg[0] == '-':
			if _, err := strconv.Atoi(arg); err == nil {
				out[i] = "+" + arg
			}
		}
	}
	return out
}

// notice tells people something that is not the command's output.
func (p Process) notice(format string, args ...any) {
	fmt.Fprintf(p.Stderr, "shopctl: %s\n", clean(fmt.Sprintf(format, args...)))
}

// pause waits for d, or for ctx.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// await returns what read does, or earlier when ctx is done: reading from a
// person or a pipe knows no end by itself.
func await[T any](ctx context.Context, read func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	got := make(chan result, 1)
	go func() {
		v, err := read()
		got <- result{v, err}
	}()
	select {
	case r := <-got:
		return r.value, r.err
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}

// What shopctl ends with; root's help tells it.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitPartly      = 3
	exitDenied      = 4
	exitNotFound    = 5
	exitInterrupted = 130 // as shells say it of a process that SIGINT ended
)

// usageError says that the command itself is wrong; nothing was done.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

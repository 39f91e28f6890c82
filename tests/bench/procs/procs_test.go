package procs

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestChildrenAreCountedAliveAndEnded(t *testing.T) {
	// A shell that starts one that works and ends, and one that works and stays.
	const work = `i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done`
	p, err := Start(Command{
		Name: "sh", Path: "/bin/sh", Dir: t.TempDir(), Environ: os.Environ(),
		Args: []string{"-c", "sh -c '" + work + "'; sh -c '" + work + "; echo ready; sleep 60' & wait"},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Stop(syscall.SIGKILL)
	err = p.Await(t.Context(), time.Minute, func(context.Context) error {
		if p.Tail(100) != "ready" {
			return fmt.Errorf("it has written %q", p.Tail(100))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	own, err := cpuOf(p.PID)
	if err != nil {
		t.Fatal(err)
	}
	all, err := CPU(p.PID)
	if err != nil {
		t.Fatal(err)
	}
	if own < 5*tick || all < own+own/4 {
		t.Errorf("the shell and its ended child used %v, with the other child %v", own, all)
	}
	if RSS(p.PID) < 100<<10 {
		t.Errorf("RSS is %d bytes", RSS(p.PID))
	}
}

func TestOneThatEndsIsNotAwaited(t *testing.T) {
	p, err := Start(Command{Name: "sh", Path: "/bin/sh", Args: []string{"-c", "echo no luck; exit 3"}, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	never := fmt.Errorf("not ready")
	err = p.Await(t.Context(), time.Minute, func(context.Context) error { return never })
	if err == nil || !strings.Contains(err.Error(), "no luck") || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("got %v, want what it wrote and its code", err)
	}
}

func TestSampleReadsTheNamesAskedFor(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "# HELP a_total of a\na_total 1e+06\nb{service_name=\"x\"} 2.5\nc 3\n")
	}))
	defer srv.Close()
	got, err := Sample(t.Context(), srv.URL, "a_total", "b")
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || got["a_total"] != 1e6 || got["b"] != 2.5 {
		t.Errorf("got %v", got)
	}
}

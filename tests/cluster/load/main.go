// Command load calls the shop at a steady rate, from inside its cluster, and
// tells once a second what became of it. With arguments it is somebody else, who
// asks each of them for an answer (see package stranger). tests/cluster runs it.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/meshmart/meshmart/tests/cluster/load/line"
	"github.com/meshmart/meshmart/tests/cluster/load/stranger"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

// run opens the shop named by SHOP and calls it RATE times a second until ctx is
// done; then it waits for the last calls.
func run(ctx context.Context) error {
	if len(os.Args) > 1 {
		return stranger.Ask(ctx, os.Stdout, os.Getenv("CERTIFICATES"), os.Args[1:])
	}
	rate, err := strconv.Atoi(os.Getenv("RATE"))
	if err != nil || rate < 1 {
		return fmt.Errorf("RATE: %q is no number of calls a second", os.Getenv("RATE"))
	}
	l, err := open(ctx, os.Getenv("SHOP"))
	if err != nil {
		return err
	}
	told := make(chan struct{})
	running, done := context.WithCancel(context.WithoutCancel(ctx))
	go func() { l.tell(running); close(told) }()
	l.call(ctx, rate)
	done()
	<-told
	return l.write(true)
}

// tell writes a line a second.
func (l *load) tell(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			_ = l.write(false) // the reader misses it
		}
	}
}

func (l *load) write(done bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.line.Done = done
	err := json.NewEncoder(os.Stdout).Encode(l.line)
	l.line = line.Line{}
	return err
}

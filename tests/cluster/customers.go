package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"sync"
	"time"

	"github.com/meshmart/meshmart/tests/cluster/load/line"
)

// customers are those who call from inside the cluster: the Deployment load, whose
// log tells of each second.
type customers struct {
	follow *exec.Cmd
	said   bytes.Buffer // standard error
	ended  chan struct{}

	mu     sync.Mutex
	calls  int
	took   []int64 // ms
	failed []failure
	orders []line.Order
	done   bool
	err    error
}

// failure is one, and when it was heard of here: the clocks may differ.
type failure struct {
	line.Failure
	heard time.Time
}

// startCustomers has them call, and waits until they do.
func startCustomers(ctx context.Context, rate int) (*customers, error) {
	for _, args := range [][]string{
		{"set", "env", "deployment/load", fmt.Sprintf("RATE=%d", rate)},
		{"scale", "deployment/load", "--replicas=1"},
		{"rollout", "status", "deployment/load", "--timeout=120s"},
	} {
		if _, err := kubectl(ctx, append([]string{"-n", loadSpace}, args...)...); err != nil {
			return nil, err
		}
	}
	c := &customers{ended: make(chan struct{})}
	c.follow = exec.CommandContext(ctx, "kubectl", "-n", loadSpace, "logs", "--follow", "deployment/load")
	c.follow.Stderr = &c.said
	out, err := c.follow.StdoutPipe()
	if err == nil {
		err = c.follow.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("follow the customers: %w", err)
	}
	go func() { defer close(c.ended); c.listen(out) }()
	return c, until(ctx, 200*time.Millisecond, func() error {
		if c.count() == 0 {
			return errors.New("the customers do not call")
		}
		return nil
	})
}

func (c *customers) listen(out io.Reader) {
	in := json.NewDecoder(out)
	for {
		var l line.Line
		err := in.Decode(&l)
		c.mu.Lock()
		if err != nil {
			c.err = err
			c.mu.Unlock()
			return
		}
		c.calls += len(l.Took)
		c.took = append(c.took, l.Took...)
		c.orders = append(c.orders, l.Orders...)
		for _, f := range l.Failed {
			c.failed = append(c.failed, failure{f, time.Now()})
		}
		c.done = c.done || l.Done
		c.mu.Unlock()
	}
}

func (c *customers) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls
}

// stop has them make their last calls. It is an error if they did not call all the
// time, as then nobody knows what failed.
func (c *customers) stop(ctx context.Context) error {
	if _, err := kubectl(ctx, "-n", loadSpace, "scale", "deployment/load", "--replicas=0"); err != nil {
		return err
	}
	select {
	case <-c.ended:
	case <-time.After(time.Minute):
		_ = c.follow.Process.Kill()
		<-c.ended
	}
	_ = c.follow.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.done {
		return fmt.Errorf("the customers were not heard to the end: %w %s", c.err, c.said.String())
	}
	return nil
}

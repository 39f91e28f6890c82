package main

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/meshmart/meshmart/tests/testbed"
)

// fault is one thing that goes wrong, for a while.
type fault struct {
	kind, target string
	lasting      time.Duration
}

// breakThings makes one fault after another, and mends each, until ctx is done.
// Two do so at the same time, each by its own chances. The error says that one
// could not.
func (c *campaign) breakThings(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for who := range uint64(2) {
		chance := rand.New(rand.NewPCG(c.cfg.Seed, math.MaxUint64-who))
		g.Go(func() error {
			for pause(ctx, time.Duration(200+chance.IntN(800))*time.Millisecond) {
				if err := c.breakOne(context.WithoutCancel(ctx), chance); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// breakOne makes a fault of a target that is whole, and mends it.
func (c *campaign) breakOne(ctx context.Context, chance *rand.Rand) error {
	f := c.choose(chance)
	c.mu.Lock()
	taken := c.broken[f.target]
	c.broken[f.target] = true
	if !taken {
		c.report.Faults[f.kind]++
		c.report.last = f.kind + " " + f.target
	}
	c.mu.Unlock()
	if taken {
		return nil
	}
	err := c.cause(ctx, f)
	c.mu.Lock()
	delete(c.broken, f.target)
	c.mu.Unlock()
	if err != nil {
		return fmt.Errorf("%s %s: %w", f.kind, f.target, err)
	}
	return nil
}

// pause reports whether it waited for d, and ctx is not done.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// choose returns the next fault. Nearly half of them are kills.
func (c *campaign) choose(chance *rand.Rand) fault {
	f := fault{lasting: time.Duration(chance.IntN(2500)) * time.Millisecond}
	f.kind = []string{"kill", "kill", "kill", "kill", "pause", "partition", "slow", "silence", "disconnect"}[chance.IntN(9)]
	switch f.kind {
	case "kill", "pause", "partition":
		containers := c.victims()
		f.target = containers[chance.IntN(len(containers))].Name
	default:
		targets := c.bed.Targets()
		f.target = targets[chance.IntN(len(targets))]
	}
	return f
}

// victims are the containers that faults befall, those that hold work more
// often than the others.
func (c *campaign) victims() []*testbed.Container {
	var v []*testbed.Container
	for _, name := range []string{"order", "order", "payment", "payment", "inventory", "inventory", "gateway", "product", "user"} {
		v = append(v, c.bed.Service(name)...)
	}
	v = append(v, c.bed.Brokers()...)
	if db := c.bed.Database(); db != nil {
		v = append(v, db)
	}
	return v
}

// cause makes the fault, waits for as long as it lasts, and mends it.
func (c *campaign) cause(ctx context.Context, f fault) error {
	switch f.kind {
	case "kill":
		return c.kill(ctx, f)
	case "pause":
		v := c.victim(f.target)
		return during(f.lasting, v.Pause(ctx), func() error { return v.Resume(ctx) })
	case "partition":
		v := c.victim(f.target)
		return during(f.lasting, v.Cut(ctx), func() error { return v.Join(ctx) })
	case "slow":
		restore, err := c.bed.Slow(f.target, 400*time.Millisecond)
		return during(f.lasting, err, restore)
	case "silence":
		restore, err := c.bed.Silence(f.target)
		return during(f.lasting, err, restore)
	default:
		restore, err := c.bed.Disconnect(f.target)
		return during(f.lasting, err, restore)
	}
}

func during(d time.Duration, err error, mend func() error) error {
	if err != nil {
		return err
	}
	time.Sleep(d)
	return mend()
}

// kill ends a container by SIGKILL and starts it again later. How long it takes
// until every order that was under way is decided is the time of recovery.
func (c *campaign) kill(ctx context.Context, f fault) error {
	v := c.victim(f.target)
	if err := v.Kill(ctx); err != nil {
		return err
	}
	killed := time.Now()
	held := c.underWay(ctx)
	time.Sleep(f.lasting / 4)
	if err := v.Start(ctx); err != nil {
		return err
	}
	if isReplica(v) {
		if err := v.WaitReady(ctx); err != nil {
			return err
		}
		c.mu.Lock()
		c.report.ready = append(c.report.ready, time.Since(killed))
		c.mu.Unlock()
	}
	if len(held) > 0 {
		c.recovery.Go(func() { c.watchRecovery(ctx, killed, held) })
	}
	return nil
}

func isReplica(v *testbed.Container) bool {
	return v.Name != "postgres" && !strings.HasPrefix(v.Name, "nats")
}

func (c *campaign) victim(name string) *testbed.Container {
	for _, v := range c.victims() {
		if v.Name == name {
			return v
		}
	}
	panic("no container " + name) // choose took it from the same list
}

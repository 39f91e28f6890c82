package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// run is one, from the deployment to the books.
type run struct {
	cfg       Config
	start     time.Time
	services  []string // that have an autoscaler
	customers *customers
	report    Report
}

// Run tries the shop in the current context's cluster. The report is of what was
// come to; the error says that promises were broken, or why nobody can tell.
func Run(ctx context.Context, cfg Config) (*Report, error) {
	r := &run{cfg: cfg, start: time.Now(), report: Report{Config: cfg}}
	var err error
	if r.report.Context, err = currentContext(ctx); err != nil {
		return &r.report, err
	}
	there, err := deployed(ctx)
	if err == nil && there != "" && there != cfg.Mode {
		r.say("taking away what is there in the mode %s ...", there)
		err = takeAway(ctx, there)
	}
	if err == nil && cfg.Mode == "proxyless" {
		err = needsIstio(ctx)
	}
	if err != nil {
		return &r.report, err
	}
	err = r.all(ctx)
	if n := len(r.report.Violations); n > 0 {
		err = errors.Join(fmt.Errorf("%d promises broken", n), err)
	}
	if !cfg.Keep {
		r.say("taking it away ...")
		err = errors.Join(err, takeAway(context.WithoutCancel(ctx), cfg.Mode))
	}
	r.report.Took = time.Since(r.start)
	return &r.report, err
}

func (r *run) all(ctx context.Context) error {
	r.say("building, and deploying to %s ...", r.report.Context)
	if err := r.deploy(ctx); err != nil {
		return err
	}
	r.say("ready after %v", r.report.Ready.Round(time.Second))
	if r.cfg.Mode == "proxyless" {
		if err := r.refuses(ctx); err != nil {
			return fmt.Errorf("identity: %w", err)
		}
	}
	if err := r.story(ctx); err != nil {
		return fmt.Errorf("story: %w", err)
	}
	var err error
	if r.customers, err = startCustomers(ctx, r.cfg.Rate); err != nil {
		return err
	}
	broken := r.disturb(ctx)
	stopped := r.customers.stop(context.WithoutCancel(ctx))
	if err := errors.Join(broken, stopped); err != nil {
		return err
	}
	if err := r.images(ctx); err != nil { // now, as nodes tell late what they have pulled
		return fmt.Errorf("images: %w", err)
	}
	r.say("no calls any more; waiting for the shop to come to rest ...")
	return r.balance(ctx)
}

// phases are what is done while customers call, in this order.
// istiod only in the mode proxyless: all services lose who tells them of each
// other, and what comes next needs it again.
var phases = []string{"calm", "trace", "istiod", "rollout", "scale", "drain", "kill", "postgres", "nats"}

// lossy are those in which calls may fail: what is killed was about to answer.
var lossy = []string{"kill", "postgres", "nats"}

// disturb does one thing after the other to the shop.
func (r *run) disturb(ctx context.Context) error {
	do := map[string]func(context.Context) error{
		"calm": r.measure, "trace": r.findTrace, "istiod": r.restartIstiod, "rollout": r.rollout, "scale": r.scale, "drain": r.drain, "kill": r.kill,
		"postgres": func(ctx context.Context) error { return r.restart(ctx, "postgres-0") },
		"nats":     func(ctx context.Context) error { return r.restart(ctx, "nats-0") },
	}
	for _, name := range phases {
		if name == "istiod" && r.cfg.Mode != "proxyless" || len(r.cfg.Only) > 0 && !slices.Contains(r.cfg.Only, name) {
			continue
		}
		if err := r.phase(ctx, name, do[name]); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// lateMost is longer than a call can take to end and to be heard of.
const lateMost = 4 * time.Second

// phase counts the calls that end while fn does something, and a little longer.
func (r *run) phase(ctx context.Context, name string, fn func(context.Context) error) error {
	r.say("%s ...", name)
	r.report.Phases = append(r.report.Phases, Phase{Name: name})
	p := &r.report.Phases[len(r.report.Phases)-1]
	c := r.customers
	c.mu.Lock()
	calls, failed := c.calls, len(c.failed)
	c.mu.Unlock()
	p.began = time.Now()
	err := fn(ctx)
	p.Took = time.Since(p.began)
	if err == nil {
		err = pause(ctx, lateMost)
	}
	c.mu.Lock()
	p.Calls, p.Failed = c.calls-calls, c.failed[failed:len(c.failed):len(c.failed)]
	p.latencies = c.took[calls:c.calls:c.calls]
	c.mu.Unlock()
	if len(p.Failed) > 0 && !slices.Contains(lossy, name) {
		r.report.violated("%s: %d of %d calls failed", name, len(p.Failed), p.Calls)
	}
	r.say("%s", p)
	return err
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// say prints a line of progress.
func (r *run) say(format string, args ...any) {
	fmt.Fprintf(r.cfg.Progress, "%6s  %s\n", time.Since(r.start).Round(time.Second), fmt.Sprintf(format, args...))
}

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/meshmart/meshmart/tests/testbed"
)

// restWithin is how long the shop may take to come to rest when nothing is
// broken any more. An order whose payment stays away is given up after less.
const restWithin = 2 * time.Minute

// campaign is one run.
type campaign struct {
	cfg   Config
	bed   *testbed.Bed
	shop  *shop
	start time.Time

	recovery sync.WaitGroup // those who measure how long it takes

	talk sync.Mutex // held while a line is written

	mu     sync.Mutex
	report Report
	broken map[string]bool // what has a fault at the moment

	line sync.Mutex // while one is printed
}

// Run starts a shop, runs a campaign and checks the books. The report is nil if
// it came to nothing; the error says that promises were broken, or why nobody
// can tell, or both.
func Run(ctx context.Context, cfg Config) (*Report, error) {
	c := &campaign{cfg: cfg, report: newReport(cfg), broken: map[string]bool{}}
	c.say("seed %d", cfg.Seed)
	bed, err := testbed.Start(ctx, testbed.Options{
		Engine: cfg.Engine, Replicas: cfg.Replicas, Brokers: cfg.Brokers, Proxied: true,
		Environ: map[string]string{
			"SIMULATOR_FAILURE_RATE": "0.02", "SIMULATOR_JITTER": "20ms", "SIMULATOR_SEED": fmt.Sprint(cfg.Seed),
			"TRACE_RATIO": "0",
		},
		Progress: func(what string) { c.say("%s ...", what) },
	})
	defer func() { _ = bed.Close() }() // the reaper removes what is left
	if err != nil {
		return nil, err
	}
	c.bed, c.start = bed, time.Now()
	if c.shop, err = openShop(ctx, bed); err != nil {
		return nil, fmt.Errorf("open the shop: %w", err)
	}
	err = c.run(ctx)
	broken := len(c.report.Violations)
	if broken > 0 {
		err = errors.Join(fmt.Errorf("%d promises broken; to repeat: -seed %d", broken, cfg.Seed), err)
	}
	if err != nil {
		c.keepLogs()
		if broken == 0 {
			return nil, err
		}
	}
	return &c.report, err
}

// run places the orders under fire, and then takes stock in peace.
func (c *campaign) run(ctx context.Context) error {
	selling, sold := context.WithCancel(ctx)
	defer sold()
	if c.cfg.For > 0 {
		time.AfterFunc(c.cfg.For, sold)
	}
	var faults, progress sync.WaitGroup
	var broken error
	quiet, stop := context.WithCancel(ctx)
	faults.Go(func() {
		if broken = c.breakThings(selling); broken != nil {
			sold() // what is left would be sold in peace
		}
	})
	progress.Go(func() { c.tell(quiet) })
	c.sell(selling)
	sold()
	faults.Wait()
	c.recovery.Wait()
	stop()
	progress.Wait()
	if err := errors.Join(broken, ctx.Err()); err != nil {
		return err
	}
	c.report.Took = time.Since(c.start)
	c.say("all orders are placed; waiting for the shop to come to rest ...")
	return c.settle(ctx)
}

// settle waits for the shop to come to rest and checks the books. What is still
// under way when the time is up is a promise broken, and the books are checked
// all the same.
func (c *campaign) settle(ctx context.Context) error {
	began := time.Now()
	inTime, cancel := context.WithTimeout(ctx, restWithin)
	defer cancel()
	var pending string
	var err error
	for inTime.Err() == nil {
		pending, err = c.pending(inTime)
		if err == nil && pending == "" {
			c.report.Rest = time.Since(began)
			return c.balance(ctx)
		}
		time.Sleep(50 * time.Millisecond)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	c.report.violated("after %v in peace %s (%v)", restWithin, pending, err)
	return c.balance(ctx)
}

func (c *campaign) pending(ctx context.Context) (string, error) {
	books, done, err := c.bed.Books(ctx)
	defer done()
	if err != nil {
		return "", fmt.Errorf("open the books: %w", err)
	}
	return books.Pending(ctx)
}

// balance checks the books, and that every customer's order is there once, as
// they were told. The last events may still be on their way into the inboxes, so
// what is wrong at first is looked at again.
func (c *campaign) balance(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, restWithin)
	defer cancel()
	var wrong []string
	for began := time.Now(); ; time.Sleep(200 * time.Millisecond) {
		var err error
		if wrong, err = c.check(ctx); err != nil {
			return err
		}
		if len(wrong) == 0 || time.Since(began) > 10*time.Second {
			break
		}
	}
	c.report.Violations = append(c.report.Violations, wrong...)
	return nil
}

func (c *campaign) check(ctx context.Context) ([]string, error) {
	books, done, err := c.bed.Books(ctx) // anew: those of SQLite are copies
	defer done()
	if err != nil {
		return nil, fmt.Errorf("open the books: %w", err)
	}
	var wrong []string
	if c.report.Summary, wrong, err = books.Check(ctx); err != nil {
		return nil, err
	}
	told, err := c.checkAnswers(ctx, books.Order)
	return append(wrong, told...), err
}

// say prints a line of progress.
func (c *campaign) say(format string, args ...any) {
	at := time.Duration(0)
	if !c.start.IsZero() {
		at = time.Since(c.start).Round(time.Second)
	}
	c.line.Lock()
	defer c.line.Unlock()
	c.talk.Lock()
	defer c.talk.Unlock()
	fmt.Fprintf(c.cfg.Progress, "%6s  %s\n", at, fmt.Sprintf(format, args...))
}

// tell prints how far the campaign is, every few seconds.
func (c *campaign) tell(ctx context.Context) {
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			c.mu.Lock()
			line := c.report.progress()
			c.mu.Unlock()
			c.say("%s", line)
		}
	}
}

func (c *campaign) keepLogs() {
	if c.cfg.Keep == "" {
		return
	}
	f, err := os.Create(c.cfg.Keep)
	if err != nil {
		c.say("the logs are not kept: %v", err)
		return
	}
	defer f.Close()
	for _, r := range append(c.bed.All(), c.bed.Brokers()...) {
		fmt.Fprintf(f, "==== %s\n%s\n", r.Name, r.Log(context.Background(), 0))
	}
	c.say("the logs of all services are in %s", c.cfg.Keep)
}

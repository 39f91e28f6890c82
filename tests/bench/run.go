package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/meshmart/meshmart/tests/bench/drive"
	"github.com/meshmart/meshmart/tests/bench/rig"
	"github.com/meshmart/meshmart/tests/bench/stats"
)

// bench is one run of everything.
type bench struct {
	cfg     Config
	root    string // of the module
	rig     *rig.Rig
	targets map[where]*target
	results *Results
	start   time.Time
}

// Measure builds, starts and measures. The results are those there are when it
// failed, or nil.
func Measure(ctx context.Context, cfg Config) (*Results, error) {
	b := &bench{cfg: cfg, targets: map[where]*target{}, start: time.Now()}
	b.results = &Results{Time: b.start, Machine: machine(), Args: cfg.Args}
	dir, done, err := workDir(cfg.Dir)
	if err != nil {
		return nil, err
	}
	defer done()
	b.rig = &rig.Rig{Dir: dir, Profile: cfg.Profile != ""}
	defer b.close()
	if err := b.prepare(ctx); err != nil {
		return nil, err
	}
	err = b.measureAll(ctx)
	b.results.Took = time.Since(b.start).Seconds()
	b.results.Goals = verdicts(b.results)
	return b.results, err
}

func (b *bench) close() {
	for _, t := range b.targets {
		if t.store != nil {
			t.store.Close()
		}
	}
	b.rig.Close()
}

// say prints a line of progress.
func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(b.cfg.Progress, "%6s  %s\n", time.Since(b.start).Round(time.Second), fmt.Sprintf(format, args...))
}

func (b *bench) leaveOut(format string, args ...any) {
	b.results.LeftOut = append(b.results.LeftOut, fmt.Sprintf(format, args...))
	b.say("left out: "+format, args...)
}

// measureAll does everything that was asked for.
func (b *bench) measureAll(ctx context.Context) error {
	for _, s := range scenarios {
		if !b.cfg.Only.MatchString(s.name) {
			continue
		}
		if err := b.scenario(ctx, s); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	for _, part := range []struct {
		name string
		do   func(context.Context) error
		ask  int
	}{
		{"sellout", b.sellOut, 1}, {"growth", b.growth, b.cfg.Rows}, {"watchers", b.watchers, b.cfg.Streams}, {"starts", b.starts, b.cfg.Starts},
	} {
		if part.ask == 0 || !b.cfg.Only.MatchString(part.name) || b.cfg.Addr != nil {
			continue
		}
		if err := part.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	return nil
}

// scenario runs the contenders that there are.
func (b *bench) scenario(ctx context.Context, s scenario) error {
	s.contenders = slices.DeleteFunc(slices.Clone(s.contenders), func(c contender) bool { return !b.has(c) })
	if len(s.contenders) == 0 || len(s.contenders) == 1 && s.contenders[0].on == onBare {
		return nil
	}
	levels := s.clients(b.cfg)
	for _, clients := range levels {
		b.say("%s, %d clients", s.name, clients)
		if err := b.closed(ctx, s, clients); err != nil {
			return err
		}
	}
	if s.open {
		b.say("%s, open loop", s.name)
		return b.open(ctx, s, levels[len(levels)-1])
	}
	return nil
}

// has reports whether a contender can run: with -addr, whether its service was
// named.
func (b *bench) has(c contender) bool {
	t := b.targets[c.on]
	if t == nil {
		return false
	}
	_, shut, err := c.make(t, 1)
	if err == nil {
		shut()
	}
	return err == nil
}

// warm is how long a contender runs before a run counts.
const warm = 200 * time.Millisecond

// closed measures all contenders round by round, and compares them.
func (b *bench) closed(ctx context.Context, s scenario, clients int) error {
	for round := range b.cfg.Rounds {
		for _, c := range s.contenders {
			run, err := b.one(ctx, s, c, clients, func(ctx context.Context, call drive.Call) *drive.Load {
				return drive.Closed(ctx, clients, b.cfg.Time, call)
			})
			if err != nil {
				return err
			}
			run.Round = round + 1
			b.results.Runs = append(b.results.Runs, run)
		}
	}
	b.compare(s, clients)
	return nil
}

// one makes one run of a contender.
func (b *bench) one(ctx context.Context, s scenario, c contender, clients int, load func(context.Context, drive.Call) *drive.Load) (Run, error) {
	t := b.targets[c.on]
	call, shut, err := c.make(t, clients)
	if err != nil {
		return Run{}, err
	}
	defer shut()
	drive.Closed(ctx, clients, min(warm, b.cfg.Time/2), call)
	m := meter{procs: t.procs(), settles: c.settles, idle: t.idle}
	if c.settles {
		m.rest(ctx)
	}
	profiled := b.profile(ctx, s, c, clients, t)
	l, used := m.during(ctx, func() *drive.Load { return load(ctx, call) })
	for again := 0; l.Calls == 0 && again < 3 && ctx.Err() == nil; again++ { // a short run may meet a stall alone
		l, used = m.during(ctx, func() *drive.Load { return load(ctx, call) })
	}
	profiled()
	if err := ctx.Err(); err != nil {
		return Run{}, err
	}
	if l.Calls == 0 {
		return Run{}, fmt.Errorf("%s with %d clients: no call of %d ended well: %w", c.name, clients, l.Failed, l.Err)
	}
	run := Run{Scenario: s.name, Contender: c.name, Clients: clients, Calls: l.Calls, Failed: l.Failed, PerSecond: l.PerSecond(),
		P50: us(l, 0.5), P95: us(l, 0.95), P99: us(l, 0.99), P999: us(l, 0.999), CPU: used.cpu, Allocs: used.allocs, RSS: used.rss}
	if l.Err != nil {
		run.Error = l.Err.Error()
		b.say("%s on %s: %d of %d calls failed: %.200s", s.name, c.name, l.Failed, l.Failed+l.Calls, run.Error)
	}
	return run, nil
}

// us is a quantile in microseconds.
func us(l *drive.Load, q float64) float64 { return float64(l.Latency.Quantile(q).Nanoseconds()) / 1000 }

// compare divides every contender by the first.
func (b *bench) compare(s scenario, clients int) {
	yard := b.results.of(s.name, s.contenders[0].name, clients)
	for _, c := range s.contenders[1:] {
		runs := b.results.of(s.name, c.name, clients)
		ratio := func(figure func(Run) float64) stats.Spread {
			return stats.Ratios(each(runs, figure), each(yard, figure))
		}
		b.results.Ratios = append(b.results.Ratios, Ratio{Scenario: s.name, Contender: c.name, To: s.contenders[0].name, Clients: clients,
			CPU: ratio(Run.TotalCPU), PerSecond: ratio(perSecond), P50: ratio(p50)})
	}
}

// inFlight is how many calls of an open loop may wait at once.
const inFlight = 256

// open measures latency against load: each contender at shares of what it has
// reached in the closed loop with the most clients.
func (b *bench) open(ctx context.Context, s scenario, clients int) error {
	for _, share := range b.cfg.Rates {
		for _, c := range s.contenders {
			if c.slow {
				continue
			}
			rate := share * stats.Of(each(b.results.of(s.name, c.name, clients), perSecond)).Median
			run, err := b.one(ctx, s, c, inFlight, func(ctx context.Context, call drive.Call) *drive.Load {
				return drive.Open(ctx, inFlight, rate, b.cfg.Time, call)
			})
			if err != nil {
				return err
			}
			run.Rate, run.Round = rate, 1
			b.results.Runs = append(b.results.Runs, run)
		}
	}
	return nil
}

// names returns the keys of a map in order.
func names[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

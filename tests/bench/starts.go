package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/meshmart/meshmart/tests/bench/procs"
	"github.com/meshmart/meshmart/tests/bench/rig"
	"github.com/meshmart/meshmart/tests/bench/stats"
)

// alone is how long nobody calls a program before its memory is looked at.
const alone = 3 * time.Second

// launch starts a program that has its data under a name.
type launch func(ctx context.Context, as, data string) (*procs.Proc, error)

// starts measures how each program starts, on an empty database and on one with
// its schema, and what it needs when nobody calls.
func (b *bench) starts(ctx context.Context) error {
	launches := map[string]launch{}
	if b.targets[onPostgres] != nil {
		for _, name := range rig.Services {
			launches[name] = b.service(name)
		}
	}
	if b.targets[onSQLite] != nil {
		launches["shop"] = func(ctx context.Context, as, data string) (*procs.Proc, error) {
			shop, err := b.rig.StartOne(ctx, as, data, "builtin")
			if err != nil {
				return nil, err
			}
			return shop.Procs[0], nil
		}
	}
	idle := map[int]*procs.Proc{} // by their place in the results
	for _, name := range names(launches) {
		b.say("starts: %s", name)
		s, p, err := b.startOf(ctx, name, launches[name])
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		idle[len(b.results.Starts)] = p
		b.results.Starts = append(b.results.Starts, s)
	}
	time.Sleep(alone)
	for i, p := range idle {
		b.results.Starts[i].IdleRSS, b.results.Starts[i].IdleOwn = procs.RSS(p.PID), procs.Anonymous(p.PID)
		b.rig.Stop(p)
	}
	return b.imageSize(ctx)
}

// service launches one of the separate ones, with an empty catalog.
func (b *bench) service(name string) launch {
	return func(ctx context.Context, as, data string) (*procs.Proc, error) {
		url := ""
		if rig.Owns(name) {
			url = b.rig.Postgres.URL(data)
		}
		p, _, err := b.rig.Extra(ctx, name, as, url)
		return p, err
	}
}

// startOf starts a program twice on new data, as often as was asked for, and
// leaves the last one running.
func (b *bench) startOf(ctx context.Context, name string, start launch) (Start, *procs.Proc, error) {
	var first, later []float64
	var last *procs.Proc
	for i := range b.cfg.Starts {
		data := fmt.Sprintf("started_%s_%d", name, i)
		if rig.Owns(name) {
			if _, err := b.rig.Postgres.Create(ctx, data); err != nil {
				return Start{}, nil, err
			}
		}
		for _, times := range []*[]float64{&first, &later} {
			if last != nil {
				b.rig.Stop(last)
			}
			began := time.Now()
			var err error
			if last, err = start(ctx, "start-"+name, data); err != nil {
				return Start{}, nil, err
			}
			*times = append(*times, float64(time.Since(began).Microseconds())/1000)
		}
	}
	s := Start{Name: name, First: stats.Of(first), Again: stats.Of(later)}
	if info, err := os.Stat(last.Binary); err == nil {
		s.Binary = info.Size()
	}
	return s, last, nil
}

// imageSize asks Docker for the image that was named.
func (b *bench) imageSize(ctx context.Context) error {
	if b.cfg.Image == "" {
		return nil
	}
	out, err := exec.CommandContext(ctx, "docker", "image", "inspect", "-f", "{{.Size}}", b.cfg.Image).Output()
	if err != nil {
		b.leaveOut("size of the image %s: %v", b.cfg.Image, err)
		return nil
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
	b.results.Starts = append(b.results.Starts, Start{Name: "image " + b.cfg.Image, Image: n})
	return err
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/meshmart/meshmart/tests/bench/procs"
)

// profile begins a processor profile of every service if one was asked for, and
// returns what waits for its end and asks the database for its statements. Only
// the last round's is kept. Figures of a
// run that is profiled are a little too high.
func (b *bench) profile(ctx context.Context, s scenario, c contender, clients int, t *target) func() {
	if b.cfg.Profile == "" || clients != 64 {
		return func() {}
	}
	file := func(what string) string {
		return filepath.Join(b.cfg.Profile, strings.ReplaceAll(fmt.Sprintf("%s_%s_%s", s.name, c.name, what), " ", "-"))
	}
	b.statements(ctx, t, "") // forget those of before
	var wg sync.WaitGroup
	for _, p := range t.procs() {
		if p.Profile == "" {
			continue
		}
		wg.Go(func() {
			if err := b.fetchProfile(ctx, p, int(max(b.cfg.Time.Seconds(), 1)), file(p.Name+".pprof")); err != nil {
				b.say("no profile of %s: %v", p.Name, err)
			}
		})
	}
	return func() {
		wg.Wait()
		b.statements(ctx, t, file("statements.txt"))
	}
}

// statements writes what the database has done, if it is one of the processes.
func (b *bench) statements(ctx context.Context, t *target, path string) {
	db := b.rig.Postgres
	if db == nil || db.Proc == nil || !slices.Contains(t.procs(), db.Proc) {
		return
	}
	text, err := db.Statements(ctx)
	if err == nil && path != "" {
		err = errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644))
	}
	if err != nil {
		b.say("no statements: %v", err)
	}
}

func (b *bench) fetchProfile(ctx context.Context, p *procs.Proc, seconds int, path string) error {
	if err := os.MkdirAll(b.cfg.Profile, 0o755); err != nil {
		return err
	}
	url := fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", p.Profile, seconds)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(f, resp.Body)
	return err
}

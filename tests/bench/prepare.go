package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"

	"github.com/meshmart/meshmart/tests/bench/rig"
	"github.com/meshmart/meshmart/tests/bench/storage"
)

// workDir returns a folder for data and logs, and what removes it.
func workDir(given string) (string, func(), error) {
	if given != "" {
		dir, err := filepath.Abs(given)
		if err != nil {
			return "", nil, err
		}
		return dir, func() {}, os.MkdirAll(dir, 0o755)
	}
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return "", nil, err
	}
	// PostgreSQL runs as another user, who has a folder in it.
	return dir, func() { _ = os.RemoveAll(dir) }, os.Chmod(dir, 0o755)
}

// prepare builds and starts what the scenarios need.
func (b *bench) prepare(ctx context.Context) error {
	b.say("building ...")
	var err error
	if b.root, err = rig.Root(ctx); err != nil {
		return err
	}
	bin := filepath.Join(b.rig.Dir, "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return err
	}
	if b.rig.Programs, err = rig.Tools(ctx, b.root, bin); err != nil {
		return err
	}
	_, addr, err := b.rig.StartBare(ctx, "bare")
	if err != nil {
		return err
	}
	b.targets[onBare] = &target{shop: &rig.Shop{Name: "bare", Procs: b.rig.Started("bare"), Addr: map[string]string{"product": addr, "greeter": addr}}}
	if b.cfg.Addr != nil {
		t := &target{shop: &rig.Shop{Name: "addr", Addr: b.cfg.Addr, REST: b.cfg.Addr["rest"]}}
		b.targets[onAddr] = t
		return t.open(ctx)
	}
	if err := b.rig.Programs.Build(ctx, b.root, bin, b.cfg.Bin, b.rig.Profile); err != nil {
		return err
	}
	if err := b.rig.Catalog(b.cfg.Products); err != nil {
		return err
	}
	return b.startEngines(ctx)
}

// startEngines starts the shops, each with the bare database beside it.
func (b *bench) startEngines(ctx context.Context) error {
	if slices.Contains(b.cfg.Engines, string(onPostgres)) {
		b.say("starting PostgreSQL, a broker and %d services ...", len(rig.Services))
		err := b.startPostgres(ctx)
		if errors.Is(err, rig.ErrNoPostgres) {
			b.leaveOut("everything on PostgreSQL: %v", err)
		} else if err != nil {
			return err
		}
	}
	if slices.Contains(b.cfg.Engines, string(onSQLite)) {
		b.say("starting the shop in one process on SQLite ...")
		if err := b.startSQLite(ctx); err != nil {
			return err
		}
	}
	for _, on := range []where{onPostgres, onSQLite} {
		if t := b.targets[on]; t != nil {
			t.idle = meter{procs: t.procs()}.share(idleFor)
			b.say("%s uses %.1f %% of a processor when nobody calls", on, 100*t.idle)
		}
	}
	return nil
}

func (b *bench) startPostgres(ctx context.Context) (err error) {
	if b.rig.Postgres, err = rig.StartPostgres(ctx, b.rig.Dir, b.rig.Profile); err != nil {
		return err
	}
	shop, err := b.rig.StartSeparate(ctx)
	if err != nil {
		return err
	}
	b.targets[onPostgres] = &target{shop: shop}
	url, err := b.rig.Postgres.Create(ctx, "bench_bare")
	if err != nil {
		return err
	}
	store, err := storage.Postgres(ctx, url, b.root, b.cfg.Products)
	if err != nil {
		return err
	}
	bare := &rig.Shop{Name: string(onBarePG)}
	if p := b.rig.Postgres.Proc; p != nil {
		bare.Procs = append(bare.Procs, p)
	}
	b.targets[onBarePG] = &target{shop: bare, store: store}
	return b.targets[onPostgres].open(ctx)
}

func (b *bench) startSQLite(ctx context.Context) error {
	shop, err := b.rig.StartOne(ctx, "shop", "data", b.rig.CatalogFile)
	if err != nil {
		return err
	}
	b.targets[onSQLite] = &target{shop: shop}
	store, err := storage.SQLite(ctx, filepath.Join(b.rig.Dir, "bare.db"), b.root, b.cfg.Products)
	if err != nil {
		return err
	}
	b.targets[onBareSQLite] = &target{shop: &rig.Shop{Name: string(onBareSQLite)}, store: store}
	return b.targets[onSQLite].open(ctx)
}

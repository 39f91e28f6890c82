package db

import (
	"context"
	"fmt"
	"io/fs"
	"time"

	"github.com/pressly/goose/v3"
)

// start migrates, or leaves it to the background if the server is away.
func (c *core) start(ctx, background context.Context) error {
	err := c.reach(ctx)
	if err == nil {
		err = c.migrate(ctx)
	}
	if err == nil {
		c.down.Store(nil)
		return nil
	}
	if !IsUnavailable(err) || !c.remote || isRefused(err) || ctx.Err() != nil {
		return err
	}
	c.away(ctx, err)
	c.work.Go(func() { c.migrateLater(background) })
	return nil
}

// reach gives a server the time to answer that Open has.
func (c *core) reach(ctx context.Context) error {
	if !c.remote {
		return nil
	}
	soon, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := c.writes.PingContext(soon)
	if err != nil && soon.Err() != nil && ctx.Err() == nil {
		return &outage{err}
	}
	return lost(err)
}

// migrateLater tries until it has migrated or ctx is done. It goes on even
// after an error that looks lasting: who mends it need not restart the process.
func (c *core) migrateLater(ctx context.Context) {
	for n := 0; ; n++ {
		if pause(ctx, n, 50*time.Millisecond, 5*time.Second) != nil {
			return
		}
		err := c.migrate(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			c.down.Store(nil)
			c.log.InfoContext(ctx, "database is there")
			return
		}
		c.away(ctx, err)
	}
}

// away keeps err as the reason why nothing can be done, and logs a reason once.
func (c *core) away(ctx context.Context, err error) {
	was := c.down.Swap(&outage{err})
	if was.err.Error() == err.Error() {
		return
	}
	c.log.WarnContext(ctx, "database is not ready, trying again", "error", err)
}

// migrate brings all schemas up to date. Replicas that start together do so
// one after the other, and the later find nothing left to do.
func (c *core) migrate(ctx context.Context) error {
	unlock, err := c.lock(ctx)
	if err != nil {
		return fmt.Errorf("lock for migration: %w", lost(err))
	}
	defer unlock()
	for _, s := range c.schemas {
		if err := c.apply(ctx, s); err != nil {
			return fmt.Errorf("migrate %s: %w", s.Name, lost(err))
		}
	}
	return nil
}

// apply runs the migrations of s that the database has not seen. Versions that
// the database has and s lacks are those of a newer release, and are no error.
func (c *core) apply(ctx context.Context, s Schema) error {
	files, err := fs.Sub(s.FS, "schema")
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(c.goose, c.writes, files,
		goose.WithTableName(s.Name+"_version"),
		goose.WithDisableGlobalRegistry(true),
		goose.WithSlog(c.log))
	if err != nil {
		return err
	}
	done, err := p.Up(ctx)
	for _, m := range done {
		c.log.DebugContext(ctx, "migrated", "schema", s.Name, "version", m.Source.Version, "took", m.Duration)
	}
	return err
}

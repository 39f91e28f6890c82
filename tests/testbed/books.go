package testbed

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/meshmart/meshmart/tests/audit"
)

// Books opens what an audit reads, past any proxy. The caller calls done. With
// SQLite the services are stopped while their databases are copied; then there
// is no work under way that they could not finish at a shutdown.
func (b *Bed) Books(ctx context.Context) (books audit.Books, done func(), err error) {
	var closers []func() error
	done = func() {
		for _, fn := range closers {
			_ = fn() // they were only read
		}
	}
	defer func() {
		if err != nil {
			done()
		}
	}()
	open := b.OpenDatabase
	if b.opt.Engine == SQLite {
		dir, err := os.MkdirTemp("", "books")
		if err != nil {
			return books, done, err
		}
		closers = append(closers, func() error { return os.RemoveAll(dir) })
		if err := b.copyDatabases(ctx, dir); err != nil {
			return books, done, err
		}
		open = func(_ context.Context, service string) (*sql.DB, error) {
			return sql.Open("sqlite", filepath.Join(dir, service+".db"))
		}
	}
	for _, book := range []struct {
		service string
		db      **sql.DB
	}{{"order", &books.Order}, {"payment", &books.Payment}, {"inventory", &books.Inventory}} {
		if *book.db, err = open(ctx, book.service); err != nil {
			return books, done, err
		}
		closers = append(closers, (*book.db).Close)
	}
	url, err := b.brokers[0].BrokerURL(ctx)
	if err != nil {
		return books, done, err
	}
	nc, err := nats.Connect(url)
	if err != nil {
		return books, done, fmt.Errorf("broker: %w", err)
	}
	closers = append(closers, func() error { nc.Close(); return nil })
	books.Broker, err = jetstream.New(nc)
	return books, done, err
}

// copyDatabases lets the services work for a moment, stops them, copies their
// files, and starts them again.
func (b *Bed) copyDatabases(ctx context.Context, dir string) error {
	select {
	case <-time.After(time.Second):
	case <-ctx.Done():
		return ctx.Err()
	}
	var errs []error
	for _, name := range []string{"order", "payment", "inventory"} {
		c := b.services[name][0]
		errs = append(errs, c.Stop(ctx), c.copyFile(ctx, dataDir+"/"+name+".db", dir))
	}
	for _, name := range []string{"order", "payment", "inventory"} {
		errs = append(errs, b.services[name][0].Start(ctx))
	}
	return errors.Join(errs...)
}

func (c *Container) copyFile(ctx context.Context, path, dir string) error {
	in, err := c.running.CopyFileFromContainer(ctx, path)
	if err != nil {
		return c.did("copy "+path+" from", err)
	}
	defer in.Close()
	out, err := os.Create(filepath.Join(dir, filepath.Base(path)))
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

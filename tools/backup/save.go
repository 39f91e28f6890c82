package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// save writes one file for each service: what pg_dump makes in its own format, or
// a SQLite database.
func (c *config) save(ctx context.Context) error {
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return err
	}
	for _, service := range c.only {
		d, began := c.database(service), time.Now()
		write := c.vacuum
		if d.postgres() {
			write = c.dump
		}
		file := filepath.Join(c.dir, d.file())
		if _, err := os.Stat(file); err == nil {
			return fmt.Errorf("%s is there already", file)
		}
		if err := write(ctx, d, file+".part"); err != nil {
			return errors.Join(fmt.Errorf("save %s: %w", service, err), os.Remove(file+".part"))
		}
		if err := os.Rename(file+".part", file); err != nil {
			return err
		}
		info, err := os.Stat(file)
		if err != nil {
			return err
		}
		c.say("%s  %-10s %8d kB in %v", began.UTC().Format(time.RFC3339Nano), service, info.Size()/1000, time.Since(began).Round(time.Millisecond))
	}
	return nil
}

// file is the name of the database in a backup.
func (d database) file() string {
	if d.postgres() {
		return d.service + ".dump"
	}
	return d.service + ".db"
}

// dump has pg_dump write what the database was at one moment.
func (c *config) dump(ctx context.Context, d database, file string) error {
	out, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	cmd, err := c.program(ctx, d, "pg_dump", "--format=custom", "--no-owner", "--no-privileges")
	if err == nil {
		cmd.Stdout = out
		err = cmd.Run()
	}
	return errors.Join(err, out.Sync(), out.Close())
}

// vacuum has SQLite write what the database was at one moment, without waiting for
// those who write to it, nor keeping them from it.
func (c *config) vacuum(ctx context.Context, d database, file string) error {
	db, err := d.sqlite()
	if err != nil {
		return err
	}
	defer db.Close()
	if err := os.WriteFile(file, nil, 0o600); err != nil { // an empty file it takes, and keeps its mode
		return err
	}
	_, err = db.ExecContext(ctx, `VACUUM INTO $1`, file)
	return err
}

// restore reads all files into empty databases.
func (c *config) restore(ctx context.Context) error {
	for _, service := range c.only { // all or none
		if _, err := os.Stat(filepath.Join(c.dir, c.database(service).file())); err != nil {
			return err
		}
	}
	for _, service := range c.only {
		d := c.database(service)
		read := c.place
		if d.postgres() {
			read = c.load
		}
		if err := read(ctx, d, filepath.Join(c.dir, d.file())); err != nil {
			return fmt.Errorf("restore %s: %w", service, err)
		}
		c.say("restored %s", service)
	}
	return nil
}

// load has pg_restore fill the database, or leave it as it was.
func (c *config) load(ctx context.Context, d database, file string) error {
	in, err := os.Open(file)
	if err != nil {
		return err
	}
	defer in.Close()
	cmd, err := c.program(ctx, d, "pg_restore", "--no-owner", "--no-privileges", "--exit-on-error", "--single-transaction")
	if err != nil {
		return err
	}
	cmd.Stdin, cmd.Stdout = in, os.Stderr
	return cmd.Run()
}

// place copies the file to where the service looks for it. What a database left
// beside its file would be taken for its own.
func (c *config) place(_ context.Context, d database, file string) (err error) {
	if err := os.MkdirAll(filepath.Dir(d.at), 0o700); err != nil {
		return err
	}
	unlock, err := d.lock()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	for _, path := range []string{d.at, d.at + "-wal", d.at + "-shm", d.at + "-journal"} {
		if _, err := os.Stat(path); err == nil {
			return fmt.Errorf("%s is there already", path)
		}
	}
	in, err := os.Open(file)
	if err != nil {
		return err
	}
	defer in.Close()
	return write(in, d.at)
}

// write makes a file of what is read, or none.
func write(in io.Reader, file string) error {
	part := file + ".part"
	out, err := os.OpenFile(part, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if err = errors.Join(err, out.Sync(), out.Close()); err != nil {
		return errors.Join(err, os.Remove(part))
	}
	return os.Rename(part, file)
}

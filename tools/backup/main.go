// Command backup saves the databases of a shop's services, restores them, and
// brings restored ones together. docs/operations.md says when to do what, and
// tests/backup does it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
)

const usage = `usage: go run ./tools/backup COMMAND [flags]

  save -dir DIR      writes the database of each service into the folder DIR while the
                     shop runs; each is consistent in itself, order is the first
  restore -dir DIR   reads them into databases that are empty
  reconcile          makes good what the databases do not know of each other, because
                     they were saved one after the other or the broker's streams were
                     lost. It says what it finds; with -n it changes nothing

Services are stopped for restore and reconcile. An order that can be finished is
finished by the services when they run again, any other is taken back by them.

Each service's database is NAME_DATABASE_URL (ORDER_DATABASE_URL, ...) if that is
set, else -url with %s for the service's name, else the SQLite file NAME.db in -data.
On PostgreSQL, save and restore use its own pg_dump and pg_restore, which must not be
older than the server: -exec has those where the server is, and then the URLs are as
seen from there:

  -exec 'kubectl -n meshmart exec -i postgres-0 --' -url postgres://shop@127.0.0.1/shop_%s

`

// services are those that have a database, in the order in which they are saved:
// who begins something comes before those that it changes, so that these know what
// has become of it.
var services = []string{"order", "inventory", "payment", "product", "user"}

// config is what the flags say.
type config struct {
	command string
	dir     string // of the backup
	data    string // of SQLite databases
	url     string // of PostgreSQL databases, with %s for the service; "" is SQLite
	exec    string // what runs PostgreSQL's programs; "": they are here
	only    []string
	dry     bool
	out     io.Writer
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	cfg, err := parse(os.Args[1:], os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return
	case err != nil:
		fmt.Fprintf(os.Stderr, "backup: %v; see -help\n", err)
		os.Exit(2)
	}
	cfg.out = os.Stdout
	if err := cfg.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "backup:", err)
		stop()
		os.Exit(1)
	}
}

func parse(args []string, help io.Writer) (*config, error) {
	cfg := &config{}
	f := flag.NewFlagSet("backup", flag.ContinueOnError)
	f.SetOutput(help)
	f.Usage = func() { _, _ = io.WriteString(help, usage); f.PrintDefaults() }
	f.StringVar(&cfg.dir, "dir", "", "folder of the backup")
	f.StringVar(&cfg.data, "data", "data", "folder of the SQLite databases")
	f.StringVar(&cfg.url, "url", "", "URL of the PostgreSQL databases, with %s for the service's name")
	f.StringVar(&cfg.exec, "exec", "", "command before pg_dump and pg_restore")
	only := f.String("only", strings.Join(services, ","), "save, restore: these databases")
	f.BoolVar(&cfg.dry, "n", false, "reconcile: only say what is found")
	if len(args) > 0 && args[0] != "" && args[0][0] != '-' {
		cfg.command, args = args[0], args[1:]
	}
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	cfg.only = strings.Split(*only, ",")
	switch unknown := slices.IndexFunc(cfg.only, func(s string) bool { return !slices.Contains(services, s) }); {
	case f.NArg() > 0:
		return nil, fmt.Errorf("unexpected argument %q", f.Arg(0))
	case cfg.command != "save" && cfg.command != "restore" && cfg.command != "reconcile":
		return nil, fmt.Errorf("no command %q", cfg.command)
	case cfg.dir == "" && cfg.command != "reconcile":
		return nil, errors.New("-dir: which folder?")
	case unknown >= 0:
		return nil, fmt.Errorf("-only: %q has no database", cfg.only[unknown])
	}
	return cfg, nil
}

func (c *config) run(ctx context.Context) error {
	switch c.command {
	case "save":
		return c.save(ctx)
	case "restore":
		return c.restore(ctx)
	}
	return c.reconcile(ctx)
}

func (c *config) say(format string, args ...any) { fmt.Fprintf(c.out, format+"\n", args...) }

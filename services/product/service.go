package product

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"

	productpb "github.com/meshmart/meshmart/proto/product/v1"
	"github.com/meshmart/meshmart/services/internal/app"
	"github.com/meshmart/meshmart/services/internal/batch"
)

//go:embed schema/*.sql
var schema embed.FS

// builtin is the catalog that comes with the program, as JSON lines.
//
//go:embed catalog.jsonl
var builtin string

// Builtin is the CatalogFile that stands for the catalog that comes with the
// program.
const Builtin = "builtin"

// Config is what the service reads from its environment.
type Config struct {
	CatalogFile string `env:"CATALOG_FILE" doc:"JSON lines with the products to begin with, imported at the first start, when the catalog has never had a product; builtin: an example; empty: none"`
}

// Validate refuses a file that is not there.
func (c *Config) Validate() error {
	r, err := c.open()
	if err != nil {
		return fmt.Errorf("CATALOG_FILE: %w", err)
	}
	return r.Close()
}

func (c *Config) open() (io.ReadCloser, error) {
	switch c.CatalogFile {
	case "":
		return io.NopCloser(strings.NewReader("")), nil
	case Builtin:
		return io.NopCloser(strings.NewReader(builtin)), nil
	}
	f, err := os.Open(c.CatalogFile)
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || info.IsDir() {
		return nil, errors.Join(fmt.Errorf("%s is no file", c.CatalogFile), err, f.Close())
	}
	return f, nil
}

// New returns the product service.
func New() app.Service {
	cfg := &Config{}
	return app.Service{
		Name:   "product",
		Doc:    "keeps the catalog: what the shop sells, and for how much",
		Calls:  []string{"user"}, // for the keys of tokens
		Config: cfg,
		Start:  func(ctx context.Context, env *app.Env) error { return start(ctx, env, cfg) },
	}
}

func start(ctx context.Context, env *app.Env, cfg *Config) error {
	database, err := env.DB(ctx, schema)
	if err != nil {
		return err
	}
	outbox, err := env.Outbox(database)
	if err != nil {
		return err
	}
	bus, err := env.Bus()
	if err != nil {
		return err
	}
	st := &store{database}
	catalog := &Catalog{store: st, events: &announcer{outbox}, clock: env.Clock}
	if cfg.CatalogFile != "" {
		seed(env, catalog, cfg)
	}
	productpb.RegisterProductServiceServer(env.Server, &handler{
		catalog: catalog, store: st, reads: &batch.Reader[string, Product]{Read: st.byID}, watcher: &watcher{bus, env.Log}, listed: listed(), draining: env.Draining(),
		watchers: make(chan struct{}, maxWatchers),
	})
	return nil
}

// seed has the catalog file imported before the service is ready.
func seed(env *app.Env, catalog *Catalog, cfg *Config) {
	var done atomic.Bool
	env.Check("catalog", func(context.Context) error {
		if !done.Load() {
			return errors.New("the catalog file is not imported yet")
		}
		return nil
	})
	env.Go("catalog", func(ctx context.Context) error {
		sum, err := catalog.Seed(ctx, func(ctx context.Context, in *Import) error {
			r, err := cfg.open()
			if err != nil {
				return err
			}
			defer r.Close()
			return readLines(ctx, r, in)
		})
		if err != nil {
			return fmt.Errorf("import %s: %w", cfg.CatalogFile, err)
		}
		done.Store(true)
		if sum != nil {
			report(ctx, env, cfg.CatalogFile, *sum)
		}
		return nil
	})
}

// report logs what was imported, and what was not.
func report(ctx context.Context, env *app.Env, file string, sum Summary) {
	for _, r := range sum.Rejections {
		env.Log.WarnContext(ctx, "line of the catalog file is left out",
			"file", file, "line", r.Line, "sku", r.SKU, "field", r.Field, "reason", r.Reason)
	}
	env.Log.InfoContext(ctx, "catalog file is imported", "file", file, "products", sum.Created, "rejected", sum.Rejected)
}

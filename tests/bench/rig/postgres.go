package rig

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"

	"github.com/meshmart/meshmart/tests/bench/procs"
	"github.com/meshmart/meshmart/tests/freeport"
)

// Postgres is a server with databases for the services. It is durable: a commit
// is on the disk, as the settings that it comes with have it.
type Postgres struct {
	Proc *procs.Proc // nil: it is somebody else's, and what it uses is not known
	base string      // URL
}

// ErrNoPostgres says that there is no server to measure.
var ErrNoPostgres = errors.New("no PostgreSQL: set TEST_POSTGRES_URL or install Debian's postgresql")

// StartPostgres uses TEST_POSTGRES_URL, or starts Debian's server in dir. With
// profile it counts statements: see Statements.
func StartPostgres(ctx context.Context, dir string, profile bool) (*Postgres, error) {
	if base := os.Getenv("TEST_POSTGRES_URL"); base != "" {
		return &Postgres{base: base}, nil
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(found) == 0 {
		return nil, ErrNoPostgres
	}
	bin := filepath.Dir(found[len(found)-1])
	who, err := unprivileged()
	if err != nil {
		return nil, err
	}
	dir = filepath.Join(dir, "postgres")
	if err := initdb(ctx, bin, dir, who); err != nil {
		return nil, err
	}
	var more []string
	if profile {
		more = []string{"-c", "shared_preload_libraries=pg_stat_statements"}
	}
	return runPostgres(ctx, bin, dir, who, more)
}

// initdb makes the server's files in a new folder.
func initdb(ctx context.Context, bin, dir string, who *syscall.Credential) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	if who != nil {
		if err := os.Chown(dir, int(who.Uid), int(who.Gid)); err != nil {
			return err
		}
	}
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "initdb"), "-D", filepath.Join(dir, "data"),
		"-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions")
	cmd.Dir, cmd.SysProcAttr = dir, &syscall.SysProcAttr{Credential: who}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, out)
	}
	return nil
}

func runPostgres(ctx context.Context, bin, dir string, who *syscall.Credential, more []string) (*Postgres, error) {
	ports, err := freeport.Ports(1)
	if err != nil {
		return nil, err
	}
	port := ports[0]
	p := &Postgres{base: fmt.Sprintf("postgres://postgres@127.0.0.1:%d/postgres?sslmode=disable", port)}
	p.Proc, err = procs.Start(procs.Command{
		Name: "postgres", Path: filepath.Join(bin, "postgres"), Dir: dir, User: who,
		Args: append([]string{"-D", filepath.Join(dir, "data"), "-k", dir, "-p", strconv.Itoa(port),
			"-c", "listen_addresses=127.0.0.1", "-c", "max_connections=400", "-c", "shared_buffers=256MB", "-c", "max_wal_size=4GB"}, more...),
	})
	if err != nil {
		return nil, err
	}
	return p, p.Proc.Await(ctx, time.Minute, func(ctx context.Context) error { return p.Exec(ctx, "", "SELECT 1") })
}

// Stop ends a server that was started here.
func (p *Postgres) Stop() {
	if p.Proc != nil {
		p.Proc.Stop(syscall.SIGINT) // connections are cut
	}
}

// URL is where a database is; "" is the server's own.
func (p *Postgres) URL(database string) string {
	u, err := url.Parse(p.base)
	if err != nil || database == "" {
		return p.base
	}
	u.Path = "/" + database
	return u.String()
}

// Create makes an empty database, in place of one that is there.
func (p *Postgres) Create(ctx context.Context, database string) (string, error) {
	for _, statement := range []string{"DROP DATABASE IF EXISTS " + database + " WITH (FORCE)", "CREATE DATABASE " + database} {
		if err := p.Exec(ctx, "", statement); err != nil {
			return "", err
		}
	}
	return p.URL(database), nil
}

// Exec runs statements in a database.
func (p *Postgres) Exec(ctx context.Context, database string, statements ...string) error {
	pool, err := sql.Open("pgx", p.URL(database))
	if err != nil {
		return errors.New("TEST_POSTGRES_URL is no URL") // its text may hold a password
	}
	defer pool.Close()
	for _, s := range statements {
		if _, err := pool.ExecContext(ctx, s); err != nil {
			return fmt.Errorf("%.60s: %w", s, err)
		}
	}
	return nil
}

// unprivileged returns whom the server runs as, as it refuses to be root's; nil
// is who runs this.
func unprivileged() (*syscall.Credential, error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, err
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, err
}

// Fill runs statements in a database, which have the number of rows as $1 and a
// user as $2; one without parameters gets none.
func (p *Postgres) Fill(ctx context.Context, database string, statements []string, rows int, user string) error {
	pool, err := sql.Open("pgx", p.URL(database))
	if err != nil {
		return err
	}
	defer pool.Close()
	for _, s := range statements {
		var args []any
		if strings.Contains(s, "$1") {
			args = []any{rows, user}
		}
		if _, err := pool.ExecContext(ctx, s, args...); err != nil {
			return fmt.Errorf("%.60s: %w", s, err)
		}
	}
	return nil
}

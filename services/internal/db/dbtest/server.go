package dbtest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// server returns the URL of the PostgreSQL server for this test binary, or ""
// if there is none. It starts the server when it is first called.
var server = sync.OnceValues(func() (string, error) {
	if url := os.Getenv("TEST_POSTGRES_URL"); url != "" {
		return url, nil
	}
	bin := programs()
	if bin == "" {
		return "", nil
	}
	return start(bin)
})

// programs returns the folder of PostgreSQL's server programs, the newest
// there is, or "".
func programs() string {
	if path, err := exec.LookPath("initdb"); err == nil {
		if real, err := filepath.EvalSymlinks(path); err == nil {
			return filepath.Dir(real)
		}
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb") // Debian's place
	if len(found) == 0 {
		return ""
	}
	version := func(path string) int {
		n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path))))
		return n
	}
	return filepath.Dir(slices.MaxFunc(found, func(a, b string) int { return version(a) - version(b) }))
}

// The server listens on a Unix socket only, so that no port is taken. Its
// supervisor reads a pipe that ends with this process, however that ends: then
// it kills the server and removes its files. Durability would be wasted.
const supervisor = `
"$1/postgres" -D "$2/data" -k "$2" -c listen_addresses= -c fsync=off -c full_page_writes=off \
	-c max_connections=300 >"$2/log" 2>&1 </dev/null &
cat >/dev/null
kill -QUIT $!
wait $!
rm -rf "$2"`

// start makes a server in a temporary folder and waits until it answers.
func start(bin string) (url string, err error) {
	dir, err := os.MkdirTemp("", "pg")
	if err != nil {
		return "", err
	}
	who, err := unprivileged()
	if err != nil {
		return "", err
	}
	if who != nil {
		if err := os.Chown(dir, int(who.Uid), int(who.Gid)); err != nil {
			return "", err
		}
	}
	// A signal from the terminal is for the tests; the server follows them.
	attr := &syscall.SysProcAttr{Credential: who, Setsid: true}
	initdb := exec.Command(filepath.Join(bin, "initdb"), "-D", filepath.Join(dir, "data"),
		"-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions")
	initdb.Dir, initdb.SysProcAttr = dir, attr
	if out, err := initdb.CombinedOutput(); err != nil {
		return "", errors.Join(fmt.Errorf("initdb: %w: %s", err, out), os.RemoveAll(dir))
	}
	ours, theirs, err := os.Pipe()
	if err != nil {
		return "", err
	}
	defer ours.Close()
	run := exec.Command("/bin/sh", "-c", supervisor, "sh", bin, dir)
	run.Dir, run.SysProcAttr, run.Stdin = dir, attr, ours
	if err := run.Start(); err != nil {
		return "", err
	}
	alive = theirs
	return "postgres://postgres@/postgres?host=" + dir, answers(dir)
}

// alive is the end of the pipe that tells the supervisor that this process
// lives. It is never closed, and kept here from being collected.
//
//lint:ignore U1000 it is written so that it stays reachable
var alive *os.File

// unprivileged returns whom the server runs as, as it refuses to be root's;
// nil is the user of the tests.
func unprivileged() (*syscall.Credential, error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		u, err = user.Lookup("nobody")
	}
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

// answers waits until the server in dir accepts a connection.
func answers(dir string) error {
	pool, err := sql.Open("pgx", "postgres://postgres@/postgres?host="+dir)
	if err != nil {
		return err
	}
	defer pool.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for {
		err := pool.PingContext(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			text, _ := os.ReadFile(filepath.Join(dir, "log"))
			return fmt.Errorf("PostgreSQL does not start: %w: %s", err, text)
		}
	}
}

package dbtest

import (
	"bufio"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/meshmart/meshmart/services/internal/db"
)

func TestEachGetsAnEmptyDatabase(t *testing.T) {
	for range 2 {
		Each(t, func(t *testing.T, d *db.DB) {
			if _, err := d.Exec(t.Context(), `CREATE TABLE t (id TEXT)`); err != nil {
				t.Error(err)
			}
		})
	}
}

// The test runs itself as a process that starts a server, tells where, and is
// killed: the server's files are removed once it has stopped.
func TestServerEndsWithItsProcess(t *testing.T) {
	if os.Getenv("DBTEST_CHILD") != "" {
		fmt.Println("server", Postgres(t))
		select {}
	}
	if programs() == "" {
		t.Skip("PostgreSQL: install Debian's postgresql")
	}
	child := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	child.Env = append(os.Environ(), "DBTEST_CHILD=1", "TEST_POSTGRES_URL=")
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	dir := ""
	for lines := bufio.NewScanner(out); dir == "" && lines.Scan(); {
		if address, ok := strings.CutPrefix(lines.Text(), "server "); ok {
			u, err := url.Parse(address)
			if err != nil {
				t.Fatal(err)
			}
			dir = u.Query().Get("host")
		}
	}
	if _, err := os.Stat(dir + "/data"); err != nil {
		t.Error(err)
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait() // killed
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for late := time.After(30 * time.Second); ; {
		if _, err := os.Stat(dir); os.IsNotExist(err) {
			return
		}
		select {
		case <-again.C:
		case <-late:
			t.Fatalf("%s is still there", dir)
		}
	}
}

package db

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFilesAreTheirOwnersAlone(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	d, err := Open(t.Context(), Config{URL: filepath.Join(dir, "keys.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if _, err := d.Exec(t.Context(), `CREATE TABLE keys (id TEXT)`); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "keys.db*"))
	if err != nil || len(files) < 2 {
		t.Fatalf("files %q, %v", files, err)
	}
	for _, f := range files {
		if strings.HasSuffix(f, "-migrate") {
			continue // always empty
		}
		info, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		if mode := info.Mode().Perm(); mode&0o077 != 0 {
			t.Errorf("%s has mode %o", filepath.Base(f), mode)
		}
	}
}

// The modes are looked at when the URL is read: there is no server.
func TestModesThatTellNoTypesAreRefused(t *testing.T) {
	for mode, refused := range map[string]bool{"exec": true, "simple_protocol": true, "cache_describe": false, "cache_statement": false} {
		d, err := Open(t.Context(), Config{URL: "postgres://localhost:1/x?default_query_exec_mode=" + mode})
		if err == nil {
			defer d.Close()
		}
		if errors.Is(err, errUntyped) != refused {
			t.Errorf("%s: %v", mode, err)
		}
	}
}

func TestMistypedPostgresURLMakesNoFile(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, url := range []string{"postgres:/user:secret@host/db", "postgresql:host"} {
		_, err := Open(t.Context(), Config{URL: url})
		if err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", url, err)
		}
	}
	if files, _ := os.ReadDir("."); len(files) > 0 {
		t.Errorf("made %v", files)
	}
}

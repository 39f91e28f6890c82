package db

import (
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

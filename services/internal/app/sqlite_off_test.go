//go:build nosqlite

package app

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
)

// A container with a read-only file system would else be told of that.
func TestSQLiteIsRefusedWithHowToBuildItAndNoFolderIsMade(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	svc := Service{Name: "x", Start: func(ctx context.Context, env *Env) error {
		_, err := env.DB(ctx, fstest.MapFS{})
		return err
	}}
	err := Run(t.Context(), svc, Options{Environ: map[string]string{"DATA_DIR": dir}})
	if err == nil || !strings.Contains(err.Error(), "DATABASE_URL") || !strings.Contains(err.Error(), "without -tags nosqlite") {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Errorf("made %s", dir)
	}
}

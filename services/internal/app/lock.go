package app

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/gofrs/flock"
)

// Lock makes what is stored at path this process's own until unlock is called
// or the process ends, however it ends. Another process that wants it is told
// so. It uses the file path + ".lock", which stays.
func Lock(path string) (unlock func() error, err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("DATA_DIR: %w", err)
	}
	f := flock.New(path + ".lock")
	ok, err := f.TryLock()
	if err != nil {
		return nil, fmt.Errorf("DATA_DIR: lock %s: %w", path, err)
	}
	if !ok {
		return nil, fmt.Errorf("DATA_DIR: %s is in use by another process", path)
	}
	return f.Close, nil
}

// lockDatabase locks a SQLite database and reports whether it did; PostgreSQL
// is there for many.
func (e *Env) lockDatabase(url string) (bool, error) {
	if strings.Contains(url, "://") {
		return false, nil
	}
	unlock, err := Lock(url)
	if err != nil {
		return false, err
	}
	e.OnClose(unlock)
	return true, nil
}

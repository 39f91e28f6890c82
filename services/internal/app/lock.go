package app

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Lock makes what is stored at path this process's own until unlock is called
// or the process ends, however it ends. Another process that wants it is told
// so. It uses the file path + ".lock", which stays.
func Lock(path string) (unlock func() error, err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("DATA_DIR: %w", err)
	}
	f, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("DATA_DIR: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("DATA_DIR: %s is in use by another process", path)
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
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

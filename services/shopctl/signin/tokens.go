// Package signin keeps who is signed in on this machine.
package signin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
)

// grant is a sign-in at one server, as it is kept.
type grant struct {
	Email        string    `json:"email"`
	AccessToken  string    `json:"access_token"`
	RefreshToken string    `json:"refresh_token"`
	Expires      time.Time `json:"expires"` // of the access token, by this machine's clock
	// RenewalID is the request_id of a refresh under way. It is kept before the
	// token is spent: whoever finds it, because the answer was lost or the
	// process died, gets the same answer with it, and is not taken for a thief.
	RenewalID string `json:"renewal_id,omitempty"`
}

// File keeps sign-ins by server, for this user's eyes only.
type File struct{ Path string }

type content struct {
	Servers map[string]*grant `json:"servers"`
}

// Path is where tokens are kept, after the XDG Base Directory rules.
func Path(env func(string) string) (string, error) {
	dir := env("XDG_CONFIG_HOME")
	if !filepath.IsAbs(dir) { // which those rules say to pass over
		home := env("HOME")
		if home == "" {
			var err error
			if home, err = os.UserHomeDir(); err != nil {
				return "", fmt.Errorf("find a place for tokens: %w; set XDG_CONFIG_HOME", err)
			}
		}
		dir = filepath.Join(home, ".config")
	}
	return filepath.Join(dir, "meshmart", "tokens.json"), nil
}

// get returns the sign-in at a server; nil if there is none. It needs no lock:
// the file is replaced whole.
func (f File) get(server string) (*grant, error) {
	all, err := f.read()
	return all.Servers[server], err
}

func (f File) read() (content, error) {
	all := content{Servers: map[string]*grant{}}
	info, err := os.Stat(f.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return all, nil
	} else if err != nil {
		return all, fmt.Errorf("read tokens: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 { // somebody, such as a restored backup, has opened it
		if err := os.Chmod(f.Path, 0o600); err != nil {
			return all, fmt.Errorf("others may read your tokens: %w", err)
		}
	}
	text, err := os.ReadFile(f.Path)
	if err != nil {
		return all, fmt.Errorf("read tokens: %w", err)
	}
	if err := json.Unmarshal(text, &all); err != nil {
		return all, fmt.Errorf("%s is damaged: %w; delete it and sign in again", f.Path, err)
	}
	if all.Servers == nil { // "null"
		all.Servers = map[string]*grant{}
	}
	return all, nil
}

// locked runs fn while no other process changes the file.
func (f File) locked(ctx context.Context, fn func() error) (err error) {
	if err := os.MkdirAll(filepath.Dir(f.Path), 0o700); err != nil {
		return fmt.Errorf("keep tokens: %w", err)
	}
	lock := flock.New(f.Path+".lock", flock.SetPermissions(0o600))
	// By polling, so that Ctrl-C ends the wait, too.
	if ok, err := lock.TryLockContext(ctx, 20*time.Millisecond); !ok || err != nil {
		return fmt.Errorf("wait for another shopctl to be done with %s: %w", f.Path, err)
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	return fn()
}

// put keeps a sign-in, or with nil forgets it. Only inside of locked.
func (f File) put(server string, g *grant) error {
	all, err := f.read()
	if err != nil {
		return err
	}
	if g == nil {
		delete(all.Servers, server)
	} else {
		all.Servers[server] = g
	}
	text, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return fmt.Errorf("keep tokens: %w", err)
	}
	if err := replace(f.Path, append(text, '\n')); err != nil {
		return fmt.Errorf("keep tokens: %w", err)
	}
	return nil
}

// replace writes a file in one step: whoever reads it, even after a crash, sees
// the old text or the new one.
func replace(path string, text []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".tokens-*") // of mode 0600
	if err != nil {
		return err
	}
	_, err = tmp.Write(text)
	err = errors.Join(err, tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		_ = os.Remove(tmp.Name()) // the first error tells more
	}
	return err
}

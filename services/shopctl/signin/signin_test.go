package signin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/meshmart/meshmart/services/shopctl/rest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// issuer is the shop's side: a refresh token is good once, and the request that
// spent it may be repeated.
type issuer struct {
	mu        sync.Mutex
	n         int               // of the tokens given
	spent     map[string]string // refresh token -> request id that spent it
	revoked   bool              // by a reuse, or by Logout
	deaf      int               // so many answers get lost
	refreshes int               // how many requests there were
}

func (i *issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	var in struct {
		RefreshToken string `json:"refresh_token"`
		RequestID    string `json:"request_id"`
	}
	_ = json.NewDecoder(r.Body).Decode(&in) // what is wrong with it shows below
	switch r.URL.Path {
	case "/v1/auth:login":
		i.n++
	case "/v1/auth:logout":
		i.revoked = true
		fmt.Fprint(w, "{}")
		return
	case "/v1/auth:refresh":
		i.refreshes++
		by, again := i.spent[in.RefreshToken]
		if again && by != in.RequestID || in.RequestID == "" {
			i.revoked = true
		}
		if i.revoked {
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, `{"code":16,"message":"the session has ended"}`)
			return
		}
		if !again {
			i.spent[in.RefreshToken] = in.RequestID
			i.n++
		}
		if i.deaf > 0 {
			i.deaf--
			panic(http.ErrAbortHandler)
		}
	}
	fmt.Fprintf(w, `{"access_token":"access-%d","refresh_token":"refresh-%d","token_type":"Bearer","expires_in":600}`, i.n, i.n)
}

// world is an issuer, and a machine whose clock stands still.
type world struct {
	*issuer
	*Session
	at time.Time
}

func start(t *testing.T) *world {
	w := &world{issuer: &issuer{spent: map[string]string{}}, at: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	srv := httptest.NewServer(w.issuer)
	c := &rest.Client{
		Server: srv.URL, HTTP: rest.NewHTTP(), Timeout: 20 * time.Second,
		Notice: func(string, ...any) {},
		Pause:  func(ctx context.Context, _ time.Duration) error { return ctx.Err() },
	}
	t.Cleanup(func() { c.HTTP.CloseIdleConnections(); srv.Close() })
	w.Session = &Session{
		File: File{filepath.Join(t.TempDir(), "config", "meshmart", "tokens.json")}, Client: c,
		Now: func() time.Time { return w.at },
	}
	if _, err := w.Token(t.Context()); !errors.Is(err, ErrSignedOut) {
		t.Errorf("before the sign-in: %v, want %v", err, ErrSignedOut)
	}
	if err := w.In(t.Context(), "a@example.com", "secret"); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) wantToken(t *testing.T, want string) {
	t.Helper()
	if got, err := w.Token(t.Context()); got != want || err != nil {
		t.Errorf("token %q, %v, want %q", got, err, want)
	}
}

func TestTokensAreForTheirOwnerAlone(t *testing.T) {
	w := start(t)
	modes := map[string]os.FileMode{
		w.File.Path: 0o600, w.File.Path + ".lock": 0o600, filepath.Dir(w.File.Path): 0o700 | os.ModeDir,
	}
	for path, want := range modes {
		if info, err := os.Stat(path); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v, want %v", path, info.Mode(), err, want)
		}
	}
	if err := os.Chmod(w.File.Path, 0o644); err != nil {
		t.Fatal(err)
	}
	w.wantToken(t, "access-1")
	if info, err := os.Stat(w.File.Path); err != nil || info.Mode() != 0o600 {
		t.Errorf("opened by somebody: %v, %v", info.Mode(), err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(w.File.Path), ".tokens-*")); left != nil {
		t.Errorf("left behind: %q", left)
	}
}

func TestServersHaveTokensOfTheirOwn(t *testing.T) {
	w := start(t)
	here := w.Client.Server
	w.Client.Server = "http://elsewhere.example"
	if _, err := w.Token(t.Context()); !errors.Is(err, ErrSignedOut) {
		t.Errorf("elsewhere: %v", err)
	}
	w.Client.Server = here
	w.wantToken(t, "access-1")
}

func TestExpiredTokensAreRenewed(t *testing.T) {
	w := start(t)
	w.at = w.at.Add(589 * time.Second)
	w.wantToken(t, "access-1")
	w.at = w.at.Add(2 * time.Second)
	w.wantToken(t, "access-2")
	w.wantToken(t, "access-2")
	if w.refreshes != 1 {
		t.Errorf("%d refreshes, want 1", w.refreshes)
	}
}

func TestProcessesShareOneRenewal(t *testing.T) {
	w := start(t)
	w.at = w.at.Add(time.Hour)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() { w.wantToken(t, "access-2") })
	}
	wg.Wait()
	// Another one was refused before and comes late.
	if got, err := w.Renew(t.Context(), "access-1"); got != "access-2" || err != nil {
		t.Errorf("the late one: %q, %v", got, err)
	}
	if w.refreshes != 1 || w.revoked {
		t.Errorf("%d refreshes, revoked %v", w.refreshes, w.revoked)
	}
}

func TestALostRenewalIsNotTakenForATheft(t *testing.T) {
	w := start(t)
	w.at = w.at.Add(time.Hour)
	w.deaf = 6 // all tries of the first process
	if _, err := w.Token(t.Context()); !rest.Transient(err) {
		t.Fatalf("got %v", err)
	}
	w.wantToken(t, "access-2")
	if w.revoked {
		t.Error("the session is revoked")
	}
}

func TestASessionThatHasEndedIsForgotten(t *testing.T) {
	w := start(t)
	w.revoked = true
	if _, err := w.Renew(t.Context(), "access-1"); !errors.Is(err, ErrSignedOut) {
		t.Errorf("got %v", err)
	}
	if g, err := w.File.get(w.Client.Server); g != nil || err != nil {
		t.Errorf("kept %v, %v", g, err)
	}
}

func TestOutRevokesAndForgets(t *testing.T) {
	w := start(t)
	if was, err := w.Out(t.Context()); !was || err != nil || !w.revoked {
		t.Errorf("was %v, %v, revoked %v", was, err, w.revoked)
	}
	if was, err := w.Out(t.Context()); was || err != nil {
		t.Errorf("again: was %v, %v", was, err)
	}
	if _, err := w.Token(t.Context()); !errors.Is(err, ErrSignedOut) {
		t.Errorf("got %v", err)
	}
}

func TestWaitingForTheLockEndsWithTheContext(t *testing.T) {
	w := start(t)
	ctx, cancel := context.WithCancel(t.Context())
	err := w.File.locked(t.Context(), func() error {
		cancel()
		return w.File.locked(ctx, func() error { t.Error("inside twice"); return nil })
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestPath(t *testing.T) {
	env := map[string]string{"HOME": "/home/a"}
	get := func(k string) string { return env[k] }
	if got, err := Path(get); got != "/home/a/.config/meshmart/tokens.json" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	env["XDG_CONFIG_HOME"] = "relative" // to be passed over
	if got, _ := Path(get); got != "/home/a/.config/meshmart/tokens.json" {
		t.Errorf("got %q", got)
	}
	env["XDG_CONFIG_HOME"] = "/xdg"
	if got, _ := Path(get); got != "/xdg/meshmart/tokens.json" {
		t.Errorf("got %q", got)
	}
}

func TestADamagedFileIsNotLost(t *testing.T) {
	w := start(t)
	if err := os.WriteFile(w.File.Path, []byte("{half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Token(t.Context()); err == nil || errors.Is(err, ErrSignedOut) {
		t.Errorf("got %v", err)
	}
	if err := w.In(t.Context(), "a@example.com", "secret"); err == nil {
		t.Error("it was written over")
	}
}

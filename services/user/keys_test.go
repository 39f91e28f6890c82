package user

import (
	"bytes"
	"encoding/base64"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/meshmart/meshmart/services/internal/auth"
	"github.com/meshmart/meshmart/services/internal/db"
	"github.com/meshmart/meshmart/services/internal/db/dbtest"
	"github.com/meshmart/meshmart/services/internal/fault"
)

func newKeyring(t *testing.T, d *db.DB, w *watch, key string) *keyring {
	t.Helper()
	seal, err := newSealer(key)
	if err != nil {
		t.Fatal(err)
	}
	return &keyring{store: &store{d}, seal: seal, clock: w.time, log: slog.New(slog.DiscardHandler), rotation: 6 * time.Hour}
}

func eachDB(t *testing.T, fn func(t *testing.T, d *db.DB)) {
	t.Helper()
	dbtest.Each(t, fn, db.Schema{Name: "user", FS: schema})
}

func kids(keys []auth.JWK) []string {
	var all []string
	for _, k := range keys {
		all = append(all, k.Kid)
	}
	return all
}

// TestRotationNeverCostsAToken lets days pass for two replicas that read the
// keys once a minute, one of them late, and for verifiers that ask either of
// them every five minutes. Whatever was signed is verified by all until it
// expires, even the longest-lived token that may be configured.
func TestRotationNeverCostsAToken(t *testing.T) {
	eachDB(t, func(t *testing.T, d *db.DB) {
		w := newWatch()
		replicas := []*keyring{newKeyring(t, d, w, ""), newKeyring(t, d, w, "")}
		verifiers := make([][]string, 5)
		expires := map[string]time.Time{} // of the last token that a key has signed
		for minute := range 3 * 24 * 60 {
			now := w.time()
			for i, k := range replicas {
				if (minute+i)%(i+1) == 0 || k.ring.Load() == nil { // the second one every other minute
					if err := k.reload(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				expires[k.ring.Load().signer(now).jwk.Kid] = now.Add(auth.MaxLifetime)
			}
			for i := range verifiers {
				if minute == 0 || minute%5 == i {
					verifiers[i] = kids(replicas[(minute+i)%2].ring.Load().published(now))
				}
				for kid, end := range expires {
					if now.Before(end) && !slices.Contains(verifiers[i], kid) {
						t.Fatalf("minute %d: verifier %d does not know key %s", minute, i, kid)
					}
				}
			}
			w.forward(time.Minute)
		}
		if len(expires) != 12 {
			t.Errorf("%d keys in 3 days, want 12", len(expires))
		}
		if n := len(replicas[0].ring.Load().keys); n > 7 {
			t.Errorf("%d keys are kept", n)
		}
	})
}

func TestNextKeyIsPublishedBeforeItSigns(t *testing.T) {
	eachDB(t, func(t *testing.T, d *db.DB) {
		w := newWatch()
		k := newKeyring(t, d, w, "")
		look := func(published int) (signer string) {
			t.Helper()
			if err := k.reload(t.Context()); err != nil {
				t.Fatal(err)
			}
			r := k.ring.Load()
			if got := len(r.published(w.time())); got != published {
				t.Errorf("%d keys, want %d", got, published)
			}
			return r.signer(w.time()).jwk.Kid
		}
		first := look(1)
		w.forward(5 * time.Hour)
		if look(2) != first {
			t.Error("the next key signs at once")
		}
		w.forward(time.Hour)
		if look(2) == first {
			t.Error("the first key signs for too long")
		}
		w.forward(30 * 24 * time.Hour) // nobody runs for a month: the last key stays until the next is known
		last := look(2)
		w.forward(59 * time.Minute)
		if look(2) != last {
			t.Error("the next key signs before it is known")
		}
		w.forward(time.Minute)
		if look(2) == last {
			t.Error("the key is not replaced")
		}
	})
}

func TestReplicasThatStartTogetherAgreeOnKeys(t *testing.T) {
	eachDB(t, func(t *testing.T, d *db.DB) {
		w := newWatch()
		for range 2 { // the first keys, the next ones
			rings, errs := race(8, func(int) (*ring, error) {
				k := newKeyring(t, d, w, "")
				err := k.reload(t.Context())
				return k.ring.Load(), err
			})
			if err := errors.Join(errs...); err != nil {
				t.Fatal(err)
			}
			for _, r := range rings {
				if !slices.Equal(kids(r.published(w.time())), kids(rings[0].published(w.time()))) || !bytes.Equal(r.secret, rings[0].secret) {
					t.Error("replicas have different keys")
				}
			}
			w.forward(6 * time.Hour)
		}
	})
}

func TestSecretsAreEncryptedAtRest(t *testing.T) {
	eachDB(t, func(t *testing.T, d *db.DB) {
		w := newWatch()
		key := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, 32))
		other := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{8}, 32))
		clear := newKeyring(t, d, w, "")
		sealed := newKeyring(t, d, w, key)
		for _, k := range []*keyring{clear, sealed, sealed} { // the key is given later, then found in use
			if err := k.reload(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		a, b := clear.ring.Load(), sealed.ring.Load()
		if !bytes.Equal(a.secret, b.secret) || !slices.Equal(kids(a.published(w.time())), kids(b.published(w.time()))) {
			t.Error("encryption changed the secrets")
		}
		all, err := sealed.store.secrets(t.Context())
		if err != nil || len(all) != 2 {
			t.Fatal(all, err)
		}
		for _, s := range all {
			if s.cipher != sealedName || bytes.Contains(s.value, a.secret) || len(s.value) < 12+16+32 {
				t.Errorf("%s is kept as %q", s.name(), s.cipher)
			}
			s.seq++
			if _, err := sealed.seal.open(s); err == nil {
				t.Error("a value can be put in another's place")
			}
		}
		for name, k := range map[string]*keyring{"no key": newKeyring(t, d, w, ""), "another key": newKeyring(t, d, w, other)} {
			if err := k.reload(t.Context()); err == nil || !strings.Contains(err.Error(), "KEY_ENCRYPTION_KEY") {
				t.Errorf("%s: got %v", name, err)
			}
			if _, err := k.current(t.Context()); fault.Code(err) != codes.Unavailable {
				t.Errorf("%s: got %v", name, err)
			}
		}
	})
}

func TestKeysSurviveADatabaseThatIsAwayForAWhile(t *testing.T) {
	w := newWatch()
	d, err := db.Open(t.Context(), db.Config{URL: dbtest.SQLite(t), Schemas: []db.Schema{{Name: "user", FS: schema}}})
	if err != nil {
		t.Fatal(err)
	}
	k := newKeyring(t, d, w, "")
	if err := errors.Join(k.ready(t.Context()), d.Close()); err != nil {
		t.Fatal(err)
	}
	w.forward(tooOld - time.Second)
	if err := k.ready(t.Context()); err != nil {
		t.Error(err)
	}
	w.forward(time.Second)
	if err := k.ready(t.Context()); fault.Code(err) != codes.Unavailable {
		t.Errorf("got %v", err)
	}
}

func TestWrongEncryptionKeyIsNotRepeated(t *testing.T) {
	for _, key := range []string{"secret!", base64.StdEncoding.EncodeToString([]byte("secret"))} {
		if _, err := newSealer(key); err == nil || strings.Contains(err.Error(), key) {
			t.Errorf("got %v", err)
		}
	}
}

// The key is the example of RFC 7517, appendix A.1.
func TestKeyIDIsTheThumbprint(t *testing.T) {
	k := auth.JWK{
		Kty: "EC", Crv: "P-256", Kid: "1", Use: "enc",
		X: "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4", Y: "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
	}
	if got, want := thumbprint(k), "cn-I_WNMClehiVp51i_0VpOENW1upEerA8sEam5hn-s"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

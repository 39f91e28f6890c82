package user

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/meshmart/meshmart/services/internal/auth"
	"github.com/meshmart/meshmart/services/internal/effect"
	"github.com/meshmart/meshmart/services/internal/fault"
)

// A signing key is published, signs from its from_time until that of the next
// one, and stays published while a token that it has signed may live:
//
//	from-ahead       from                next.from            next.from+after
//	   | published     | signs              | still published      |  gone
//
// No replica asks another: all read the same table once a minute, and find the
// states by the time. What makes that safe is that a verifier has seen a key
// before it signs: it asks every five minutes (Istio: twenty), and every
// replica knows the key a minute after it is made.
const (
	ahead      = time.Hour
	after      = auth.MaxLifetime + time.Hour // an hour for clocks and replicas that lag
	reloadKeys = time.Minute
	// tooOld is when what was read last is not signed with any more, as another
	// key may be due.
	tooOld = ahead / 2
)

// The kinds of secrets.
const (
	kindSigning = "signing"
	kindRefresh = "refresh"
)

// secret is what only this service knows, as it is stored.
type secret struct {
	kind   string
	seq    int64 // 1, 2, ...
	from   time.Time
	cipher string // how value is encrypted; empty: not at all
	value  []byte
}

// keyring has the secrets that all replicas share. It is safe for concurrent
// use.
type keyring struct {
	store    *store
	seal     sealer
	clock    func() time.Time
	log      *slog.Logger
	rotation time.Duration // how long a key signs

	ring atomic.Pointer[ring] // as last read
}

// ring is the secrets at one time. It is never changed.
type ring struct {
	loaded time.Time
	keys   []signingKey // in the order of their use; never empty
	secret []byte       // for the successors of refresh tokens
}

type signingKey struct {
	seq     int64
	from    time.Time
	private *ecdsa.PrivateKey
	jwk     auth.JWK
}

// signer returns the key that signs now. The first key does even if a clock
// that is ahead has made it.
func (r *ring) signer(now time.Time) signingKey {
	key := r.keys[0]
	for _, k := range r.keys[1:] {
		if !k.from.After(now) {
			key = k
		}
	}
	return key
}

// published returns the keys that tokens may be signed with, now or in an hour.
func (r *ring) published(now time.Time) []auth.JWK {
	var all []auth.JWK
	for i, k := range r.keys {
		if !r.retired(i, now) {
			all = append(all, k.jwk)
		}
	}
	return all
}

// retired reports whether every token signed with the key has expired.
func (r *ring) retired(i int, now time.Time) bool {
	return i+1 < len(r.keys) && !r.keys[i+1].from.Add(after).After(now)
}

// current returns the secrets. It reads them itself only if the worker that
// does so each minute has not, as before the service is ready.
func (k *keyring) current(ctx context.Context) (*ring, error) {
	r, now := k.ring.Load(), k.clock()
	if r != nil && now.Sub(r.loaded) < 5*reloadKeys {
		return r, nil
	}
	// A secret that is made here is no effect of the call that happens to wait for it.
	err := k.reload(effect.Track(ctx))
	switch {
	case err == nil:
		return k.ring.Load(), nil
	case r != nil && now.Sub(r.loaded) < tooOld:
		return r, nil
	}
	k.log.WarnContext(ctx, "signing keys can't be read", "err", err.Error())
	return nil, fault.Unavailable(time.Second, "tokens can't be issued at the moment")
}

// ready returns nil if tokens can be issued.
func (k *keyring) ready(ctx context.Context) error {
	_, err := k.current(ctx)
	return err
}

// public returns the keys for those who verify tokens in this process: what
// others get from GetJwks.
func (k *keyring) public() auth.Keys {
	return auth.NewRemoteKeys(func(ctx context.Context) ([]auth.JWK, error) {
		if err := k.reload(ctx); err != nil {
			return nil, err
		}
		return k.ring.Load().published(k.clock()), nil
	}, k.clock)
}

// reload reads the secrets, and first makes those that are due. Two replicas
// that make the same one at once both read the one that was first.
func (k *keyring) reload(ctx context.Context) error {
	r, err := k.read(ctx)
	if err != nil {
		return err
	}
	due, err := k.due(r)
	if err != nil {
		return err
	}
	for _, s := range due {
		if err := k.store.addSecret(ctx, s); err != nil {
			return err
		}
	}
	if len(due) > 0 {
		if r, err = k.read(ctx); err != nil {
			return err
		}
	}
	k.ring.Store(r)
	return k.dropRetired(ctx, r)
}

// due returns the secrets that should be there and are not: the first ones, and
// the next signing key when the last one is about to be through.
func (k *keyring) due(r *ring) ([]secret, error) {
	var all []secret
	if r.secret == nil {
		all = append(all, k.seal.close(secret{kind: kindRefresh, seq: 1, from: r.loaded, value: random(sha256.Size)}))
	}
	next := secret{kind: kindSigning, seq: 1, from: r.loaded}
	if n := len(r.keys); n > 0 {
		last := r.keys[n-1]
		next.seq, next.from = last.seq+1, last.from.Add(k.rotation)
		soonest := r.loaded.Add(ahead)
		if next.from.After(soonest) {
			return all, nil
		}
		next.from = soonest
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make signing key: %w", err)
	}
	if next.value, err = x509.MarshalPKCS8PrivateKey(key); err != nil {
		return nil, fmt.Errorf("make signing key: %w", err)
	}
	return append(all, k.seal.close(next)), nil
}

// read reads all secrets. One that is in clear though there is a key to encrypt
// it with is encrypted: the key was given later.
func (k *keyring) read(ctx context.Context) (*ring, error) {
	r := &ring{loaded: k.clock()}
	all, err := k.store.secrets(ctx)
	if err != nil {
		return nil, err
	}
	for _, s := range all {
		plain, err := k.seal.open(s)
		if err != nil {
			return nil, err
		}
		if s.cipher == "" && k.seal.on() {
			if err := k.store.encryptSecret(ctx, k.seal.close(s)); err != nil {
				return nil, err
			}
		}
		if s.kind == kindRefresh {
			r.secret = plain
			continue
		}
		key, err := readKey(s, plain)
		if err != nil {
			return nil, err
		}
		r.keys = append(r.keys, key)
	}
	return r, nil
}

func (k *keyring) dropRetired(ctx context.Context, r *ring) error {
	for i, key := range r.keys {
		if !r.retired(i, r.loaded) {
			break
		}
		if err := k.store.dropSecret(ctx, kindSigning, key.seq); err != nil {
			return err
		}
	}
	return nil
}

func readKey(s secret, der []byte) (signingKey, error) {
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return signingKey{}, fmt.Errorf("read signing key %d: %w", s.seq, err)
	}
	private, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return signingKey{}, fmt.Errorf("read signing key %d: not an ECDSA key", s.seq)
	}
	jwk, err := auth.NewJWK("-", &private.PublicKey)
	if err != nil {
		return signingKey{}, fmt.Errorf("read signing key %d: %w", s.seq, err)
	}
	jwk.Kid = thumbprint(jwk)
	return signingKey{seq: s.seq, from: s.from, private: private, jwk: jwk}, nil
}

// thumbprint returns the id of a key that follows from the key itself (RFC
// 7638): the hash of its required members in alphabetical order.
func thumbprint(k auth.JWK) string {
	h := sha256.Sum256(fmt.Appendf(nil, `{"crv":%q,"kty":%q,"x":%q,"y":%q}`, k.Crv, k.Kty, k.X, k.Y))
	return encode(h[:])
}

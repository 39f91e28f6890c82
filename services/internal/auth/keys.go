package auth

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/meshmart/meshmart/services/internal/fault"
)

const (
	keysFresh    = 5 * time.Minute // older keys are fetched anew
	keysInterval = 5 * time.Second // between two fetches, whatever is asked for
	keysRetry    = time.Second     // the same after a fetch that went wrong
	keysTimeout  = 3 * time.Second // for one fetch
)

// RemoteKeys are keys that somebody else publishes. It is safe for concurrent
// use.
//
// The keys are fetched when they are first needed, and again in the background
// once they are five minutes old; while that goes wrong the old ones stand. An
// id that isn't among them may be that of a new key, so it causes a fetch too,
// but there is one fetch at a time and none within five seconds of the last:
// forged ids cost the publisher nothing.
type RemoteKeys struct {
	fetch func(context.Context) ([]JWK, error)
	clock func() time.Time

	mu      sync.Mutex
	keys    KeySet        // nil until the first fetch has gone well; never changed, only replaced
	fetched time.Time     // when that was
	next    time.Time     // no fetch before this
	flight  chan struct{} // closed when the fetch under way has ended; nil if there is none
}

// NewRemoteKeys returns the keys that fetch returns. Those that aren't for
// ES256 signatures are left out.
func NewRemoteKeys(fetch func(context.Context) ([]JWK, error), clock func() time.Time) *RemoteKeys {
	return &RemoteKeys{fetch: fetch, clock: clock}
}

// Key returns the key with this id. It is ErrUnknownKey if the publisher has
// none, and an UNAVAILABLE fault if no keys could be had at all.
func (r *RemoteKeys) Key(ctx context.Context, kid string) (*ecdsa.PublicKey, error) {
	key, flight := r.look(ctx, kid)
	if key == nil && flight != nil {
		select {
		case <-flight:
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for keys: %w", context.Cause(ctx))
		}
		key = r.have(kid)
	}
	switch {
	case key != nil:
		return key, nil
	case r.empty():
		return nil, fault.Unavailable(keysRetry, "the keys to verify tokens with are not available")
	}
	return nil, ErrUnknownKey
}

// look returns the key if it is there, and the fetch under way if there is one.
// It starts one if that is due.
func (r *RemoteKeys) look(ctx context.Context, kid string) (*ecdsa.PublicKey, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key, now := r.keys[kid], r.clock()
	due := key == nil || now.Sub(r.fetched) >= keysFresh
	if due && r.flight == nil && !now.Before(r.next) {
		r.flight = make(chan struct{})
		go r.refresh(context.WithoutCancel(ctx))
	}
	return key, r.flight
}

// refresh fetches the keys. It belongs to all who wait for it, not to the call
// that happened to start it, and ends after keysTimeout.
func (r *RemoteKeys) refresh(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, keysTimeout)
	defer cancel()
	keys, err := r.load(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.clock()
	r.next = now.Add(keysRetry)
	if err == nil {
		r.keys, r.fetched, r.next = keys, now, now.Add(keysInterval)
	}
	close(r.flight)
	r.flight = nil
}

// load returns the published keys. None at all is an error: it would lock
// everybody out, and no publisher means that.
func (r *RemoteKeys) load(ctx context.Context) (KeySet, error) {
	jwks, err := r.fetch(ctx)
	if err != nil {
		return nil, err
	}
	keys := KeySet{}
	for _, k := range jwks {
		if key, err := k.PublicKey(); err == nil {
			keys[k.Kid] = key
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("no usable key")
	}
	return keys, nil
}

func (r *RemoteKeys) have(kid string) *ecdsa.PublicKey {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.keys[kid]
}

func (r *RemoteKeys) empty() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.keys == nil
}

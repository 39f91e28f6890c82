package auth

import (
	"sync"
	"time"
)

// minPrune is how many sessions are kept before anything is looked through.
const minPrune = 1024

// Revocations are the sign-ins that were ended before their access tokens
// expired. It is safe for concurrent use, and a nil one is empty.
//
// A session is kept until its last token has expired; after that the token is
// refused anyway. So there are never more than twice the sessions revoked
// within the lifetime of a token, or minPrune.
type Revocations struct {
	clock func() time.Time

	mu    sync.RWMutex
	until map[string]time.Time
	limit int // prune when there are this many
}

// NewRevocations returns an empty set.
func NewRevocations(clock func() time.Time) *Revocations {
	return &Revocations{clock: clock, until: map[string]time.Time{}, limit: minPrune}
}

// Add ends a session: its tokens, the last of which expires at until, are
// refused. Adding it again can only make it longer.
func (r *Revocations) Add(session string, until time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.clock()
	if !until.After(now) || !until.After(r.until[session]) {
		return
	}
	if len(r.until) >= r.limit {
		r.prune(now)
	}
	r.until[session] = until
}

// prune drops what has expired. The next time comes once the set has doubled,
// so that it costs the same per Add however many there are.
func (r *Revocations) prune(now time.Time) {
	for s, until := range r.until {
		if !until.After(now) {
			delete(r.until, s)
		}
	}
	r.limit = max(2*len(r.until), minPrune)
}

// Revoked reports whether the session was ended.
func (r *Revocations) Revoked(session string) bool {
	if r == nil {
		return false
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	_, ok := r.until[session]
	return ok
}

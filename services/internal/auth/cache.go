package auth

import (
	"crypto/sha256"
	"sync"
)

// tokenID stands for a token in memory: a dump of it yields no token that works.
type tokenID [sha256.Size]byte

func idOf(token string) tokenID { return sha256.Sum256([]byte(token)) }

// cache keeps verified tokens in two generations of half its size. A token
// comes into the young one; when that is full it becomes the old one, and the
// old one is dropped as a whole. A hit in the old one moves the token to the
// young one, so what is in use stays. Expired tokens leave the same way, and
// whoever asks checks the time.
type cache struct {
	half int

	mu         sync.RWMutex
	young, old map[tokenID]*Principal
}

func newCache(size int) *cache {
	return &cache{half: max(size/2, 1), young: map[tokenID]*Principal{}}
}

func (c *cache) get(id tokenID) (*Principal, bool) {
	c.mu.RLock()
	p, young := c.young[id]
	old := false
	if !young {
		p, old = c.old[id]
	}
	c.mu.RUnlock()
	if old {
		c.put(id, p)
	}
	return p, young || old
}

func (c *cache) put(id tokenID, p *Principal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.young) >= c.half {
		c.old, c.young = c.young, make(map[tokenID]*Principal, c.half)
	}
	c.young[id] = p
}

// len returns how many tokens are kept; one in both generations counts twice.
func (c *cache) len() int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return len(c.young) + len(c.old)
}

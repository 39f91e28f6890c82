package user

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"runtime"
	"strings"

	"golang.org/x/crypto/argon2"
)

// cost is what a hash takes to compute (RFC 9106).
type cost struct {
	memory  uint32 // KiB
	passes  uint32
	threads uint8
}

// standard is the first choice of OWASP's password storage cheat sheet for
// argon2id: some 20 ms and 19 MiB.
var standard = cost{memory: 19 << 10, passes: 2, threads: 1}

const (
	saltLen = 16 // bytes
	hashLen = 32
)

// passwords hashes passwords with argon2id. As many hashes are computed at once
// as there are processors; more would not be done sooner, and each holds its
// memory. Whoever waits for a place waits as long as ctx allows.
type passwords struct {
	cost   cost
	places chan struct{}
	decoy  string // a hash that no password has
}

func newPasswords(c cost) *passwords {
	p := &passwords{cost: c, places: make(chan struct{}, runtime.GOMAXPROCS(0))}
	p.decoy = phc(c, random(saltLen), random(hashLen))
	return p
}

// random returns n random bytes. They never fail to come: see crypto/rand.Read.
func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

// hash returns the hash of a new password in PHC format, which holds its salt
// and its cost.
func (p *passwords) hash(ctx context.Context, password string) (string, error) {
	salt := random(saltLen)
	key, err := p.compute(ctx, p.cost, salt, hashLen, password)
	if err != nil {
		return "", err
	}
	return phc(p.cost, salt, key), nil
}

// verify reports whether a password has a hash, and whether the hash should be
// replaced, as its cost is not what it is now. The hash "" is nobody's, and it
// takes as long to find that out as for any other.
func (p *passwords) verify(ctx context.Context, hash, password string) (ok, outdated bool, err error) {
	nobody := hash == ""
	if nobody {
		hash = p.decoy
	}
	c, salt, want, err := readPHC(hash)
	if err != nil {
		return false, false, err
	}
	got, err := p.compute(ctx, c, salt, uint32(len(want)), password)
	if err != nil {
		return false, false, err
	}
	ok = subtle.ConstantTimeCompare(got, want) == 1 && !nobody
	return ok, ok && c != p.cost, nil
}

func (p *passwords) compute(ctx context.Context, c cost, salt []byte, size uint32, password string) ([]byte, error) {
	select {
	case p.places <- struct{}{}:
		defer func() { <-p.places }()
	case <-ctx.Done():
		return nil, fmt.Errorf("wait to hash a password: %w", ctx.Err())
	}
	return argon2.IDKey([]byte(password), salt, c.passes, c.memory, c.threads, size), nil
}

// phc writes a hash in the PHC string format, as other programs do.
func phc(c cost, salt, key []byte) string {
	enc := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, c.memory, c.passes, c.threads, enc(salt), enc(key))
}

// readPHC reads what phc wrote. Its errors do not repeat the hash.
func readPHC(s string) (c cost, salt, key []byte, err error) {
	parts := strings.Split(s, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" {
		return c, nil, nil, fmt.Errorf("stored password is no argon2id hash")
	}
	var version int
	if _, err := fmt.Sscanf(parts[2], "v=%d", &version); err != nil || version != argon2.Version {
		return c, nil, nil, fmt.Errorf("stored password: version of argon2 is not %d", argon2.Version)
	}
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &c.memory, &c.passes, &c.threads); err != nil || c.passes < 1 || c.threads < 1 {
		return c, nil, nil, fmt.Errorf("stored password: unreadable cost")
	}
	salt, err1 := base64.RawStdEncoding.Strict().DecodeString(parts[4])
	key, err2 := base64.RawStdEncoding.Strict().DecodeString(parts[5])
	if err1 != nil || err2 != nil || len(key) < 16 {
		return c, nil, nil, fmt.Errorf("stored password: unreadable salt or hash")
	}
	return c, salt, key, nil
}

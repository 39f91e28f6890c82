package user

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"fmt"
)

// sealedName is how the column cipher names AES-256-GCM with a random nonce in
// front.
const sealedName = "A256GCM"

// sealer encrypts secrets at rest. The zero value leaves them in clear: who can
// read the database can then sign tokens.
type sealer struct{ aead cipher.AEAD }

// newSealer returns a sealer with a key of 32 bytes in base64; with none, for
// an empty text. Its errors do not repeat the key.
func newSealer(key string) (sealer, error) {
	if key == "" {
		return sealer{}, nil
	}
	raw, err := base64.StdEncoding.DecodeString(key)
	if err != nil || len(raw) != 32 {
		return sealer{}, fmt.Errorf("not 32 bytes in base64")
	}
	block, err := aes.NewCipher(raw)
	if err != nil {
		return sealer{}, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	return sealer{aead}, err
}

func (s sealer) on() bool { return s.aead != nil }

// name is what a value is bound to: it can't be put in another's place.
func (s secret) name() []byte { return fmt.Appendf(nil, "%s %d", s.kind, s.seq) }

// close returns the secret with its value encrypted, if there is a key.
func (s sealer) close(x secret) secret {
	if s.on() {
		x.cipher, x.value = sealedName, s.aead.Seal(nil, nil, x.value, x.name())
	}
	return x
}

// open returns the value in clear.
func (s sealer) open(x secret) ([]byte, error) {
	switch {
	case x.cipher == "":
		return x.value, nil
	case x.cipher != sealedName:
		return nil, fmt.Errorf("secret %s: unknown cipher %q", x.name(), x.cipher)
	case !s.on():
		return nil, fmt.Errorf("secret %s is encrypted, and KEY_ENCRYPTION_KEY is not set", x.name())
	}
	plain, err := s.aead.Open(nil, nil, x.value, x.name())
	if err != nil {
		return nil, fmt.Errorf("secret %s was not encrypted with KEY_ENCRYPTION_KEY: %w", x.name(), err)
	}
	return plain, nil
}

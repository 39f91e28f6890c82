// Package identity is how services prove to each other who they are where no mesh
// does it for them: by certificates in files, whose SPIFFE ids name their service
// accounts.
package identity

import (
	"crypto/x509"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Config is where a service has its certificate, and whose it must be.
type Config struct {
	// CertFile and KeyFile are the service's own, in PEM.
	CertFile, KeyFile string
	// CAFile holds the authorities whose certificates services have. Empty: a
	// server proves itself by the system's authorities and the name that it is
	// called by, and a caller proves nothing.
	CAFile string
	// TrustDomain and Namespace are those of all services.
	TrustDomain, Namespace string
	// Service is the service's own account.
	Service string
	Log     *slog.Logger
	// Every is how often the files are read again; 0: 10 s.
	Every time.Duration
}

// readEvery is how often the files are read again: whoever writes them does it
// long before a certificate ends, and read they are in no time.
const readEvery = 10 * time.Second

// Identity is the certificate of a service and whom it trusts, as the files have it
// by now.
type Identity struct {
	cfg     Config
	now     atomic.Pointer[material]
	refused seldom
	closed  chan struct{}
	reading sync.WaitGroup
}

// Load reads the files, and does so again from time to time until Close. An error
// names the variable of the file that is not right.
func Load(cfg Config) (*Identity, error) {
	if cfg.Every == 0 {
		cfg.Every = readEvery
	}
	i := &Identity{cfg: cfg, closed: make(chan struct{})}
	m, err := i.read()
	if err != nil {
		return nil, err
	}
	i.now.Store(m)
	i.tell("certificate")
	i.reading.Go(i.watch)
	return i, nil
}

// Close ends the reading of the files; of nil there is none.
func (i *Identity) Close() error {
	if i == nil {
		return nil
	}
	close(i.closed)
	i.reading.Wait()
	return nil
}

// Mutual reports whether callers prove who they are; of nil they do not.
func (i *Identity) Mutual() bool { return i != nil && i.cfg.CAFile != "" }

// ID is the SPIFFE id of an account of the shop, as meshes have it.
func (i *Identity) ID(account string) string {
	return i.prefix() + account
}

func (i *Identity) prefix() string {
	return fmt.Sprintf("spiffe://%s/ns/%s/sa/", i.cfg.TrustDomain, i.cfg.Namespace)
}

// account returns the shop's account that a SPIFFE id is of, or "".
func (i *Identity) account(id string) string {
	account, ok := strings.CutPrefix(id, i.prefix())
	if !ok || strings.Contains(account, "/") {
		return ""
	}
	return account
}

// spiffeID returns the id in a certificate, or "": one that names several, or
// anything else beside, is nobody's.
func spiffeID(c *x509.Certificate) string {
	if c == nil || len(c.URIs) != 1 || c.URIs[0].Scheme != "spiffe" {
		return ""
	}
	return c.URIs[0].String()
}

package identity

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"time"

	"google.golang.org/grpc/credentials/tls/certprovider"
)

// material is what was read from the files.
type material struct {
	certprovider.KeyMaterial
	cert, key, ca []byte // the files
}

func (m *material) leaf() *x509.Certificate { return m.Certs[0].Leaf }

// read returns what the files hold. One that is written at this very moment is an
// error, as is a certificate that would be of no use.
func (i *Identity) read() (*material, error) {
	m := &material{}
	var err error
	if m.cert, err = file("TLS_CERT_FILE", i.cfg.CertFile); err != nil {
		return nil, err
	}
	if m.key, err = file("TLS_KEY_FILE", i.cfg.KeyFile); err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(m.cert, m.key)
	if err != nil {
		return nil, fmt.Errorf("TLS_CERT_FILE and TLS_KEY_FILE: %w", err)
	}
	m.Certs = []tls.Certificate{pair}
	if end := m.leaf().NotAfter; time.Now().After(end) {
		return nil, fmt.Errorf("TLS_CERT_FILE: %s: the certificate has ended at %s", i.cfg.CertFile, end.Format(time.RFC3339))
	}
	if begin := m.leaf().NotBefore; time.Now().Before(begin) {
		return nil, fmt.Errorf("TLS_CERT_FILE: %s: the certificate begins at %s", i.cfg.CertFile, begin.Format(time.RFC3339))
	}
	if !i.Mutual() {
		return m, nil
	}
	if got, want := spiffeID(m.leaf()), i.ID(i.cfg.Service); got != want {
		return nil, fmt.Errorf("TLS_CERT_FILE: %s: the certificate's SPIFFE id is %q, and this service's is %q (SPIFFE_TRUST_DOMAIN, POD_NAMESPACE)", i.cfg.CertFile, got, want)
	}
	if m.ca, err = file("TLS_CA_FILE", i.cfg.CAFile); err != nil {
		return nil, err
	}
	m.Roots = x509.NewCertPool()
	if !m.Roots.AppendCertsFromPEM(m.ca) {
		return nil, fmt.Errorf("TLS_CA_FILE: %s has no certificate", i.cfg.CAFile)
	}
	return m, i.vouched(m)
}

// vouched checks that who trusts the same authorities takes the certificate, from a
// server and from a client.
func (i *Identity) vouched(m *material) error {
	others := x509.NewCertPool()
	for _, der := range m.Certs[0].Certificate[1:] {
		if c, err := x509.ParseCertificate(der); err == nil {
			others.AddCert(c)
		}
	}
	for _, use := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		_, err := m.leaf().Verify(x509.VerifyOptions{Roots: m.Roots, Intermediates: others, KeyUsages: []x509.ExtKeyUsage{use}})
		if err != nil {
			return fmt.Errorf("TLS_CERT_FILE: %s: not a certificate for servers and clients by the authorities in TLS_CA_FILE: %w", i.cfg.CertFile, err)
		}
	}
	return nil
}

func file(variable, name string) ([]byte, error) {
	b, err := os.ReadFile(name)
	if err == nil && len(b) == 0 {
		err = fmt.Errorf("%s: is empty", name)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", variable, err)
	}
	return b, nil
}

// watch takes what the files hold by now. What can't be used is told once, and
// leaves everything as it was. gRPC's own provider would say nothing that anybody
// sees, or else the key itself.
func (i *Identity) watch() {
	tick := time.NewTicker(i.cfg.Every)
	defer tick.Stop()
	told := ""
	for {
		select {
		case <-i.closed:
			return
		case <-tick.C:
		}
		m, err := i.read()
		switch old := i.now.Load(); {
		case err != nil && err.Error() != told:
			told = err.Error()
			i.cfg.Log.Warn("the new certificate can't be used; the old one stays", "err", told, "old_not_after", old.leaf().NotAfter)
		case err != nil:
		case bytes.Equal(m.cert, old.cert) && bytes.Equal(m.key, old.key) && bytes.Equal(m.ca, old.ca):
			told = ""
		default:
			told = ""
			i.now.Store(m)
			i.tell("the certificate or who is trusted has changed")
		}
	}
}

func (i *Identity) tell(what string) {
	leaf := i.now.Load().leaf()
	i.cfg.Log.Info(what, "spiffe_id", spiffeID(leaf), "not_after", leaf.NotAfter)
}

// provider is an Identity as gRPC asks for it. It is the process's, and closed
// with it.
type provider struct{ *Identity }

// KeyMaterial implements certprovider.Provider.
func (p provider) KeyMaterial(context.Context) (*certprovider.KeyMaterial, error) {
	return &p.now.Load().KeyMaterial, nil
}

// Close implements certprovider.Provider.
func (provider) Close() {}

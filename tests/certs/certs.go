// Package certs makes certificates for tests.
package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// CA is an authority.
type CA struct {
	// PEM is its own certificate.
	PEM  []byte
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewCA makes an authority of a name.
func NewCA(t testing.TB, name string) *CA {
	t.Helper()
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	key := newKey(t)
	text, cert := sign(t, c, c, key, key)
	return &CA{PEM: text, cert: cert, key: key}
}

// A Change makes a certificate another one than usual.
type Change func(*x509.Certificate)

// Ended makes it one that has ended.
func Ended(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }

// For127 makes it one of a server at 127.0.0.1, too.
func For127(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)} }

// Issue makes a certificate with a SPIFFE id, none if it is "", for both ends of a
// connection, and its key.
func (ca *CA) Issue(t testing.TB, id string, changes ...Change) (cert, key []byte) {
	t.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: serial, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		NotBefore:   time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	if id != "" {
		u, err := url.Parse(id)
		if err != nil {
			t.Fatal(err)
		}
		c.URIs = []*url.URL{u}
	}
	for _, change := range changes {
		change(c)
	}
	own := newKey(t)
	cert, _ = sign(t, c, ca.cert, own, ca.key)
	der, err := x509.MarshalPKCS8PrivateKey(own)
	if err != nil {
		t.Fatal(err)
	}
	return cert, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func sign(t testing.TB, c, parent *x509.Certificate, own, by *ecdsa.PrivateKey) (text []byte, cert *x509.Certificate) {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &own.PublicKey, by)
	if err != nil {
		t.Fatal(err)
	}
	if cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), cert
}

// Files are those of a service.
type Files struct{ Cert, Key, CA string }

// NewFiles has a folder for the files of a service, and nothing in it.
func NewFiles(t testing.TB) Files {
	t.Helper()
	dir := t.TempDir()
	return Files{Cert: filepath.Join(dir, "tls.crt"), Key: filepath.Join(dir, "tls.key"), CA: filepath.Join(dir, "ca.crt")}
}

// Write puts content in the place of a file, as a whole.
func Write(t testing.TB, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(name+".new", content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		t.Fatal(err)
	}
}

// Take writes a new certificate of an authority, and its key.
func (f Files) Take(t testing.TB, ca *CA, id string, changes ...Change) {
	t.Helper()
	cert, key := ca.Issue(t, id, changes...)
	Write(t, f.Cert, cert)
	Write(t, f.Key, key)
}

// Trust writes the authorities that count.
func (f Files) Trust(t testing.TB, cas ...*CA) {
	t.Helper()
	var all []byte
	for _, ca := range cas {
		all = append(all, ca.PEM...)
	}
	Write(t, f.CA, all)
}

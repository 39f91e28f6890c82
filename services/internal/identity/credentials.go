package identity

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/security/advancedtls"
)

// Server returns what a server proves itself by. With Mutual it talks to nobody who
// has no certificate of the authorities; whose that is, From tells of each call.
func (i *Identity) Server() (credentials.TransportCredentials, error) {
	opts := &advancedtls.Options{
		IdentityOptions: advancedtls.IdentityCertificateOptions{IdentityProvider: provider{i}},
		MinTLSVersion:   tls.VersionTLS12,
		MaxTLSVersion:   tls.VersionTLS13,
	}
	if i.Mutual() {
		opts.RequireClientCert, opts.VerificationType = true, advancedtls.CertVerification
		opts.RootOptions.RootProvider = provider{i}
	}
	creds, err := advancedtls.NewServerCreds(opts)
	if err != nil {
		return nil, fmt.Errorf("TLS of the server: %w", err)
	}
	return accepting{creds, i}, nil
}

// Client returns what a service is called with. With Mutual whoever answers must be
// that service, at whatever address; else it must have the name that is dialled.
func (i *Identity) Client(service string) (credentials.TransportCredentials, error) {
	opts := &advancedtls.Options{MinTLSVersion: tls.VersionTLS12, MaxTLSVersion: tls.VersionTLS13}
	if i.Mutual() {
		opts.IdentityOptions.IdentityProvider = provider{i}
		opts.RootOptions.RootProvider = provider{i}
		opts.VerificationType = advancedtls.CertVerification
		opts.AdditionalPeerVerification = i.mustBe(service)
	}
	creds, err := advancedtls.NewClientCreds(opts)
	if err != nil {
		return nil, fmt.Errorf("TLS to %s: %w", service, err)
	}
	return creds, nil
}

// Outside returns what others than the shop's services are called with, who prove
// themselves by their name, to the authorities of the shop or else the system's.
func (i *Identity) Outside() (credentials.TransportCredentials, error) {
	opts := &advancedtls.Options{MinTLSVersion: tls.VersionTLS12, MaxTLSVersion: tls.VersionTLS13}
	opts.IdentityOptions.IdentityProvider = provider{i}
	if i.Mutual() {
		opts.RootOptions.RootProvider = provider{i}
	}
	return advancedtls.NewClientCreds(opts)
}

func (i *Identity) mustBe(service string) advancedtls.PostHandshakeVerificationFunc {
	return func(info *advancedtls.HandshakeVerificationInfo) (*advancedtls.PostHandshakeVerificationResults, error) {
		if got, want := spiffeID(info.Leaf), i.ID(service); got != want {
			return nil, fmt.Errorf("who answers is %q, and %s is %q", got, service, want)
		}
		return &advancedtls.PostHandshakeVerificationResults{}, nil
	}
}

// Peer is who has proved to be at the other end of a connection.
type Peer struct {
	credentials.TLSInfo
	// ID is the SPIFFE id, "" if the certificate has none.
	ID string
	// Account is the shop's account of that id, "" if it is nobody's of the shop.
	Account string
}

// From returns who makes a call; it reports false if nobody has proved anything.
func From(p *peer.Peer) (*Peer, bool) {
	who, ok := p.AuthInfo.(*Peer)
	return who, ok
}

// accepting finds out who is at the other end once for each connection.
type accepting struct {
	credentials.TransportCredentials
	identity *Identity
}

// ServerHandshake implements credentials.TransportCredentials.
func (a accepting) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := a.TransportCredentials.ServerHandshake(raw)
	if err != nil {
		a.identity.refuse(raw, err)
		return nil, nil, err
	}
	t, ok := info.(credentials.TLSInfo)
	if !ok || !a.identity.Mutual() || len(t.State.PeerCertificates) == 0 {
		return conn, info, nil
	}
	id := spiffeID(t.State.PeerCertificates[0])
	return conn, &Peer{TLSInfo: t, ID: id, Account: a.identity.account(id)}, nil
}

// Clone implements credentials.TransportCredentials.
func (a accepting) Clone() credentials.TransportCredentials {
	return accepting{a.TransportCredentials.Clone(), a.identity}
}

// refuse tells of a caller with whom there is no connection: gRPC says nothing of
// it. Whoever only looks whether the port is open is not worth a line.
func (i *Identity) refuse(c net.Conn, err error) {
	if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || !i.refused.now() {
		return
	}
	i.cfg.Log.Warn("a caller's TLS was refused", "from", c.RemoteAddr().String(), "err", err.Error())
}

// seldom says yes once a second.
type seldom struct {
	mu   sync.Mutex
	next time.Time
}

func (s *seldom) now() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := time.Now()
	if t.Before(s.next) {
		return false
	}
	s.next = t.Add(time.Second)
	return true
}

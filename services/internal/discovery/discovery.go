// Package discovery is how the instances of services find each other by etcd: each
// is registered for as long as it renews a lease, and callers are told who comes and
// goes. What etcd says is a hint: that etcd is away, or has forgotten everything,
// takes nobody away whose calls are answered.
//
// It is in binaries that are built with -tags etcd.
package discovery

import (
	"log/slog"
	"time"

	"google.golang.org/grpc/credentials"
)

// Config is how etcd is reached.
type Config struct {
	// Endpoints are its servers, as http://etcd:2379, or with https.
	Endpoints []string
	// Credentials are for https; nil: the system's authorities.
	Credentials credentials.TransportCredentials
	// Namespace keeps shops apart that share an etcd.
	Namespace string
	Log       *slog.Logger
	// TTL is for how long an instance is found that died without a word; 0: 10 s.
	TTL time.Duration
}

//go:build !etcd

package discovery

import (
	"context"
	"errors"

	"google.golang.org/grpc/resolver"
)

// errOff: etcd's client would make every binary larger, and few have it.
var errOff = errors.New("ETCD_ENDPOINTS: this binary has no etcd; build it with: go build -tags etcd")

// Registry is none.
type Registry struct{}

// Open returns an error that says how to build a binary with etcd.
func Open(Config) (*Registry, error) { return nil, errOff }

// Target is never called.
func (*Registry) Target(string) (string, resolver.Builder) { return "", nil }

// Register is never called.
func (*Registry) Register(string, string) *Registration { return nil }

// Close is never called.
func (*Registry) Close() error { return nil }

// Registration is none.
type Registration struct{}

// Leave is never called.
func (*Registration) Leave(context.Context) error { return nil }

//go:build !proxyless

package rpc

import (
	"context"
	"errors"
	"log/slog"

	"google.golang.org/grpc"
)

// errProxyless: xDS and all that it needs would make every binary larger by a
// third, and few are run so.
var errProxyless = errors.New("MESH=proxyless: this binary has no xDS; build it with: go build -tags proxyless")

func proxylessClient() ([]grpc.DialOption, error) { return nil, errProxyless }

func proxylessServer(*slog.Logger, ...grpc.ServerOption) (transport, error) { return nil, errProxyless }

// Configured returns nil: what a mesh of proxies has to know, its proxies know.
func (*Server) Configured(context.Context) error { return nil }

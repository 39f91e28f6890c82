// Package stranger asks services in a cluster for what they owe to others.
package stranger

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
)

// How somebody asks.
const (
	Plaintext     = "in plaintext"
	NoCertificate = "with no certificate"
	Certificate   = "with a certificate of the mesh"
	Connection    = "for a connection"
)

// Answer is what came of one question. The last one is empty.
type Answer struct {
	Target string     `json:"target"`
	How    string     `json:"how"`
	Code   codes.Code `json:"code"` // OK: it was answered, or the connection was made
	Error  string     `json:"error,omitempty"`
}

// patience is how long an answer may take: a policy of the network lets calls
// hang.
const patience = 5 * time.Second

// Ask asks each target, HOST:PORT/package.Service/Method or HOST:PORT alone, and
// writes the answers. certificates is the folder in which Istio's agent keeps
// them; "" for somebody who has none.
func Ask(ctx context.Context, out io.Writer, certificates string, targets []string) error {
	e := json.NewEncoder(out)
	for _, target := range targets {
		addr, method, isCall := strings.Cut(target, "/")
		if !isCall {
			if err := e.Encode(answer(target, Connection, connect(ctx, addr))); err != nil {
				return err
			}
			continue
		}
		ways, err := ways(ctx, certificates)
		if err != nil {
			return err
		}
		for how, creds := range ways {
			if err := e.Encode(answer(target, how, call(ctx, addr, "/"+method, creds))); err != nil {
				return err
			}
		}
	}
	return e.Encode(Answer{})
}

func answer(target, how string, err error) Answer {
	a := Answer{Target: target, How: how, Code: status.Code(err)}
	if err != nil {
		a.Error = err.Error()
	}
	return a
}

// ways are those in which somebody can call. The agent may not have written the
// certificates yet.
func ways(ctx context.Context, certificates string) (map[string]credentials.TransportCredentials, error) {
	if certificates == "" {
		return map[string]credentials.TransportCredentials{
			Plaintext:     insecure.NewCredentials(),
			NoCertificate: credentials.NewTLS(&tls.Config{InsecureSkipVerify: true}),
		}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		pair, err := tls.LoadX509KeyPair(filepath.Join(certificates, "cert-chain.pem"), filepath.Join(certificates, "key.pem"))
		if err == nil {
			own := &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{pair}}
			return map[string]credentials.TransportCredentials{Certificate: credentials.NewTLS(own)}, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("certificates: %w", err)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func connect(ctx context.Context, addr string) error {
	c, err := (&net.Dialer{Timeout: patience}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return status.Error(codes.Unavailable, err.Error())
	}
	return c.Close()
}

func call(ctx context.Context, addr, method string, creds credentials.TransportCredentials) error {
	cc, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(creds))
	if err != nil {
		return err
	}
	defer cc.Close()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return cc.Invoke(ctx, method, &emptypb.Empty{}, &emptypb.Empty{})
}

// Package apptest runs services in a test as they run for real: on the runtime,
// with its server, its clients, a broker and tokens, and without a socket.
package apptest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"io"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	userpb "github.com/meshmart/meshmart/proto/user/v1"
	"github.com/meshmart/meshmart/services/internal/app"
	"github.com/meshmart/meshmart/services/internal/auth"
	"github.com/meshmart/meshmart/services/internal/events/embedded"
	"github.com/meshmart/meshmart/services/internal/faultpoint"
)

// Main is for the TestMain of a service: it runs the tests and fails if they
// leave a goroutine behind, but for two that the embedded broker leaves when it
// is stopped while a stream is being made.
func Main(m *testing.M) {
	const broker = "github.com/nats-io/nats-server/v2/server"
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction(broker+".(*fileStore).flushStreamStateLoop"),
		goleak.IgnoreAnyFunction(broker+"/ats.Register.func1"))
}

// World is what services of one test have in common.
type World struct {
	// Net connects the services by name.
	Net *app.Memory
	// Broker is an embedded JetStream server.
	Broker nats.InProcessConnProvider
	// Log gets the services' log lines; set it before Start. Nil discards them.
	Log io.Writer
	// Spans gets the services' spans; set it before Start.
	Spans sdktrace.SpanProcessor
	// Clock is the services' time; set it before Start. Nil is time.Now.
	Clock func() time.Time
	// Point is told of the services' points; set it before Start.
	Point faultpoint.Hook

	t   *testing.T
	key *ecdsa.PrivateKey
}

const keyID = "apptest"

// New returns a World with a broker, in which no service runs yet.
func New(t *testing.T) *World {
	t.Helper()
	broker, stop, err := embedded.Start(embedded.Config{Dir: t.TempDir(), NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &World{Net: &app.Memory{}, Broker: broker, t: t, key: key}
}

// Start runs a service with the variables in env and returns once it is ready.
// It is stopped, and must stop without an error, when stop is called or the
// test ends.
func (w *World) Start(svc app.Service, env map[string]string) (stop func()) {
	w.t.Helper()
	environ := map[string]string{"GRPC_ADDR": "127.0.0.1:0", "DATA_DIR": w.t.TempDir(), "SHUTDOWN_TIMEOUT": "5s"}
	for k, v := range env {
		environ[k] = v
	}
	log := w.Log
	if log == nil {
		log = io.Discard
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- app.Run(ctx, svc, app.Options{
			Environ: environ, Network: w.Net, Broker: w.Broker, Log: log, Spans: w.Spans, Clock: w.Clock, Point: w.Point,
			Ready: func() { close(ready) },
		})
	}()
	stopped := false
	stop = func() {
		w.t.Helper()
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("service %s: %v", svc.Name, err)
		}
	}
	select {
	case <-ready:
		w.t.Cleanup(stop)
	case err := <-done:
		cancel()
		w.t.Fatalf("service %s did not start: %v", svc.Name, err)
	case <-time.After(time.Minute):
		cancel()
		w.t.Fatalf("service %s is not ready after a minute", svc.Name)
	}
	return stop
}

// Serve answers in the place of a service: register fakes on the server.
func (w *World) Serve(name string, register func(*grpc.Server)) {
	w.t.Helper()
	lis, err := w.Net.Listen(name)
	if err != nil {
		w.t.Fatal(err)
	}
	s := grpc.NewServer()
	register(s)
	go s.Serve(lis)
	w.t.Cleanup(s.Stop)
}

// ServeKeys answers as the user service with the keys of this World's tokens.
func (w *World) ServeKeys() {
	w.Serve("user", func(s *grpc.Server) { userpb.RegisterAuthServiceServer(s, jwks{key: &w.key.PublicKey}) })
}

type jwks struct {
	userpb.UnimplementedAuthServiceServer
	key *ecdsa.PublicKey
}

func (j jwks) GetJwks(context.Context, *userpb.GetJwksRequest) (*userpb.GetJwksResponse, error) {
	k, err := auth.NewJWK(keyID, j.key)
	if err != nil {
		return nil, err
	}
	return &userpb.GetJwksResponse{Keys: []*userpb.JsonWebKey{k.Proto()}}, nil
}

// Conn returns a plain connection to a service, without the runtime's client.
func (w *World) Conn(name string) *grpc.ClientConn {
	w.t.Helper()
	target, opts := w.Net.Target(name)
	cc, err := grpc.NewClient(target, append(opts, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { cc.Close() })
	return cc
}

// As returns a context for calls on behalf of a user with the roles; it is
// known as signed in where ServeKeys answers.
func (w *World) As(ctx context.Context, user string, roles ...string) context.Context {
	w.t.Helper()
	now := time.Now()
	token, err := auth.Sign(w.key, keyID, auth.Claims{
		Subject: user, Session: "session-of-" + user, Roles: roles,
		Issued: now, Expires: now.Add(time.Hour),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
}

//go:build etcd

package discovery

import (
	"context"
	"fmt"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/resolver"
)

const (
	defaultTTL = 10 * time.Second
	// retryEvery is how long after a failure etcd is asked again.
	retryEvery = time.Second
	// askLimit is how long one answer may take.
	askLimit = 3 * time.Second
	// renewEvery is how often all is asked for anew. A watch ends without a word
	// when what it waits for is not kept any more, and never if etcd has lost its
	// data: it then waits for a change with a number that is far off.
	renewEvery = 30 * time.Second
)

// key is where the instances of a service are, each under its address.
func (c *Config) key(service string) string { return "meshmart/" + c.Namespace + "/" + service }

// Registry is an etcd in which services are registered and found.
type Registry struct {
	cfg    Config
	client *clientv3.Client
	open   context.Context
	close  context.CancelFunc
	asking sync.WaitGroup // of resolvers
}

// Open returns the registry at an etcd, which need not be there yet.
func Open(cfg Config) (*Registry, error) {
	if cfg.TTL == 0 {
		cfg.TTL = defaultTTL
	}
	opts := []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{
		Backoff:           backoff.Config{BaseDelay: retryEvery / 4, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * retryEvery},
		MinConnectTimeout: askLimit,
	}), grpc.WithChainUnaryInterceptor(limited)}
	if cfg.Credentials != nil {
		opts = append(opts, grpc.WithTransportCredentials(cfg.Credentials))
	}
	c, err := clientv3.New(clientv3.Config{
		Endpoints: cfg.Endpoints, DialOptions: opts,
		DialKeepAliveTime: 10 * time.Second, DialKeepAliveTimeout: askLimit,
		MaxUnaryRetries: 1,            // what fails is asked again from here
		Logger:          zap.NewNop(), // what matters is told here
	})
	if err != nil {
		return nil, fmt.Errorf("ETCD_ENDPOINTS: %w", err)
	}
	r := &Registry{cfg: cfg, client: c}
	r.open, r.close = context.WithCancel(context.Background())
	return r, nil
}

// limited has no question to etcd wait for longer than askLimit. By themselves they
// wait until etcd is there.
func limited(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	return invoke(ctx, method, req, reply, cc, opts...)
}

// Target returns how a service is called, and what finds its instances.
func (r *Registry) Target(service string) (string, resolver.Builder) {
	return "etcd:///" + r.cfg.key(service), builder{r, service}
}

// Close ends the connections to etcd, and what is asked over them.
func (r *Registry) Close() error {
	r.close()
	err := r.client.Close()
	r.asking.Wait()
	return err
}

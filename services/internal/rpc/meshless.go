package rpc

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/health" // has clients watch the health of those that they call
	"google.golang.org/grpc/keepalive"

	"github.com/meshmart/meshmart/services/internal/identity"
)

// serviceConfigs holds a gRPC service config for each service, generated from
// the contracts.
//
//go:embed serviceconfig.gen.json
var serviceConfigs []byte

// Without a mesh a connection is to one replica for as long as it lives: a new
// replica gets its share of the calls when connections are made anew. A call
// that is under way then has the grace to end. No call with a timeout takes so
// long; a stream that stays open is opened again, as its contract says.
const (
	connectionAge   = 5 * time.Minute
	connectionGrace = 10 * time.Minute
)

func spread(age, grace time.Duration) grpc.ServerOption {
	return grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionAge: age, MaxConnectionAgeGrace: grace})
}

// meshless makes gRPC do what a mesh would: it repeats calls, balances them over
// the replicas that DNS tells of, and leaves out those that are not ready.
func meshless(service string, own *identity.Identity) ([]grpc.DialOption, error) {
	config, err := serviceConfig(serviceConfigs, service)
	if err != nil {
		return nil, err
	}
	creds := insecure.NewCredentials()
	if own != nil {
		if creds, err = own.Client(service); err != nil {
			return nil, err
		}
	}
	return append(repeating(),
		grpc.WithTransportCredentials(creds),
		grpc.WithDisableServiceConfig(), // of the resolver: one from DNS could say otherwise
		grpc.WithDefaultServiceConfig(config),
	), nil
}

func serviceConfig(all []byte, service string) (string, error) {
	var configs map[string]json.RawMessage
	if err := json.Unmarshal(all, &configs); err != nil {
		return "", fmt.Errorf("service configs: %w", err)
	}
	config, ok := configs[service]
	if !ok {
		return "", fmt.Errorf("no service config for %s: generate them from the contracts", service)
	}
	return string(config), nil
}

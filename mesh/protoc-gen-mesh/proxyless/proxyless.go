// Package proxyless says what of the contracts is lost where gRPC itself does what
// istiod says, and there is no proxy. Its manifests are mesh/istio/policy, and an
// overlay that is written by hand.
package proxyless

import (
	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/contract"
	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/target"
)

// Target is gRPC in Go as a client of istiod.
func Target() target.Target {
	return target.Target{Name: "proxyless", Version: "Istio 1.31, gRPC in Go 1.85 as istiod's client", Losses: losses}
}

func losses(s *contract.Shop) []target.Loss {
	retried := target.With(s, (*contract.RPC).Retried)
	return []target.Loss{
		target.NoRate(s, "gRPC has no rate limits."),
		target.NoSLO(s),
		target.NoRequestID(s),
		{
			Policy: "access: user and admin", RPCs: target.With(s, (*contract.RPC).NeedsToken),
			Why:     "gRPC does not execute a RequestAuthentication: it does not look at tokens.",
			Instead: "The service verifies every token, as it does with every mesh.",
		},
		{
			Policy: "retry: per_try_timeout", RPCs: retried,
			Why:     "gRPC in Go has no time limit for one attempt.",
			Instead: "The deadline of the call.",
		},
		{
			Policy: "retry, throttled by share", RPCs: retried,
			Why:     "gRPC does not execute maxRetries, and takes no throttle from a control plane.",
			Instead: "The number of attempts, and the circuit breaker in the process.",
		},
		{
			Policy: "calls, by the caller", Why: "gRPC does not execute a Sidecar object: nothing in the pod says where it may call.",
			Instead: "Whoever is called lets in only its callers.",
		},
		{
			Policy: "outlier detection", Why: "gRPC reads an outlierDetection of istiod's only in part: errors in a row, which ours counts, it does not.",
			Instead: "The circuit breaker in the process, for the service as a whole; a replica that is not ready leaves by its probe.",
		},
		{
			Policy:  "mutual TLS, at the edge and before the stores",
			Why:     "What does not speak gRPC has no mutual TLS and no policies: the REST of the edge, PostgreSQL, NATS, the metrics.",
			Instead: "NetworkPolicies, which are in the overlay, and the passwords of the stores. Each service behind the edge asks for tokens.",
		},
	}
}

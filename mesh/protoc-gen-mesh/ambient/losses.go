package ambient

import (
	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/contract"
	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/istio"
	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/target"
)

func losses(s *contract.Shop) []target.Loss {
	retried := target.With(s, (*contract.RPC).Retried)
	once := target.With(s, func(r *contract.RPC) bool { return r.Retry == nil })
	return []target.Loss{
		target.NoRate(s, "Local rate limits are an EnvoyFilter, which a waypoint does not take."),
		target.NoSLO(s),
		target.NoRequestID(s),
		{
			Policy: "retry: none", RPCs: once,
			Why:     "Gateway API's standard channel has no retry, its experimental one none of 0 attempts before 1.7, and istiod has each route that says nothing repeated twice.",
			Instead: "The header x-envoy-max-retries: 0, which a waypoint's Envoy puts before the route's number. mesh/ambient/exact says it in a VirtualService.",
		},
		{
			Policy: "retry: on", RPCs: retried,
			Why:     "The conditions of istiod's own retries stay beside the contract's: CANCELLED is repeated, too.",
			Instead: "Only what may be repeated is repeated at all, and as often as the contract says. mesh/ambient/exact has the contract's conditions alone.",
		},
		{
			Policy: "retry: per_try_timeout", RPCs: retried,
			Why:     "backendRequest is a limit for one attempt only beside a retry of the experimental channel.",
			Instead: "The timeout of the call. mesh/ambient/exact has it.",
		},
		{
			Policy: "retry, throttled by share", RPCs: retried,
			Why:     "A DestinationRule's retryBudget is a share of the calls under way, with 3 repetitions at once at the least: not of those that came before.",
			Instead: "maxRetries: so many repetitions at once for each service and waypoint.",
		},
		istio.Refusal(s),
		istio.Revocation(s),
		{
			Policy: "access: user and admin, at the edge", RPCs: istio.Unguarded(s),
			Why:     "A pattern for the REST route would take in one that is open to everyone.",
			Instead: "The waypoint before the service that answers.",
		},
		{
			Policy:  "mutual TLS, at the edge",
			Why:     "istiod reads " + s.Keys + " from the edge, without an identity of the mesh, and ztunnel does not see which document is read: who has no identity reaches the edge's port past the ingress.",
			Instead: "The edge is for everyone; each service behind it asks for tokens. Whoever has an identity and is not the ingress is refused.",
		},
		{
			Policy:  "calls, by the caller",
			Why:     "There is no Sidecar object: nothing in the pod says where it may call.",
			Instead: "Whoever is called lets in only its callers.",
		},
		target.OpenMetrics(),
	}
}

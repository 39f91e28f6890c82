package istio

import (
	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/contract"
	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/target"
)

func losses(s *contract.Shop) []target.Loss {
	return []target.Loss{
		target.NoRate(s, "Local rate limits are an EnvoyFilter, which no version of Istio promises to keep."),
		target.NoSLO(s),
		target.NoRequestID(s),
		Refusal(s),
		Revocation(s),
		{
			Policy: "access: user and admin, at the edge", RPCs: Unguarded(s),
			Why:     "A pattern for the REST route would take in one that is open to everyone.",
			Instead: "The sidecar of the service that answers.",
		},
		{
			Policy:  "mutual TLS, at the edge",
			Why:     "istiod reads " + s.Keys + " from the edge, without an identity of the mesh: the edge's port takes plaintext, too.",
			Instead: "A policy by which a call without an identity reads that one public document, and nothing else.",
		},
		{
			Policy:  "retry, throttled by share",
			RPCs:    target.With(s, (*contract.RPC).Retried),
			Why:     "A DestinationRule's retryBudget is a share of the calls under way, with 3 repetitions at once at the least: not of those that came before.",
			Instead: "maxRetries: so many repetitions at once for each service and caller.",
		},
		target.OpenMetrics(),
	}
}

// Refusal is that a call without a token is refused, but not as the service would.
func Refusal(s *contract.Shop) target.Loss {
	return target.Loss{
		Policy: "access: user and admin, the refusal", RPCs: target.With(s, (*contract.RPC).NeedsToken),
		Why:     "A call without a token is refused by an AuthorizationPolicy: PERMISSION_DENIED, at the edge 403, where the service itself would say UNAUTHENTICATED, 401.",
		Instead: "The refusal. A token that is wrong or has expired is 401 in both.",
	}
}

// Revocation is that Envoy cannot know which tokens were revoked.
func Revocation(s *contract.Shop) target.Loss {
	return target.Loss{
		Policy: "access: user and admin, revocation", RPCs: target.With(s, (*contract.RPC).NeedsToken),
		Why:     "Envoy knows the keys, not which sign-ins were ended, and takes a token for a minute longer than it lasts.",
		Instead: "The service verifies every token again, with the revocations that it has heard of, and to the second.",
	}
}

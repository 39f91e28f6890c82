package linkerd

import (
	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/contract"
	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/target"
)

func losses(s *contract.Shop) []target.Loss {
	retried := target.With(s, (*contract.RPC).Retried)
	inTotal := target.With(s, func(r *contract.RPC) bool { return r.Rate != nil && total(s.ServiceOf(r)) > 0 })
	notAtAll := target.With(s, func(r *contract.RPC) bool { return r.Rate != nil && total(s.ServiceOf(r)) == 0 })
	return []target.Loss{
		{
			Policy: "rate, by RPC", RPCs: inTotal,
			Why:     "An HTTPLocalRateLimitPolicy is of a whole Server, and has no burst.",
			Instead: "A bound for all RPCs of the service together, each with the greater of its rate and its burst. The process bounds each RPC.",
		},
		{
			Policy: "rate", RPCs: notAtAll,
			Why:     "An RPC of the service has a rate for each user, and Linkerd knows no users: no bound for the whole Server is right.",
			Instead: "The process: a token bucket for each RPC, or RPC and caller, that answers RESOURCE_EXHAUSTED.",
		},
		target.NoSLO(s),
		target.NoRequestID(s),
		{
			Policy: "access: user and admin", RPCs: target.With(s, (*contract.RPC).NeedsToken),
			Why:     "Linkerd does not look at tokens.",
			Instead: "The service verifies every token, as it does with every mesh.",
		},
		{
			Policy: "retry, of large requests", RPCs: retried,
			Why:     "A request of more than 64 KiB is not kept, and so not repeated.",
			Instead: "The answer of the first attempt.",
		},
		{
			Policy: "retry, throttled by share", RPCs: retried,
			Why:     "Routes have no retry budget; that of a ServiceProfile would switch them off.",
			Instead: "The number of attempts, and the circuit breaker in the caller's process.",
		},
		{
			Policy: "timeout, where the caller has no proxy", RPCs: target.With(s, func(r *contract.RPC) bool { return r.Timeout > 0 }),
			Why:     "The caller's proxy holds it, not the service's.",
			Instead: "Who has no identity of the mesh is refused. The process bounds its own calls.",
		},
		{
			Policy:  "calls, by the caller",
			Why:     "An EgressNetwork is of what is outside the cluster: nothing in the pod says where within it may call.",
			Instead: "Whoever is called lets in only its callers.",
		},
		{
			Policy:  "callers, at the edge",
			Why:     "Linkerd has no ingress of its own, so who comes to the edge is not known.",
			Instead: "The edge is for everyone; each service behind it asks for tokens.",
		},
		{
			Policy:  "callers, of health",
			Why:     "The kubelet has no identity, and its address is not the same everywhere: anyone may ask grpc.health.v1.Health/Check.",
			Instead: "It tells whether a replica is ready, and nothing else.",
		},
		target.OpenMetrics(),
	}
}

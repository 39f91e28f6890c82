package target

import (
	"fmt"

	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/contract"
)

// This file is the losses that several targets share.

// NoRate is that rates hold in the process only, and why.
func NoRate(s *contract.Shop, why string) Loss {
	return Loss{
		Policy: "rate", RPCs: With(s, func(r *contract.RPC) bool { return r.Rate != nil }),
		Why: why, Instead: "The process: a token bucket for each RPC, or RPC and caller, that answers RESOURCE_EXHAUSTED.",
	}
}

// NoSLO is that no mesh watches an objective.
func NoSLO(s *contract.Shop) Loss {
	return Loss{
		Policy: "slo", RPCs: With(s, func(r *contract.RPC) bool { return r.SLO != nil }),
		Why: "No mesh knows objectives.", Instead: "Alerts on the metrics of the processes.",
	}
}

// NoRequestID is that a mesh repeats a change as it is, and that somebody has to
// know the repetition for one.
func NoRequestID(s *contract.Shop) Loss {
	return Loss{
		Policy: "idempotency_level: IDEMPOTENT", RPCs: With(s, func(r *contract.RPC) bool { return r.Idempotent && !r.ReadOnly }),
		Why:     "A mesh repeats a change, and does not see to it that it acts once.",
		Instead: "The process: a natural key, or a request_id that the client's side fills in before the mesh sees the call.",
	}
}

// OpenMetrics is that nobody is asked who he is where the metrics are.
func OpenMetrics() Loss {
	return Loss{
		Policy:  "mutual TLS and callers, of the metrics",
		Why:     "Prometheus may be outside of the mesh: port 9100 takes plaintext, from anyone.",
		Instead: "They tell of the process, of no user. NetworkPolicies, where they are added, let in Prometheus alone.",
	}
}

// Names is one RPC's full name and place, and how many more there are.
func Names(rs []*contract.RPC) string {
	switch len(rs) {
	case 0:
		return ""
	case 1:
		return fmt.Sprintf("%s, %s", rs[0].FullName(), rs[0].Source)
	}
	return fmt.Sprintf("%s, %s, and %d more", rs[0].FullName(), rs[0].Source, len(rs)-1)
}

package observability

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/contract"
)

// rpc is an RPC that has an objective.
type rpc struct {
	*contract.RPC
	// Objectives are the availability, and the latency if there is one.
	Objectives []objective
}

// objective is one thing that is promised of an RPC's calls over 30 days.
type objective struct {
	// Of is the RPC's selector in PromQL, without braces.
	Of string
	// Name is "availability" or "latency".
	Name string
	// Share is how many of the calls must be good.
	Share float64
	// Within is how long a call may take; 0 for an availability.
	Within time.Duration
}

// The failures are those for which the service is to blame, as the semantic
// conventions of OpenTelemetry have it for servers.
const failures = "UNKNOWN|DEADLINE_EXCEEDED|UNIMPLEMENTED|INTERNAL|UNAVAILABLE|DATA_LOSS"

// burn is how many times as fast as allowed a budget goes, and over which
// windows that is looked at: the long one says that it matters, the short one
// that it still goes on.
type burn struct {
	Factor      float64
	Long, Short string
	// Hours is how long the long window is.
	Hours    float64
	Severity string
}

// The numbers are those of the SRE workbook, chapter 5: someone is woken when 2 %
// of a month's budget went in an hour or 5 % in six, and finds a ticket for 10 %
// in three days.
var burns = []burn{
	{14.4, "1h", "5m", 1, "page"},
	{6, "6h", "30m", 6, "page"},
	{1, "3d", "6h", 72, "ticket"},
}

// Budget is the share of calls that may be bad.
func (o objective) Budget() float64 { return rounded(1 - o.Share) }

// watch returns all RPCs with objectives, or which of them can't be watched.
func watch(s *contract.Shop) ([]rpc, error) {
	var out []rpc
	var errs []error
	for _, r := range s.RPCs() {
		if r.SLO == nil {
			continue
		}
		for _, text := range problems(r) {
			errs = append(errs, errors.New(r.Source.String()+": "+r.FullName()+": "+text))
		}
		out = append(out, rpc{r, objectives(r)})
	}
	return out, errors.Join(errs...)
}

func objectives(r *contract.RPC) []objective {
	of := fmt.Sprintf("service_name=%q,rpc_method=%q", r.Host, r.FullName())
	all := []objective{{of, "availability", r.SLO.GetAvailability(), 0}}
	if r.SLO.GetLatency() != nil {
		all = append(all, objective{of, "latency", r.SLO.GetLatencyQuantile(), r.SLO.GetLatency().AsDuration()})
	}
	return all
}

// problems are why an objective can't be watched: an alert that could never fire
// would be taken for a promise that holds.
func problems(r *contract.RPC) []string {
	var texts []string
	fastest := burns[0].Factor
	least := math.Ceil((1-1/fastest)*1e4) / 1e4
	for _, o := range objectives(r) {
		if fastest*(1-o.Share) >= 1 {
			texts = append(texts, fmt.Sprintf("slo with %s %v: no calls are as bad as %v times what it allows, and so its alert could never fire; from %v on it could", o.Name, o.Share, fastest, least))
		}
		if o.Name != "latency" {
			continue
		}
		if r.Streaming() {
			texts = append(texts, "slo with latency on a stream: how long it stays open does not say how fast it is")
		}
		if r.Timeout > 0 && o.Within >= r.Timeout {
			texts = append(texts, fmt.Sprintf("slo with latency %v: no call takes longer and succeeds, as the timeout is %v, and so its alert could never fire", o.Within, r.Timeout))
		}
	}
	return texts
}

// rounded takes from a share what floating point added to it.
func rounded(f float64) float64 { return math.Round(f*1e9) / 1e9 }

// number writes a float as PromQL and people read it.
func number(f float64) string { return strconv.FormatFloat(rounded(f), 'f', -1, 64) }

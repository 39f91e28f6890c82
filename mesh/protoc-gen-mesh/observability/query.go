package observability

import (
	"fmt"
	"strings"

	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/contract"
)

// calls are RPCs, as one side of them counts them.
type calls struct {
	// Metric is the histogram of their durations in seconds.
	Metric string
	// Of selects some of them: label="value",label="value".
	Of string
}

func served(of string) calls { return calls{"rpc_server_call_duration_seconds", of} }
func made(of string) calls   { return calls{"rpc_client_call_duration_seconds", of} }

// rest are the edge's requests.
func rest(of string) calls { return calls{"http_server_request_duration_seconds", of} }

// rate is how many there are a second, by labels; in all without them.
func (c calls) rate(by ...string) string { return c.rateOf("", by) }

func (c calls) rateOf(more string, by []string) string {
	return fmt.Sprintf("sum%s (rate(%s_count{%s}[$__rate_interval]))", group(by), c.Metric, join(c.Of, more))
}

// failed is the share of those that failed by the service's fault.
func (c calls) failed(by ...string) string {
	bad := fmt.Sprintf("rpc_response_status_code=~%q", failures)
	if strings.HasPrefix(c.Metric, "http_") {
		bad = `http_response_status_code=~"5.."`
	}
	return fmt.Sprintf("(%s or 0 * %s) / %s", c.rateOf(bad, by), c.rate(by...), c.rate(by...))
}

// within is the time that a share of them stays in.
func (c calls) within(share float64, by ...string) string {
	return fmt.Sprintf("histogram_quantile(%s, sum%s (rate(%s_bucket{%s}[$__rate_interval])))",
		number(share), group(append([]string{"le"}, by...)), c.Metric, c.Of)
}

func group(by []string) string {
	if len(by) == 0 {
		return ""
	}
	return " by (" + strings.Join(by, ", ") + ")"
}

func join(selectors ...string) string {
	var all []string
	for _, s := range selectors {
		if s != "" {
			all = append(all, s)
		}
	}
	return strings.Join(all, ",")
}

// short selects the RPCs that are answered once: how long a stream stays open
// would be taken for slowness.
func short(s *contract.Shop) string {
	return "rpc_method!~" + oneOf(streams(s.RPCs()))
}

func streams(rpcs []*contract.RPC) []string {
	var names []string
	for _, r := range rpcs {
		if r.Streaming() {
			names = append(names, r.FullName())
		}
	}
	return names
}

// shortRoutes selects the routes of those.
func shortRoutes(s *contract.Shop) string {
	var paths []string
	for _, r := range s.RPCs() {
		for _, route := range r.Routes {
			if r.Streaming() {
				paths = append(paths, route.Path)
			}
		}
	}
	return "http_route!~" + oneOf(paths)
}

// Every replica tells of the same sagas and the same outbox: the most of what they
// say is true, the sum is not.
func most(metric, of string, by ...string) string {
	return fmt.Sprintf("max%s (%s{%s})", group(by), metric, of)
}

// process is an expression of a metric of Go or the process, whose selector is
// runs(service). In a process of its own a service has its name on them. In the
// all-in-one they have none, and what else the process tells of the service finds
// it: others, such as Prometheus itself, have such metrics, too.
func process(expr, service string, told calls) string {
	return fmt.Sprintf("%s and on (job, instance) %s_count{service_name=%q}", expr, told.Metric, service)
}

func runs(service string) string { return fmt.Sprintf("service_name=~%q", service+"|") }

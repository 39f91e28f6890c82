package observability

import (
	"fmt"

	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/contract"
)

// meshes is the dashboard of what is between the services. Each number is said
// by the process at one end or the other, and by a proxy in between; where they
// differ the mesh did something.
func meshes(s *contract.Shop) *dashboard {
	d := newDashboard("mesh", "Shop: mesh", "What the mesh repeats and refuses, beside what the processes see.", s.Runbook)
	processes(d, s)
	istioRow(d, s)
	linkerdRow(d, s)
	return d
}

func processes(d *dashboard, s *contract.Shop) {
	d.section("The processes' view", "From meshmart's own metrics, with any mesh and with none.")
	// In terms of one name, which each side has under another label.
	came := fmt.Sprintf(`label_replace(%s, "server_address", "$1", "service_name", "(.*)")`, served("").rate("service_name"))
	d.add(8,
		graph(8, "Calls made", "reqps", "rpc_client_call_duration_seconds: what callers ask for, by the service that is called. A repetition by the mesh is not in it.",
			line{made("").rate("server_address"), "{{server_address}}"}),
		graph(8, "Attempts that came", "reqps", "rpc_server_call_duration_seconds: what reaches the services. A call that the mesh refuses is not in it, one that it repeats is more than once.",
			line{came, "{{server_address}}"}),
		graph(8, "Repeated (above 0) or refused (below)", "reqps", "Attempts that came less calls made. Without a mesh a little below 0 while a breaker or a deadline keeps calls back.",
			line{fmt.Sprintf("%s - on (server_address) %s", came, made("").rate("server_address")), "{{server_address}}"}).below(),
	)
	d.add(8,
		graph(8, "Failed, as callers see it", "percentunit", "rpc_client_call_duration_seconds: after all repetitions.", line{made("").failed("server_address"), "{{server_address}}"}),
		graph(8, "Failed, as services see it", "percentunit", "rpc_server_call_duration_seconds: attempts. Higher than the callers' where repetitions help; lower where calls fail on the way.",
			line{served("").failed("service_name"), "{{service_name}}"}),
		graph(8, "p99 on the way", "s", "The callers' p99 less the services': proxies, network, repetitions. Streams are left out.", line{
			fmt.Sprintf(`%s - on (server_address) label_replace(%s, "server_address", "$1", "service_name", "(.*)")`,
				made(short(s)).within(0.99, "server_address"), served(short(s)).within(0.99, "service_name")), "{{server_address}}",
		}).below(),
	)
}

// istioRow has the standard metrics of Istio's proxies: sidecars report as source
// and destination, waypoints as waypoint.
func istioRow(d *dashboard, s *contract.Shop) {
	of := fmt.Sprintf("destination_service_namespace=%q", s.Namespace)
	sum := func(more, by string) string {
		return fmt.Sprintf("sum by (%s) (rate(istio_requests_total{%s}[$__rate_interval]))", by, join(of, more))
	}
	time := func(reporter string) string {
		return fmt.Sprintf("histogram_quantile(0.99, sum by (le, destination_service_name) (rate(istio_request_duration_milliseconds_bucket{%s,reporter=~%q}[$__rate_interval])))", of, reporter)
	}
	const asked, came = `reporter="source"`, `reporter=~"destination|waypoint"`
	d.section("Istio's view", "From Istio's proxies: istio_requests_total and istio_request_duration_milliseconds. Empty without Istio; proxyless gRPC has no proxies.")
	d.add(8,
		graph(8, "Requests, by the callers' proxies", "reqps", `istio_requests_total, reporter "source": one for each call, however often it is repeated.`, line{sum(asked, "destination_service_name"), "{{destination_service_name}}"}),
		graph(8, "Attempts, by the services' proxies", "reqps", `istio_requests_total, reporter "destination", or "waypoint" in ambient: one for each attempt that came to a sidecar; a waypoint makes the repetitions itself.`,
			line{sum(came, "reporter, destination_service_name"), "{{destination_service_name}} ({{reporter}})"}),
		graph(8, "What the proxies did", "reqps", "istio_requests_total by response flag. UO: too many at once, or too many repetitions; UH: no replica is left; UF: no connection; URX: repeated as often as allowed; UT: timeout; DC: the caller went away; NR: no route.",
			line{sum(`response_flags!="-"`, "destination_service_name, response_flags"), "{{destination_service_name}} {{response_flags}}"}).stacked(),
	)
	d.add(8,
		graph(8, "Refused by policy", "reqps", "istio_requests_total with 403 or PERMISSION_DENIED, by who called whom: callers and access of the contract. Services refuse on their own, too, which is in it.",
			line{sum(`response_code="403"`, "source_workload, destination_service_name") + " or " + sum(`grpc_response_status="7"`, "source_workload, destination_service_name"), "{{source_workload}} to {{destination_service_name}}"}),
		graph(8, "gRPC status", "reqps", "istio_requests_total by grpc_response_status, 0 left out: the code's number, as the services' proxies saw it.",
			line{sum(came+`,grpc_response_status!~"|0"`, "destination_service_name, grpc_response_status"), "{{destination_service_name}} {{grpc_response_status}}"}),
		graph(8, "p99", "ms", "istio_request_duration_milliseconds: the callers' proxies have the repetitions and the way there in it, the services' do not.",
			line{time("source"), "{{destination_service_name}}, caller"}, line{time("destination|waypoint"), "{{destination_service_name}}, service"}),
	)
}

// linkerdRow has the metrics of Linkerd's proxies.
func linkerdRow(d *dashboard, s *contract.Shop) {
	sum := func(direction, more, by string) string {
		return fmt.Sprintf("sum by (%s) (rate(response_total{%s}[$__rate_interval]))", by, join(fmt.Sprintf("namespace=%q,direction=%q", s.Namespace, direction), more))
	}
	d.section("Linkerd's view", "From Linkerd's proxies: response_total and response_latency_ms, with the labels that Linkerd's own Prometheus (linkerd-viz) gives them: let Grafana have it as a data source, and choose it above. Empty without.")
	d.add(8,
		graph(8, "Attempts, by the callers' proxies", "reqps", "response_total, direction outbound: one for each attempt, repetitions included.", line{sum("outbound", "", "dst_deployment"), "{{dst_deployment}}"}),
		graph(8, "Attempts, by the services' proxies", "reqps", "response_total, direction inbound.", line{sum("inbound", "", "deployment"), "{{deployment}}"}),
		graph(8, "Failed or refused", "reqps", "response_total with classification failure, by the proxy that says so. What a policy refuses is among them.",
			line{sum("outbound", `classification="failure"`, "dst_deployment, status_code"), "to {{dst_deployment}} {{status_code}}"},
			line{sum("inbound", `classification="failure"`, "deployment, status_code"), "at {{deployment}} {{status_code}}"}),
	)
	d.add(8,
		graph(8, "p99", "ms", "response_latency_ms, direction inbound: until the first byte of the answer.",
			line{fmt.Sprintf(`histogram_quantile(0.99, sum by (le, deployment) (rate(response_latency_ms_bucket{namespace=%q,direction="inbound"}[$__rate_interval])))`, s.Namespace), "{{deployment}}"}),
	)
}

package observability

import (
	"fmt"

	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/contract"
)

// service is the dashboard of one service: a row for each RPC with an objective,
// drawn with what its contract promises, and what it runs on.
func service(s *contract.Shop, name string, watched []rpc) *dashboard {
	d := newDashboard("service-"+name, "Service: "+name, "The service "+name+", RPC by RPC.", s.Runbook)
	for _, r := range watched {
		rpcRow(d, r)
	}
	of, told := fmt.Sprintf("service_name=%q", name), served("")
	if name == s.Edge.Host {
		told = rest("")
		routeRow(d, s, of)
	}
	if svc := s.Service(name); svc != nil {
		otherRow(d, svc, watched, of)
		callerRow(d, s, name)
	}
	if len(s.Callees(name)) > 0 {
		calleeRow(d, s, of)
	}
	for _, b := range s.BackendsOf(name) {
		switch b.Host {
		case "postgres":
			poolRow(d, of)
		case "nats":
			eventRow(d, of)
		}
	}
	processRow(d, name, told)
	return d
}

func rpcRow(d *dashboard, r rpc) {
	all := served(r.Objectives[0].Of)
	d.section(r.FullName(), fmt.Sprintf("From %s.", r.Source))
	burning := graph(5, "Burn", "short", "How many times as fast as allowed the budget goes, over an hour and over 5 minutes. Alerts fire at the lines.",
		line{"slo:bad:ratio_rate1h{" + all.Of + "} / on (service_name, rpc_method, slo) (1 - slo:objective:ratio)", "{{slo}} 1h"},
		line{"slo:bad:ratio_rate5m{" + all.Of + "} / on (service_name, rpc_method, slo) (1 - slo:objective:ratio)", "{{slo}} 5m"}).limit(burnLimits()...)
	left := figure(4, "Budget left", "percentunit", "Of the bad calls that 30 days may have.", "red", untilZero,
		line{"slo:budget_left:ratio30d{" + all.Of + "}", "{{slo}}"})
	d.add(7,
		graph(5, "Calls", "reqps", "By the code that is answered.", line{all.rate("rpc_response_status_code"), "{{rpc_response_status_code}}"}).stacked(),
		graph(5, "Failed", "percentunit", fmt.Sprintf("Share of calls that failed by the service's fault. The line is what the contract allows: %s.", number(r.Objectives[0].Budget())),
			line{all.failed(), "failed"}).limit(from(r.Objectives[0].Budget(), "red")),
		latency(r), burning, left,
	)
}

// latency has a line at the time that the contract promises, if it does.
func latency(r rpc) weighted {
	all := served(r.Objectives[0].Of)
	lines := []line{{all.within(0.5), "p50"}, {all.within(0.99), "p99"}}
	if len(r.Objectives) < 2 {
		return graph(5, "Time", "s", "How long an answer takes. The contract promises nothing of it.", lines...).traced()
	}
	o := r.Objectives[1]
	if o.Share != 0.99 {
		lines = append(lines, line{all.within(o.Share), "p" + number(100*o.Share)})
	}
	about := fmt.Sprintf("How long an answer takes. The line is what the contract promises to %s of the calls: %s.", number(100*o.Share)+" %", o.Within)
	return graph(5, "Time", "s", about, lines...).traced().limit(from(o.Within.Seconds(), "red"))
}

// otherRow has the RPCs without an objective, if there are any.
func otherRow(d *dashboard, svc *contract.Service, watched []rpc, of string) {
	if len(watched) == len(svc.RPCs) {
		return
	}
	names := []string{"_OTHER"}
	for _, r := range svc.RPCs {
		if r.SLO == nil {
			names = append(names, r.FullName())
		}
	}
	all := served(join(of, "rpc_method=~"+oneOf(names)))
	d.section("RPCs without an objective", "Streams stay open, and take as long as that.")
	d.add(7,
		graph(8, "Calls", "reqps", "_OTHER is what no contract has.", line{all.rate("rpc_method"), "{{rpc_method}}"}),
		graph(8, "Failed", "percentunit", "Share that failed by the service's fault.", line{all.failed("rpc_method"), "{{rpc_method}}"}),
		graph(8, "p99", "s", "How long until the last message.", line{all.within(0.99, "rpc_method"), "{{rpc_method}}"}).traced(),
	)
}

// callerRow is the service as its callers see it.
func callerRow(d *dashboard, s *contract.Shop, name string) {
	seen := made(fmt.Sprintf("server_address=%q", name))
	once := made(join(seen.Of, short(s)))
	d.section("As its callers see it", "From the metrics of the callers. What is not in the rows above is lost or repeated on the way: see the dashboard of the mesh.")
	d.add(7,
		graph(8, "Calls", "reqps", "By caller.", line{seen.rate("service_name"), "{{service_name}}"}),
		graph(8, "Failed", "percentunit", "Share that failed, wherever: the service, the way there, the time that the caller had.", line{seen.failed("service_name"), "{{service_name}}"}),
		graph(8, "p99", "s", "The way there and back, and repetitions, included.", line{once.within(0.99, "service_name"), "{{service_name}}"}).traced(),
	)
}

// calleeRow is what the service waits for.
func calleeRow(d *dashboard, s *contract.Shop, of string) {
	once := made(join(of, short(s)))
	d.section("What it calls", "From its own metrics, as a client.")
	d.add(7,
		graph(6, "Calls", "reqps", "By the service that is called.", line{made(of).rate("server_address"), "{{server_address}}"}),
		graph(6, "Failed", "percentunit", "Share that failed.", line{made(of).failed("server_address"), "{{server_address}}"}),
		graph(6, "p99", "s", "How long it waits.", line{once.within(0.99, "server_address"), "{{server_address}}"}).traced(),
		states(6, "Breakers", "The worst of its replicas.", breakerText, breakerTint, line{most("circuit_breaker_state", of, "target"), "{{target}}"}),
	)
}

// routeRow is the edge, which has no contract of its own.
func routeRow(d *dashboard, s *contract.Shop, of string) {
	once := rest(join(of, shortRoutes(s)))
	d.section("REST", "What people and programs outside see.")
	d.add(8,
		graph(6, "Requests", "reqps", "By route.", line{rest(of).rate("http_route"), "{{http_route}}"}),
		graph(6, "Answers", "reqps", "By status.", line{rest(of).rate("http_response_status_code"), "{{http_response_status_code}}"}).stacked(),
		graph(6, "5xx", "percentunit", "Share of the requests, by route.", line{rest(of).failed("http_route"), "{{http_route}}"}),
		graph(6, "p99", "s", "By route, streams left out.", line{once.within(0.99, "http_route"), "{{http_route}}"}).traced(),
	)
}

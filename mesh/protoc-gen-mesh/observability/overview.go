package observability

import (
	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/contract"
)

// boards are all dashboards: three of the whole shop, and one for each service.
func boards(s *contract.Shop, watched []rpc) []*dashboard {
	out := []*dashboard{overview(s), saga(s), meshes(s)}
	for _, account := range s.Accounts() {
		var own []rpc
		for _, r := range watched {
			if r.Host == account {
				own = append(own, r)
			}
		}
		out = append(out, service(s, account, own))
	}
	return out
}

var (
	untilZero   = []step{from(0, "orange"), from(0.25, "green")} // of a budget that is left
	anyIsBad    = []step{from(1, "red")}
	manyAreBad  = []step{from(100, "orange"), from(1000, "red")}
	breakerText = []string{"closed", "half-open", "open"}
	breakerTint = []string{"green", "orange", "red"}
)

func overview(s *contract.Shop) *dashboard {
	d := newDashboard("overview", "Shop: overview", "All services on one page.", s.Runbook)
	unary := short(s)
	d.section("Now", "")
	d.add(4,
		figure(4, "REST requests", "reqps", "What comes to the edge.", "blue", nil, line{rest("").rate(), "requests"}),
		figure(4, "of them answered 5xx", "percentunit", "By the edge's own account.", "green", []step{from(0.001, "orange"), from(0.01, "red")}, line{rest("").failed(), "5xx"}),
		figure(4, "Orders decided", "short", "In the time that is shown.", "blue", nil, line{"sum by (order_state) (increase(orders_decided_total[$__range]))", "{{order_state}}"}),
		figure(4, "Breakers open", "short", "How many callers have given up on how many services for now.", "green", anyIsBad, line{"count(circuit_breaker_state == 2) or vector(0)", "open"}),
		figure(4, "Orders under way", "short", "Orders that a saga works at.", "green", manyAreBad, line{"sum(" + most("saga_orders", "", "saga_step") + ")", "orders"}),
		figure(4, "Events waiting", "short", "Events that are committed and not yet with the broker.", "green", manyAreBad, line{"sum(" + most("outbox_waiting", "", "service_name") + ")", "events"}),
	)
	d.section("Objectives", "")
	d.add(10,
		table(10, "Budget left", "percentunit", "What is left of the bad calls that 30 days may have. 100 %: all of it; below 0: the promise of the contract is broken. From the rule slo:budget_left:ratio30d.", "red", untilZero, "sort(slo:budget_left:ratio30d)"),
		graph(8, "Budgets that burn", "short", "How many times as fast as allowed the budget goes, over an hour. 1 uses it up in 30 days, 14.4 in 50 hours and wakes someone.",
			line{"topk(10, slo:bad:ratio_rate1h / on (service_name, rpc_method, slo) (1 - slo:objective:ratio))", "{{rpc_method}} {{slo}}"}).limit(burnLimits()...),
		table(6, "Alerts", "", "Alerts that fire or are about to, by Prometheus.", "red", nil, `sum by (alertname, service_name, severity, alertstate) (ALERTS)`),
	)
	d.section("Services", "From the processes' own metrics; streams are left out of the times, as they stay open.")
	d.add(8,
		graph(8, "Calls", "reqps", "gRPC calls that each service answers.", line{served("").rate("service_name"), "{{service_name}}"}),
		graph(8, "Failed", "percentunit", "Share of the calls that failed by the service's fault: "+failures+".", line{served("").failed("service_name"), "{{service_name}}"}),
		graph(8, "p50 and p99", "s", "How long an answer takes.",
			line{served(unary).within(0.5, "service_name"), "{{service_name}} p50"}, line{served(unary).within(0.99, "service_name"), "{{service_name}} p99"}).traced(),
	)
	d.add(8,
		graph(8, "REST by status", "reqps", "Answers of the edge.", line{rest("").rate("http_response_status_code"), "{{http_response_status_code}}"}).stacked(),
		graph(8, "REST, p99 by route", "s", "How long people wait, streams left out.", line{rest(shortRoutes(s)).within(0.99, "http_route"), "{{http_route}}"}).traced(),
		states(8, "Breakers", "Each caller's for each service that it calls, the worst of its replicas.", breakerText, breakerTint,
			line{most("circuit_breaker_state", "", "service_name", "target"), "{{service_name}} to {{target}}"}),
	)
	d.section("Orders and events", "")
	d.add(8,
		graph(8, "Orders by outcome", "short", "Decided in a minute.", line{"60 * sum by (order_state) (rate(orders_decided_total[$__rate_interval]))", "{{order_state}}"}).stacked(),
		graph(8, "Age of the oldest order under way", "s", "By the step of the saga. A step takes milliseconds.", line{most("saga_age_seconds", "", "saga_step"), "{{saga_step}}"}),
		graph(8, "Age of the oldest event waiting", "s", "By service. The outbox publishes at once while the broker is there.", line{most("outbox_age_seconds", "", "service_name"), "{{service_name}}"}),
	)
	return d
}

// burnLimits are the factors at which alerts fire.
func burnLimits() []step {
	out := make([]step, 0, len(burns))
	for i := len(burns) - 1; i >= 0; i-- {
		color := "red"
		if burns[i].Severity == "ticket" {
			color = "orange"
		}
		out = append(out, from(burns[i].Factor, color))
	}
	return out
}

package observability

import "github.com/meshmart/meshmart/mesh/protoc-gen-mesh/contract"

// saga is the dashboard of what the shop is for: orders, money, and the events
// that keep the services of one mind.
func saga(s *contract.Shop) *dashboard {
	d := newDashboard("saga", "Shop: orders", "What becomes of orders, step by step.", s.Runbook)
	sum := func(metric, by string) string { return "sum by (" + by + ") (increase(" + metric + "[$__range]))" }
	perMinute := func(metric, by string) string {
		return "60 * sum by (" + by + ") (rate(" + metric + "[$__rate_interval]))"
	}
	d.section("Outcome", "From the order service. An order that is cancelled after its completion counts as both.")
	d.add(8,
		figure(6, "Orders", "short", "In the time that is shown.", "blue", nil, line{sum("orders_decided_total", "order_state"), "{{order_state}}"}),
		graph(9, "Orders by outcome", "short", "A minute.", line{perMinute("orders_decided_total", "order_state"), "{{order_state}}"}).stacked(),
		graph(9, "Why not", "short", "Reasons of those that are not COMPLETED, a minute. OUT_OF_STOCK and declined cards are the customers'; *_UNAVAILABLE is ours.",
			line{perMinute(`orders_decided_total{order_state!="COMPLETED"}`, "order_reason"), "{{order_reason}}"}).stacked(),
	)
	d.section("Under way", "From the database of the order service: all replicas tell of the same orders.")
	d.add(8,
		graph(8, "Orders at each step", "short", "RESERVE and AUTHORIZE lead to the decision, COMPLETE waits for stock and money to be taken, UNDO_PAYMENT and UNDO_STOCK take back.", line{most("saga_orders", "", "saga_step"), "{{saga_step}}"}).stacked(),
		graph(8, "Oldest at each step", "s", "How long the first order has been where it is. The line is that of the alert.", line{most("saga_age_seconds", "", "saga_step"), "{{saga_step}}"}).limit(from(180, "red")),
		graph(8, "Calls of the saga", "s", "p99 of what the order service waits for: prices, stock, payment, taking back.", line{made(`service_name="order"`).within(0.99, "rpc_method"), "{{rpc_method}}"}).traced(),
	)
	d.section("Money", "From the payment service: entries of its ledger, in units of their currency. Over a long time CAPTURE is AUTHORIZE less VOID.")
	d.add(8,
		figure(8, "Moved", "short", "In the time that is shown.", "blue", nil, line{sum("payments_money_total", "payment_currency, payment_entry"), "{{payment_entry}} {{payment_currency}}"}),
		graph(16, "By currency and entry", "short", "A minute.", line{perMinute("payments_money_total", "payment_currency, payment_entry"), "{{payment_entry}} {{payment_currency}}"}),
	)
	d.section("Events", "An order completes by events: order.confirmed goes out, payment and inventory answer. What waits here waits there.")
	d.add(8,
		graph(8, "Outbox: waiting", "short", "Events that are committed and not yet with the broker, by service.", line{most("outbox_waiting", "", "service_name"), "{{service_name}}"}),
		graph(8, "Outbox: age of the oldest", "s", "The line is that of the alert.", line{most("outbox_age_seconds", "", "service_name"), "{{service_name}}"}).limit(from(30, "red")),
		graph(8, "Inbox: duplicates", "short", "Events a minute that came again after they had taken effect, and were dropped. Some come with every crash.", line{perMinute("inbox_duplicates_total", "messaging_consumer_group_name"), "{{messaging_consumer_group_name}}"}),
	)
	return d
}

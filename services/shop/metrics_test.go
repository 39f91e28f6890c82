package shop

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestMetricsTellWhatTheShopDid places one order and finds it on /metrics.
func TestMetricsTellWhatTheShopDid(t *testing.T) {
	eachEngine(t, func(t *testing.T, databases map[string]string) {
		m := open(t, t.TempDir(), databases)
		token, id := m.customer(), m.product(5)
		order := m.must("POST", "/v1/orders", token, orderOf(id, 2, "tok_visa"))
		order = m.await(token, order["id"].(string), "COMPLETED")
		total := order["total"].(object)
		units, _ := strconv.ParseFloat(fmt.Sprint(total["units"]), 64)
		nanos, _ := strconv.ParseFloat(fmt.Sprint(total["nanos"]), 64)
		want := map[string]float64{
			`orders_decided_total{order_reason="",order_state="COMPLETED",service_name="order"}`:                                              1,
			fmt.Sprintf(`payments_money_total{payment_currency="%s",payment_entry="CAPTURE",service_name="payment"}`, total["currency_code"]): units + nanos/1e9,
		}
		for _, step := range []string{"RESERVE", "AUTHORIZE", "COMPLETE", "UNDO_PAYMENT", "UNDO_STOCK"} {
			want[fmt.Sprintf(`saga_orders{saga_step="%s",service_name="order"}`, step)] = 0
			want[fmt.Sprintf(`saga_age_seconds{saga_step="%s",service_name="order"}`, step)] = 0
		}
		for _, service := range []string{"order", "payment", "inventory", "product", "user"} {
			want[fmt.Sprintf(`outbox_waiting{service_name="%s"}`, service)] = 0 // soon: the relay publishes at once
			want[fmt.Sprintf(`outbox_age_seconds{service_name="%s"}`, service)] = 0
		}
		got := m.awaitMetrics(want)
		if _, ok := got["go_goroutines"]; !ok {
			t.Error("the process's own metrics are not there, or are a service's")
		}
		for _, service := range []string{"order", "payment", "inventory"} {
			// A slow machine may see some; the series is there before the first one.
			if _, ok := got[fmt.Sprintf(`inbox_duplicates_total{messaging_consumer_group_name="%s",service_name="%s"}`, service, service)]; !ok {
				t.Errorf("duplicates of %s are not counted", service)
			}
		}
		for _, service := range []string{"order", "payment", "inventory", "product", "user"} {
			used, most := 0.0, 0.0
			for name, v := range got {
				if strings.Contains(name, `service_name="`+service+`"`) {
					switch {
					case strings.HasPrefix(name, "db_client_connection_count{"):
						used += v
					case strings.HasPrefix(name, "db_client_connection_max{"):
						most += v
					}
				}
			}
			if used < 1 || most < used {
				t.Errorf("%s has %v of %v connections open", service, used, most)
			}
		}
		m.wantBoundedTrace(order["trace_id"].(string))
	})
}

// awaitMetrics waits until /metrics has the values, and returns all that it has.
func (m *market) awaitMetrics(want map[string]float64) map[string]float64 {
	m.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		got := m.metrics()
		var wrong []string
		for _, name := range slices.Sorted(maps.Keys(want)) {
			if v, ok := got[name]; !ok || v < want[name]-1e-9 || v > want[name]+1e-9 {
				wrong = append(wrong, fmt.Sprintf("%s: got %v (there: %v), want %v", name, v, ok, want[name]))
			}
		}
		if len(wrong) == 0 {
			return got
		}
		if time.Now().After(deadline) {
			m.t.Fatal(strings.Join(wrong, "\n"))
		}
	}
}

// metrics returns the samples of /metrics.
func (m *market) metrics() map[string]float64 {
	m.t.Helper()
	resp, err := m.http.Get(m.base + "/metrics")
	if err != nil {
		m.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 {
		m.t.Fatal(resp.Status, err)
	}
	got := map[string]float64{}
	for line := range strings.Lines(string(body)) {
		line = strings.TrimSpace(line)
		name, value := line[:max(0, strings.LastIndexByte(line, ' '))], line[strings.LastIndexByte(line, ' ')+1:]
		if v, err := strconv.ParseFloat(value, 64); err == nil && !strings.HasPrefix(line, "#") {
			got[name] = v
		}
	}
	return got
}

// wantBoundedTrace expects the statements of all services in a trace that the
// console still shows as a whole.
func (m *market) wantBoundedTrace(id string) {
	m.t.Helper()
	all, statements := 0, map[string]int{}
	for _, s := range m.spans.GetSpans() {
		if s.SpanContext.TraceID().String() != id {
			continue
		}
		all++
		for _, a := range s.Attributes {
			if a.Key == "db.query.summary" {
				statements[a.Value.AsString()]++
			}
		}
	}
	n := 0
	for _, times := range statements {
		n += times
	}
	m.t.Logf("figure: the trace of one order has %d spans, %d of them statements and commits", all, n)
	for _, want := range []string{"INSERT orders", "INSERT outbox", "INSERT inbox", "INSERT ledger", "COMMIT"} {
		if statements[want] == 0 {
			m.t.Errorf("the trace has no %s; it has %v", want, statements)
		}
	}
	if all > maxSpans/2 {
		m.t.Errorf("%d spans; the console shows %d of a trace", all, maxSpans)
	}
}

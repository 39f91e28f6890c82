package observability

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// story is what Prometheus sees over some time, and what becomes of one alert.
type story struct {
	name  string
	alert string
	// series are those that are scraped, as promtool's tests write them: one
	// value for each interval.
	series string
	// fires is when the alert begins to fire; 0 for never.
	fires time.Duration
	// ends is when it no longer does; 0 for not at all.
	ends time.Duration
}

const (
	replica = `job="meshmart",instance="10.0.0.1:9100",service_name="order"`
	client  = `rpc_client_call_duration_seconds_count{` + replica + `,server_address="inventory",rpc_method="inventory.v1.InventoryService/Reserve",rpc_response_status_code=`
	pool    = replica + `,db_client_connection_pool_name="all"`
)

// A minute is two intervals: 0x20 are 21 values, of ten minutes.
var stories = []story{
	{"an order does not move", "SagaStuck", `saga_age_seconds{` + replica + `,saga_step="RESERVE"} 0+30x20`, 4*time.Minute + 30*time.Second, 0},
	{"a service is out for its two minutes", "SagaStuck", `saga_age_seconds{` + replica + `,saga_step="RESERVE"} 0+30x4 0x10`, 0, 0},
	{"a step goes on in the end", "SagaStuck", `saga_age_seconds{` + replica + `,saga_step="UNDO_STOCK"} 0+30x20 0x10`, 4*time.Minute + 30*time.Second, 10*time.Minute + 30*time.Second},

	{"the broker is away", "OutboxLag", `outbox_age_seconds{` + replica + `} 0+30x20`, 3 * time.Minute, 0},
	{"the broker is away for a minute", "OutboxLag", `outbox_age_seconds{` + replica + `} 0+30x3 0x10`, 0, 0},

	{"events come again and again", "DuplicatesRising", `inbox_duplicates_total{` + replica + `,messaging_consumer_group_name="order"} 0+10x100`, 20*time.Minute + 30*time.Second, 0},
	{"a crash has some come again", "DuplicatesRising", `inbox_duplicates_total{` + replica + `,messaging_consumer_group_name="order"} 0x10 90x100`, 0, 0},

	{"a fifth gets through to nobody", "ServiceUnreachable", client + `"OK"} 0+80x60
		` + client + `"UNAVAILABLE"} 0+20x60`, 2*time.Minute + 30*time.Second, 0},
	{"a fifth got through to nobody", "ServiceUnreachable", client + `"OK"} 0+80x60
		` + client + `"UNAVAILABLE"} 0+20x20 400x40`, 2*time.Minute + 30*time.Second, 12*time.Minute + 30*time.Second},
	{"one of two, once", "ServiceUnreachable", client + `"OK"} 0x10 1x40
		` + client + `"UNAVAILABLE"} 0x10 1x40`, 0, 0},
	{"some of many", "ServiceUnreachable", client + `"OK"} 0+95x60
		` + client + `"UNAVAILABLE"} 0+5x60`, 0, 0},
	{"refusals are answers", "ServiceUnreachable", client + `"FAILED_PRECONDITION"} 0+100x60`, 0, 0},

	{"the target stays out", "BreakerOpen", `circuit_breaker_state{` + replica + `,target="payment"} 0 2 2 1 2 2 2 1 2 2 2 2 2 2 2 2 2 2 2 2 2 2`, 7 * time.Minute, 0},
	{"the target comes back", "BreakerOpen", `circuit_breaker_state{` + replica + `,target="payment"} 0 2x20 0x20`, 7 * time.Minute, 11 * time.Minute},
	{"nobody calls after an outage", "BreakerOpen", `circuit_breaker_state{` + replica + `,target="payment"} 0 2 1x60`, 0, 0},

	{"the last replica goes", "ServiceGone", `process_start_time_seconds{` + replica + `} 1x10 stale _x20`, 7*time.Minute + 30*time.Second, 0},
	{"one of two goes", "ServiceGone", `process_start_time_seconds{` + replica + `} 1x10 stale
		process_start_time_seconds{job="meshmart",instance="10.0.0.2:9100",service_name="order"} 1x40`, 0, 0},
	{"the last one is replaced", "ServiceGone", `process_start_time_seconds{` + replica + `} 1x10 stale _x2 2x40`, 0, 0},
	{"a process without a service", "ServiceGone", `process_start_time_seconds{job="prometheus",instance="localhost:9090"} 1x10 stale _x20`, 0, 0},

	{"a target hangs", "TargetDown", `up{job="meshmart",instance="10.0.0.1:9100"} 1 0x20 1x5`, 5*time.Minute + 30*time.Second, 11 * time.Minute},
	{"a target is replaced", "TargetDown", `up{job="meshmart",instance="10.0.0.1:9100"} 1 0x5 stale _x20`, 0, 0},

	{"a process ends again and again", "RestartLoop", `process_start_time_seconds{` + replica + `} 1x4 2x4 3x4 4x4`, 7*time.Minute + 30*time.Second, 0},
	{"a process is deployed twice", "RestartLoop", `process_start_time_seconds{` + replica + `} 1x4 2x4 3x30`, 0, 0},

	{"all connections are in use", "PoolExhausted", `db_client_connection_count{` + pool + `,db_client_connection_state="used"} 4 10x20
		db_client_connection_count{` + pool + `,db_client_connection_state="idle"} 6 0x20
		db_client_connection_max{` + pool + `} 10x21`, 5*time.Minute + 30*time.Second, 0},
	{"most are idle", "PoolExhausted", `db_client_connection_count{` + pool + `,db_client_connection_state="used"} 2x40
		db_client_connection_count{` + pool + `,db_client_connection_state="idle"} 8x40
		db_client_connection_max{` + pool + `} 10x40`, 0, 0},

	{"there is no bucket", "ObjectiveNotMeasured", `slo:calls:rate5m{` + replica + `,slo="latency"} 1x40`, 15 * time.Minute, 0},
	{"there is one", "ObjectiveNotMeasured", `slo:calls:rate5m{` + replica + `,slo="latency"} 1x40
		slo:bad:rate5m{` + replica + `,slo="latency"} 0x40`, 0, 0},
	{"nobody calls", "ObjectiveNotMeasured", `slo:calls:rate5m{` + replica + `,slo="latency"} 0x40`, 0, 0},
}

func TestWrittenAlerts(t *testing.T) {
	for _, s := range stories {
		t.Run(s.alert+", "+s.name, func(t *testing.T) {
			p := start(t, written)
			var fires, ends time.Duration
			var values [][]parser.SequenceValue
			var ls []labels.Labels
			for line := range strings.Lines(s.series) {
				l, v, err := promQL.ParseSeriesDesc(strings.TrimSpace(line))
				if err != nil {
					t.Fatal(err)
				}
				ls, values = append(ls, l), append(values, v)
			}
			intervals := len(slices.MaxFunc(values, func(a, b []parser.SequenceValue) int { return len(a) - len(b) }))
			begin := time.Unix(1_800_000_000, 0)
			for i := range intervals {
				at := time.Duration(i) * interval
				p.append(begin.Add(at), sampled(ls, values, i))
				p.evaluate(begin.Add(at))
				is := slices.ContainsFunc(p.firing(), func(l labels.Labels) bool { return l.Get(labels.AlertName) == s.alert })
				switch {
				case is && fires == 0:
					fires = at
				case !is && fires > 0 && ends == 0:
					ends = at
				}
			}
			if fires != s.fires || ends != s.ends {
				t.Errorf("fires after %v and ends after %v, want %v and %v", fires, ends, s.fires, s.ends)
			}
		})
	}
}

// sampled are the values of one interval.
func sampled(ls []labels.Labels, values [][]parser.SequenceValue, i int) []series {
	var out []series
	for j, l := range ls {
		if i < len(values[j]) && !values[j][i].Omitted {
			out = append(out, series{l, values[j][i].Value})
		}
	}
	return out
}

// Every alert that is written by hand has a story in which it fires, and one in
// which it must not.
func TestEveryWrittenAlertHasItsStories(t *testing.T) {
	for _, r := range start(t, written).alerts() {
		var fires, not bool
		for _, s := range stories {
			fires = fires || s.alert == r.Name() && s.fires > 0
			not = not || s.alert == r.Name() && s.fires == 0
		}
		if !fires || !not {
			t.Errorf("%s: a story in which it fires %v, one in which it does not %v", r.Name(), fires, not)
		}
	}
}

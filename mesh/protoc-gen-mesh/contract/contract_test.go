package contract

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
)

func TestContractIsReadAsItIsWritten(t *testing.T) {
	s, err := read(t, shopOf())
	if err != nil {
		t.Fatal(err)
	}
	if got, want := s.Accounts(), []string{"gateway", "order", "stock"}; !cmp.Equal(got, want) {
		t.Errorf("accounts: got %q, want %q", got, want)
	}
	r := s.Service("stock").RPCs[0]
	if r.Path() != "/stock.v1.Stock/Reserve" || r.Source.String() != "proto/stock/v1/stock.proto:10" || r.Name() != "stock-reserve" {
		t.Errorf("got %s, %s, %s", r.Path(), r.Source, r.Name())
	}
	want := &Retry{Attempts: 2, PerTry: 600 * time.Millisecond, On: []codes.Code{codes.Unavailable}}
	if diff := cmp.Diff(r.Retry, want); diff != "" || r.Timeout != 2*time.Second || !r.Idempotent || r.ReadOnly {
		t.Errorf("%v, %v: %s", r.Timeout, r.Idempotent, diff)
	}
	if got := s.Callees("gateway"); len(got) != 2 || got[0].Host != "order" {
		t.Errorf("the gateway calls %v", got)
	}
	if w := s.Service("order").RPCs[1]; w.Timeout != 0 || !w.Streaming() || !w.NeedsToken() || w.NeedsAdmin() {
		t.Errorf("got %+v", w)
	}
	if got, want := s.Service("order").RPCs[0].Routes, []Route{{"GET", "/v1/orders"}}; !cmp.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// Each of these is refused with one line, which names the file, the line, the
// RPC and what is wrong.
func TestWrongPoliciesAreRefused(t *testing.T) {
	create := `callers: "gateway" access: ACCESS_USER timeout {seconds: 5} `
	reserve := `callers: "order" access: ACCESS_INTERNAL timeout {seconds: 2} `
	keys := `callers: "gateway" access: ACCESS_PUBLIC timeout {seconds: 1} `
	try := `per_try_timeout {nanos: 100000000}`
	for name, c := range map[string]struct {
		method string
		edit   func(*method)
		want   string
	}{
		"no policy":              {"Watch", policy("-"), "no policy: declare (mesh.v1.method)"},
		"no access":              {"Watch", policy(`callers: "gateway"`), "no access"},
		"unknown access":         {"Watch", policy(`callers: "gateway" access: 9`), "no access"},
		"no callers":             {"Watch", policy(`access: ACCESS_USER`), "no callers"},
		"unknown caller":         {"Watch", policy(`callers: "gatway" access: ACCESS_USER`), `the caller "gatway" does not exist: there are gateway, order, stock`},
		"caller twice":           {"Watch", policy(`callers: "gateway" callers: "gateway" access: ACCESS_USER`), `the caller "gateway" is there twice`},
		"internal with a route":  {"Reserve", func(m *method) { m.get = "/v1/x" }, "access is internal, and yet it has the public route GET /v1/x"},
		"unary without timeout":  {"Create", policy(`callers: "gateway" access: ACCESS_USER`), "no timeout"},
		"negative timeout":       {"Watch", policy(`callers: "gateway" access: ACCESS_USER timeout {seconds: -1}`), "no timeout"},
		"timeout in micros":      {"Watch", policy(`callers: "gateway" access: ACCESS_USER timeout {nanos: 1500000}`), "less than whole milliseconds"},
		"retry unsafe":           {"Reserve", func(m *method) { m.level = 0 }, "retry without idempotency_level"},
		"retry on a stream":      {"Watch", policy(create + `retry {attempts: 1 ` + try + `}`), "retry on a stream"},
		"no attempts":            {"Reserve", policy(reserve + `retry {` + try + `}`), "retry with 0 attempts: 1 to 4"},
		"too many attempts":      {"Reserve", policy(reserve + `retry {attempts: 5 ` + try + `}`), "retry with 5 attempts: 1 to 4"},
		"no per_try_timeout":     {"Reserve", policy(reserve + `retry {attempts: 1}`), "retry without per_try_timeout"},
		"per_try over timeout":   {"Reserve", policy(reserve + `retry {attempts: 1 per_try_timeout {seconds: 3}}`), "per_try_timeout 3s is longer than timeout 2s"},
		"attempts over timeout":  {"Reserve", policy(reserve + `retry {attempts: 2 per_try_timeout {seconds: 1}}`), "3 attempts of 1s do not fit into timeout 2s"},
		"retry on cancelled":     {"Reserve", policy(reserve + `retry {attempts: 1 on: CANCELLED ` + try + `}`), "retry on Canceled: the caller has given up"},
		"retry on exhausted":     {"Keys", policy(keys + `retry {attempts: 1 on: RESOURCE_EXHAUSTED ` + try + `}`), "retry on ResourceExhausted: more calls would make it worse"},
		"retry on unknown":       {"Keys", policy(keys + `retry {attempts: 1 on: UNKNOWN ` + try + `}`), "retry on Unknown: it is an answer"},
		"change on deadline":     {"Reserve", policy(reserve + `retry {attempts: 1 on: DEADLINE_EXCEEDED ` + try + `}`), "retry on DeadlineExceeded: something may have happened"},
		"rate of nothing":        {"Keys", policy(keys + `rate {burst: 1}`), "rate 0 per second, burst 1"},
		"negative rate":          {"Keys", policy(keys + `rate {per_second: -1 burst: 1}`), "rate -1 per second"},
		"rate that is no number": {"Keys", policy(keys + `rate {per_second: nan burst: 1}`), "rate NaN per second"},
		"no burst":               {"Keys", policy(keys + `rate {per_second: 1}`), "burst 0"},
		"slo of everything":      {"Keys", policy(keys + `slo {availability: 1}`), "slo with availability 1"},
		"slo of nothing":         {"Keys", policy(keys + `slo {}`), "slo with availability 0"},
		"latency of no share":    {"Keys", policy(keys + `slo {availability: 0.9 latency {seconds: 1}}`), "slo with latency 1s for the share 0"},
		"share of no latency":    {"Keys", policy(keys + `slo {availability: 0.9 latency_quantile: 0.9}`), "slo with latency 0s for the share 0.9"},
		"call of nothing":        {"Create", policy(create + `calls: "stock.v1.Stock/No"`), "calls stock.v1.Stock/No, which does not exist"},
		"call not allowed":       {"Create", policy(create + `calls: "stock.v1.Stock/Keys"`), `calls stock.v1.Stock/Keys (proto/stock/v1/stock.proto:20), which does not have "order" among its callers`},
		"call takes too long":    {"Create", policy(`callers: "gateway" access: ACCESS_USER timeout {seconds: 1} calls: "stock.v1.Stock/Reserve"`), "timeout 1s is shorter than those of the calls that it makes, together 2s"},
		"two calls too long":     {"Create", policy(`callers: "gateway" access: ACCESS_USER timeout {seconds: 3} calls: "stock.v1.Stock/Reserve" calls: "stock.v1.Stock/Reserve"`), "together 4s"},
		"call of itself":         {"Create", policy(`callers: "order" access: ACCESS_USER timeout {seconds: 5} calls: "order.v1.Order/Create"`), "calls order.v1.Order/Create, which calls back"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := read(t, change(c.method, c.edit))
			if err == nil {
				t.Fatal("not refused")
			}
			at := map[string]string{
				"Create": "proto/order/v1/order.proto:10: order.v1.Order/Create: ", "Watch": "proto/order/v1/order.proto:20: order.v1.Order/Watch: ",
				"Reserve": "proto/stock/v1/stock.proto:10: stock.v1.Stock/Reserve: ", "Keys": "proto/stock/v1/stock.proto:20: stock.v1.Stock/Keys: ",
			}[c.method]
			line, _, more := strings.Cut(err.Error(), "\n")
			if !strings.HasPrefix(line, at) || !strings.Contains(line, c.want) || more {
				t.Errorf("got %q, want %q", err, at+c.want)
			}
		})
	}
}

func policy(text string) func(*method) { return func(m *method) { m.policy = text } }

func TestCallOfAnEndlessStreamIsRefused(t *testing.T) {
	shop := change("Create", policy(`callers: "gateway" access: ACCESS_USER timeout {seconds: 5} calls: "stock.v1.Stock/Keys"`))
	shop[1].methods[1].policy, shop[1].methods[1].stream = `callers: "gateway" callers: "order" access: ACCESS_PUBLIC`, true
	wantOnly(t, shop, "proto/order/v1/order.proto:10: order.v1.Order/Create: calls stock.v1.Stock/Keys, which has no timeout, within 5s")
}

func TestHostsAreOneService(t *testing.T) {
	shop := shopOf()
	shop[1].policy = `host: "order" port: 9090`
	shop[1].methods[0].policy = strings.Replace(shop[1].methods[0].policy, "ACCESS_INTERNAL", "ACCESS_PUBLIC", 1)
	wantOnly(t, shop, `proto/stock/v1/stock.proto:5: stock.v1.Stock: the host "order" is that of order.v1.Order, port 9090`)
	shop = shopOf()
	shop = append(shop, &service{name: "stock.v1.More", policy: `host: "stock" port: 9090`})
	s, err := read(t, shop)
	if err != nil || len(s.Service("stock").Names) != 2 {
		t.Errorf("two services of one package: %v", err)
	}
	shop[2].policy = `host: "stock" port: 9091`
	wantOnly(t, shop, `proto/stock/v1/more.proto:5: stock.v1.More: the host "stock" is that of stock.v1.Stock, port 9090`)
	shop[2].policy = "-"
	wantOnly(t, shop, "proto/stock/v1/more.proto:5: stock.v1.More: no policy: declare (mesh.v1.service) with a host and a port")
}

// All that is wrong is said at once, in the order of the files.
func TestAllProblemsAreReported(t *testing.T) {
	shop := change("Watch", policy("-"))
	shop[1].methods[0].level = 0
	shop[1].methods[1].policy = `callers: "nobody"`
	wantOnly(t, shop,
		"proto/order/v1/order.proto:20: order.v1.Order/Watch: no policy: declare (mesh.v1.method)",
		"proto/stock/v1/stock.proto:10: stock.v1.Stock/Reserve: retry without idempotency_level: a repetition might act twice",
		"proto/stock/v1/stock.proto:20: stock.v1.Stock/Keys: no access: say on whose behalf it may be called",
		`proto/stock/v1/stock.proto:20: stock.v1.Stock/Keys: the caller "nobody" does not exist: there are gateway, order, stock`,
		"proto/stock/v1/stock.proto:20: stock.v1.Stock/Keys: no timeout: every unary RPC has to be answered in time",
		"option keys=/keys: no public RPC has the route GET /keys")
}

func TestReadsMayBeRepeatedOnMore(t *testing.T) {
	shop := change("Keys", policy(`callers: "gateway" access: ACCESS_PUBLIC timeout {seconds: 1} retry {attempts: 1 per_try_timeout {nanos: 1000000} on: UNAVAILABLE on: DEADLINE_EXCEEDED on: INTERNAL}`))
	s, err := read(t, shop)
	if err != nil {
		t.Fatal(err)
	}
	want := []codes.Code{codes.DeadlineExceeded, codes.Internal, codes.Unavailable}
	if got := s.Service("stock").RPCs[1].Retry.On; !cmp.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func wantOnly(t *testing.T, shop []*service, want ...string) {
	t.Helper()
	_, err := read(t, shop)
	if err == nil {
		t.Fatalf("not refused, want %q", want)
	}
	if diff := cmp.Diff(strings.Split(err.Error(), "\n"), want); diff != "" {
		t.Errorf("got-want: %s", diff)
	}
}

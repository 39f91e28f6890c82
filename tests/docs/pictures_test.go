package docs

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/contract"
	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/contract/contracttest"
	orderpb "github.com/meshmart/meshmart/proto/order/v1"
	"github.com/meshmart/meshmart/services/gateway"
	"github.com/meshmart/meshmart/services/greeter"
	"github.com/meshmart/meshmart/services/inventory"
	"github.com/meshmart/meshmart/services/order"
	"github.com/meshmart/meshmart/services/payment"
	"github.com/meshmart/meshmart/services/product"
	"github.com/meshmart/meshmart/services/user"
	"github.com/meshmart/meshmart/tests/follow"
)

// pictures are the blocks of a document that Mermaid draws, of one kind.
func pictures(t *testing.T, document, kind string) string {
	t.Helper()
	var all string
	for _, b := range follow.Blocks(read(t, document)) {
		if b.Language == "mermaid" && strings.HasPrefix(b.Text, kind) {
			all += b.Text
		}
	}
	if all == "" {
		t.Fatalf("%s has no %s", document, kind)
	}
	return all
}

// TestServicesCallWhomTheirContractsLet holds what each service dials to the
// contracts, from which the picture in docs/reference is made.
func TestServicesCallWhomTheirContractsLet(t *testing.T) {
	shop := contracttest.Shop(t)
	for _, s := range []struct {
		name  string
		calls []string
	}{
		{"gateway", gateway.New().Calls}, {"greeter", greeter.New().Calls}, {"inventory", inventory.New().Calls}, {"order", order.New().Calls},
		{"payment", payment.New().Calls}, {"product", product.New().Calls}, {"user", user.New().Calls},
	} {
		var let []string
		for _, callee := range shop.Callees(s.name) {
			let = append(let, callee.Host)
		}
		slices.Sort(let)
		if diff := cmp.Diff(slices.Compact(let), slices.Sorted(slices.Values(s.calls))); diff != "" {
			t.Errorf("%s (-contracts +Calls):\n%s", s.name, diff)
		}
	}
}

// A solid arrow between services: a -- text --> b & c.
var arrow = regexp.MustCompile(`(?m)^  (\w+) -- (?:"[^"]*"|\w+) --> ([\w &]+)$`)

// TestThePictureShowsTheCalls holds the picture of the README to the contracts.
func TestThePictureShowsTheCalls(t *testing.T) {
	drawn := map[string]bool{}
	services := map[string]bool{}
	for _, m := range arrow.FindAllStringSubmatch(pictures(t, "README.md", "flowchart"), -1) {
		for callee := range strings.SplitSeq(m[2], " & ") {
			drawn[m[1]+" calls "+callee] = true
			services[callee] = true
		}
	}
	want := map[string]bool{}
	for _, caller := range contracttest.Shop(t).Accounts() {
		for _, callee := range contracttest.Shop(t).Callees(caller) {
			if services[callee.Host] && !onlyKeys(callee, caller) {
				want[caller+" calls "+callee.Host] = true
			}
		}
	}
	if diff := cmp.Diff(want, drawn); diff != "" {
		t.Errorf("README.md (-contracts +picture):\n%s", diff)
	}
}

// onlyKeys tells calls that fetch the keys of tokens, which all services make.
func onlyKeys(callee *contract.Service, caller string) bool {
	for _, r := range callee.For(caller) {
		if r.Method != "GetJwks" && r.Method != "ValidateToken" {
			return false
		}
	}
	return true
}

var (
	constant = regexp.MustCompile(`(?m)^\tstep\w+\s+Step = "([A-Z_]+)"`)
	shouted  = regexp.MustCompile(`\b[A-Z][A-Z_]{3,}\b`)
)

// TestThePicturesShowTheSaga holds those of the order to its steps and states.
func TestThePicturesShowTheSaga(t *testing.T) {
	want := map[string]bool{}
	for _, m := range constant.FindAllStringSubmatch(read(t, "services/order/saga.go"), -1) {
		want[m[1]] = true
	}
	if len(want) < 5 {
		t.Fatalf("services/order/saga.go has only the steps %v", want)
	}
	states := map[string]bool{}
	for number, name := range orderpb.Order_State_name {
		if number != 0 {
			want[name], states[name] = true, true
		}
	}
	story, life := pictures(t, "docs/architecture.md", "sequenceDiagram"), pictures(t, "docs/architecture.md", "stateDiagram")
	got := map[string]bool{}
	for _, name := range shouted.FindAllString(story+life, -1) {
		got[name] = true
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("steps and states (-order +pictures):\n%s", diff)
	}
	nodes := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^  (\S+) --> ([A-Z_]+|\[\*\])`).FindAllStringSubmatch(life, -1) {
		nodes[m[1]], nodes[m[2]] = true, true
	}
	delete(nodes, "[*]")
	if diff := cmp.Diff(states, nodes); diff != "" {
		t.Errorf("states (-order +picture):\n%s", diff)
	}
}

// TestThePictureCallsAndTells holds the order's story to the contracts: who calls
// which RPC, and which events there are.
func TestThePictureCallsAndTells(t *testing.T) {
	story := pictures(t, "docs/architecture.md", "sequenceDiagram")
	names := map[string]string{"c": "gateway"}
	for _, m := range regexp.MustCompile(`participant (\w) as (\w+)`).FindAllStringSubmatch(story, -1) {
		if m[2] != "client" {
			names[m[1]] = m[2]
		}
	}
	shop := contracttest.Shop(t)
	calls := regexp.MustCompile(`(?m)^  (\w)->>(\w): (\w+)`).FindAllStringSubmatch(story, -1)
	for _, m := range calls {
		if !slices.ContainsFunc(shop.Service(names[m[2]]).For(names[m[1]]), func(r *contract.RPC) bool { return r.Method == m[3] }) {
			t.Errorf("the contracts do not let %s call %s of %s", names[m[1]], m[3], names[m[2]])
		}
	}
	told := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^  \w--\)\w: ([a-z.]+)`).FindAllStringSubmatch(story, -1) {
		told[m[1]] = true
	}
	trace := read(t, "tests/tracetree/storybook/trees/completed.tree")
	for event := range told {
		if !strings.Contains(trace, " process "+event+"\n") {
			t.Errorf("%s is in no trace of an order that is completed", event)
		}
	}
	if len(calls) < 4 || len(told) < 3 {
		t.Errorf("only the calls %v and the events %v", calls, slices.Collect(maps.Keys(told)))
	}
}

package losses

import (
	"strings"
	"testing"

	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/contract"
	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/target"
)

func document(t *testing.T, lost ...target.Loss) string {
	t.Helper()
	f, err := file(lost...)
	if err != nil {
		t.Fatal(err)
	}
	return string(f.Content)
}

var (
	one = &contract.RPC{Service: "a.A", Method: "One", Source: contract.Source{File: "proto/a.proto", Line: 7}}
	two = &contract.RPC{Service: "a.A", Method: "Two", Source: contract.Source{File: "proto/a.proto", Line: 9}}
)

func file(lost ...target.Loss) (target.File, error) {
	s := &contract.Shop{Services: []*contract.Service{{RPCs: []*contract.RPC{one, two}}}}
	mesh := target.Target{Name: "mesh", Version: "Mesh 1", Losses: func(*contract.Shop) []target.Loss { return lost }}
	return File(s, []target.Target{mesh})
}

func TestEveryLossIsSaidForEveryRPC(t *testing.T) {
	got := document(t,
		target.Loss{Policy: "rate", RPCs: []*contract.RPC{one}, Why: "It can't.", Instead: "We can."},
		target.Loss{Policy: "none", RPCs: []*contract.RPC{}, Why: "x", Instead: "y"},
		target.Loss{Policy: "probes", Why: "Why.", Instead: "So."},
		target.Loss{Policy: "slo", RPCs: []*contract.RPC{one, two}, Why: "No.", Instead: "Yes."},
	)
	for _, want := range []string{
		"## mesh\n\nMesh 1.\n",
		"| 1 | rate | 1 of 2 | It can't. | We can. |\n| 2 | probes | - | Why. | So. |\n| 3 | slo | all | No. | Yes. |\n",
		"| a.A/One | [proto/a.proto:7](../proto/a.proto#L7) | 1, 3 |\n| a.A/Two | [proto/a.proto:9](../proto/a.proto#L9) | 3 |\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

func TestLossThatDoesNotSayWhatHoldsIsRefused(t *testing.T) {
	for _, l := range []target.Loss{{Policy: "p", Why: "w"}, {Policy: "p", Instead: "i"}, {Why: "w", Instead: "i"}} {
		if _, err := file(l); err == nil {
			t.Errorf("%+v is taken", l)
		}
	}
}

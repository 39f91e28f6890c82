package grpcconfig

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/contract"
	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/contract/contracttest"
)

func generated(t *testing.T, s *contract.Shop) map[string]json.RawMessage {
	t.Helper()
	fs, err := files(s)
	if err != nil {
		t.Fatal(err)
	}
	var hosts map[string]json.RawMessage
	if err := json.Unmarshal(fs[0].Content, &hosts); err != nil {
		t.Fatal(err)
	}
	return hosts
}

// gRPC itself reads each config, and finds every RPC of the service in it.
func TestConfigsAreGRPCs(t *testing.T) {
	s := contracttest.Shop(t)
	hosts := generated(t, s)
	if got, want := len(hosts), len(s.Services)+1; got != want {
		t.Errorf("got %d members, want %d", got, want)
	}
	for _, svc := range s.Services {
		text := string(hosts[svc.Host])
		cc, err := grpc.NewClient("passthrough:///x", grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultServiceConfig(text))
		if err != nil {
			t.Fatalf("%s: %v", svc.Host, err)
		}
		cc.Close()
		for _, r := range svc.RPCs {
			if !strings.Contains(text, `"method": "`+r.Method+`"`) {
				t.Errorf("%s is missing", r.FullName())
			}
		}
	}
}

func TestPoliciesAreThoseOfTheContract(t *testing.T) {
	r := &contract.RPC{Service: "a.B", Method: "C", Host: "a", Timeout: 1500 * time.Millisecond,
		Retry: &contract.Retry{Attempts: 2, On: []codes.Code{codes.DeadlineExceeded, codes.Unavailable}}}
	s := &contract.Shop{Services: []*contract.Service{{Host: "a", RPCs: []*contract.RPC{r, {Service: "a.B", Method: "D", Host: "a"}}}}}
	var c config
	if err := json.Unmarshal(generated(t, s)["a"], &c); err != nil {
		t.Fatal(err)
	}
	once, never := c.Methods[0], c.Methods[1]
	if once.Timeout != "1.5s" || once.Retry.MaxAttempts != 3 || strings.Join(once.Retry.Codes, " ") != "DEADLINE_EXCEEDED UNAVAILABLE" {
		t.Errorf("got %+v, %+v", once, once.Retry)
	}
	if never.Timeout != "" || never.Retry != nil {
		t.Errorf("got %+v", never)
	}
	for d, want := range map[time.Duration]string{10 * time.Second: "10s", 300 * time.Millisecond: "0.3s", 100 * time.Second: "100s"} {
		if got := seconds(d); got != want {
			t.Errorf("%v: got %q, want %q", d, got, want)
		}
	}
}

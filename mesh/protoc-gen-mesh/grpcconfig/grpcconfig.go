// Package grpcconfig writes gRPC service configs, for a shop without a mesh: the
// client's side in the process then does what a mesh would do. The runtime
// reads them only then, so that no two repeat the same call.
package grpcconfig

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/contract"
	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/target"
)

const file = "services/internal/rpc/serviceconfig.gen.json"

// Target is no mesh at all.
func Target() target.Target {
	return target.Target{Name: "none", Version: "MESH=none, gRPC service config", Files: files, Losses: losses}
}

// The types are those of grpc/service_config.proto, as its JSON is written.
type (
	config struct {
		LoadBalancing []map[string]struct{} `json:"loadBalancingConfig"`
		Health        health                `json:"healthCheckConfig"`
		Throttling    throttling            `json:"retryThrottling"`
		Methods       []method              `json:"methodConfig"`
	}
	health struct {
		Service string `json:"serviceName"`
	}
	throttling struct {
		MaxTokens  int     `json:"maxTokens"`
		TokenRatio float64 `json:"tokenRatio"`
	}
	method struct {
		Source  string       `json:"//"` // not of gRPC, which reads over it
		Name    []name       `json:"name"`
		Timeout string       `json:"timeout,omitempty"`
		Retry   *retryPolicy `json:"retryPolicy,omitempty"`
	}
	name struct {
		Service string `json:"service"`
		Method  string `json:"method"`
	}
	retryPolicy struct {
		MaxAttempts int      `json:"maxAttempts"`
		Initial     string   `json:"initialBackoff"`
		Max         string   `json:"maxBackoff"`
		Multiplier  float64  `json:"backoffMultiplier"`
		Codes       []string `json:"retryableStatusCodes"`
	}
)

// files writes one object: host -> service config. The header is a member "//".
func files(s *contract.Shop) ([]target.File, error) {
	hosts := map[string]config{}
	for _, svc := range s.Services {
		hosts[svc.Host] = serviceConfig(svc)
	}
	text, err := json.MarshalIndent(hosts, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "{ %q: %q,%s\n", "//", target.Header, text[1:])
	return []target.File{{Path: file, Content: b.Bytes()}}, nil
}

func serviceConfig(svc *contract.Service) config {
	c := config{
		LoadBalancing: []map[string]struct{}{{"round_robin": {}}},
		// After 50 failures in a row nothing is repeated until calls succeed again.
		Throttling: throttling{MaxTokens: 100, TokenRatio: 0.1},
	}
	for _, r := range svc.RPCs {
		m := method{Source: r.Source.String(), Name: []name{{r.Service, r.Method}}, Retry: retry(r.Retry)}
		if r.Timeout > 0 {
			m.Timeout = seconds(r.Timeout)
		}
		c.Methods = append(c.Methods, m)
	}
	return c
}

func retry(r *contract.Retry) *retryPolicy {
	if r == nil {
		return nil
	}
	p := &retryPolicy{MaxAttempts: r.Attempts + 1, Initial: seconds(target.Backoff), Max: seconds(10 * target.Backoff), Multiplier: 2}
	for _, c := range r.On {
		p.Codes = append(p.Codes, codeName(c))
	}
	return p
}

// codeName spells the codes that a contract may repeat as gRPC's JSON does.
func codeName(c codes.Code) string {
	if c == codes.DeadlineExceeded {
		return "DEADLINE_EXCEEDED"
	}
	return strings.ToUpper(c.String())
}

// seconds is how protobuf's JSON writes a duration.
func seconds(d time.Duration) string {
	return strings.TrimRight(strings.TrimRight(fmt.Sprintf("%.3f", d.Seconds()), "0"), ".") + "s"
}

func losses(s *contract.Shop) []target.Loss {
	all := s.RPCs()
	return []target.Loss{
		{Policy: "callers", RPCs: all, Why: "A service config is about the client's side.", Instead: "The process, RPC by RPC, where services have certificates: mesh/plain/tls. Without them nothing is encrypted, NetworkPolicies tell pods and ports apart, and an INTERNAL RPC answers only to this machine unless TRUST_NETWORK is set, as mesh/plain sets it."},
		{Policy: "retry: per_try_timeout", RPCs: target.With(s, (*contract.RPC).Retried), Why: "gRPC in Go has no time limit for one attempt.", Instead: "The deadline of the call."},
		target.NoRate(s, "A service config is about the client's side."),
		target.NoSLO(s),
	}
}

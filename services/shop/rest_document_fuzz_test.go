package shop

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	meshpb "github.com/meshmart/meshmart/proto/mesh/v1"
	"github.com/meshmart/meshmart/services/internal/policy"
)

// document is the API as the shop itself describes it (OpenAPI 2).
type document struct {
	Paths       map[string]map[string]*operation
	Definitions map[string]*schema

	ops []*operation // all of them, in the order of their names
}

// operation is a method of a path.
type operation struct {
	OperationID string
	Parameters  []parameter
	Responses   map[string]struct{ Schema *schema }

	method, path string
	access       meshpb.Access // from the contract, which the document does not tell
	sends, gets  bool          // a stream of messages
}

type parameter struct {
	Name, In string
	Required bool
	Schema   *schema // of the body
	schema           // of all others
}

type schema struct {
	Ref        string `json:"$ref"`
	Type       string
	Format     string
	Enum       []string
	Items      *schema
	Properties map[string]*schema
	Required   []string
	ReadOnly   bool
	Additional *schema `json:"additionalProperties"`
}

func (o *operation) String() string { return o.method + " " + o.path }

// reply is what the document promises of a success.
func (o *operation) reply() *schema { return o.Responses["200"].Schema }

// resolve follows a reference.
func (d *document) resolve(s *schema) *schema {
	if name, ok := strings.CutPrefix(s.Ref, "#/definitions/"); ok {
		return d.Definitions[name]
	}
	return s
}

// readDocument reads the description that a shop gives of itself.
func readDocument(t testing.TB, text []byte) *document {
	t.Helper()
	d := &document{}
	if err := json.Unmarshal(text, d); err != nil {
		t.Fatalf("openapi.json: %v", err)
	}
	for _, path := range slices.Sorted(maps.Keys(d.Paths)) {
		for _, method := range slices.Sorted(maps.Keys(d.Paths[path])) {
			o := d.Paths[path][method]
			o.method, o.path = strings.ToUpper(method), path
			o.describe(t)
			d.ops = append(d.ops, o)
		}
	}
	if len(d.ops) < 30 {
		t.Fatalf("openapi.json has %d operations", len(d.ops))
	}
	return d
}

// describe adds what only the contract says.
func (o *operation) describe(t testing.TB) {
	for _, rpc := range methods() {
		if fmt.Sprintf("%s_%s", rpc.Parent().Name(), rpc.Name()) != o.OperationID {
			continue
		}
		p, ok := policy.Of("/" + rpcName(rpc))
		if !ok {
			t.Fatalf("%s: no policy", rpcName(rpc))
		}
		o.access, o.sends, o.gets = p.Access, rpc.IsStreamingClient(), rpc.IsStreamingServer()
		return
	}
	t.Fatalf("%s: no such RPC as %s", o, o.OperationID)
}

// misfit says where a value is not what a schema promises, or "".
func (d *document) misfit(s *schema, v any, at string) string {
	s = d.resolve(s)
	if s.Properties == nil && s.Ref == "" && s.Type == "" {
		return "" // anything
	}
	if v == nil && (s.Type == "object" || s.Format == "date-time") {
		return "" // not set
	}
	switch v := v.(type) {
	case map[string]any:
		return d.misfitObject(s, v, at)
	case []any:
		if s.Type != "array" {
			return at + " is an array"
		}
		for i, e := range v {
			if why := d.misfit(s.Items, e, fmt.Sprintf("%s[%d]", at, i)); why != "" {
				return why
			}
		}
		return ""
	case string:
		if s.Type != "string" || s.Enum != nil && !slices.Contains(s.Enum, v) {
			return fmt.Sprintf("%s is %q", at, v)
		}
		return ""
	case json.Number:
		if _, err := v.Int64(); s.Type != "integer" || err != nil {
			return fmt.Sprintf("%s is %v", at, v)
		}
		return ""
	case bool:
		if s.Type != "boolean" {
			return fmt.Sprintf("%s is %v", at, v)
		}
		return ""
	}
	return fmt.Sprintf("%s is %v", at, v)
}

func (d *document) misfitObject(s *schema, v map[string]any, at string) string {
	if s.Type != "object" {
		return at + " is an object"
	}
	for name, member := range v {
		p := s.Properties[name]
		if p == nil && s.Additional == nil {
			return fmt.Sprintf("%s.%s is not in the document", at, name)
		}
		if p == nil {
			continue
		}
		if why := d.misfit(p, member, at+"."+name); why != "" {
			return why
		}
	}
	return ""
}

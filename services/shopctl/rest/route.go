package rest

import (
	"fmt"
	"net/url"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/meshmart/meshmart/services/internal/policy"
)

// route is how an RPC is called over HTTP, and its policy, as its contract has
// them (google.api.http and mesh.v1).
type route struct {
	*policy.Policy
	verb, path     string // "GET", "/v1/orders/{id}"
	body, response string // the fields that the bodies hold; "" and "*" as in google.api.http
}

// routeOf finds the route of a full method, such as "/order.v1.OrderService/GetOrder".
func routeOf(method string) (*route, error) {
	p, ok := policy.Of(method)
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(strings.ReplaceAll(strings.TrimPrefix(method, "/"), "/", ".")))
	if !ok || err != nil {
		return nil, fmt.Errorf("%s has no contract: %w", method, err)
	}
	binding, ok := policy.HTTP(d.(protoreflect.MethodDescriptor))
	if !ok || binding.Verb == "" {
		return nil, fmt.Errorf("%s has no HTTP route", method)
	}
	return &route{Policy: p, verb: binding.Verb, path: binding.Path, body: binding.Body, response: binding.ResponseBody}, nil
}

// encode returns the path and query, and the body, nil for none, that stand for
// a request.
func (r *route) encode(in proto.Message) (target string, body []byte, err error) {
	m := proto.Clone(in).ProtoReflect()
	target = r.fillPath(m)
	switch r.body {
	case "":
	case "*":
		body, err = marshal(m.Interface())
		return target, body, err
	default:
		fd := m.Descriptor().Fields().ByName(protoreflect.Name(r.body))
		if body, err = marshal(m.Get(fd).Message().Interface()); err != nil {
			return "", nil, err
		}
		m.Clear(fd)
	}
	q := url.Values{}
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		q[string(fd.Name())] = parameter(fd, v)
		return true
	})
	if len(q) > 0 {
		target += "?" + q.Encode()
	}
	return target, body, nil
}

// fillPath puts fields of the request into the path. What the path says is not
// said again elsewhere.
func (r *route) fillPath(m protoreflect.Message) string {
	var b strings.Builder
	rest := r.path
	for {
		before, after, found := strings.Cut(rest, "{")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		name, tail, _ := strings.Cut(after, "}")
		parent, leaf := m, name
		for strings.Contains(leaf, ".") {
			var outer string
			outer, leaf, _ = strings.Cut(leaf, ".")
			parent = parent.Mutable(parent.Descriptor().Fields().ByName(protoreflect.Name(outer))).Message()
		}
		fd := parent.Descriptor().Fields().ByName(protoreflect.Name(leaf))
		// A colon would begin a verb.
		b.WriteString(strings.ReplaceAll(url.PathEscape(parent.Get(fd).String()), ":", "%3A"))
		parent.Clear(fd)
		rest = tail
	}
}

// parameter is a field as the values of a query parameter.
func parameter(fd protoreflect.FieldDescriptor, v protoreflect.Value) []string {
	if fd.IsList() {
		values := make([]string, 0, v.List().Len())
		for i := range v.List().Len() {
			values = append(values, v.List().Get(i).String())
		}
		return values
	}
	if fd.Message() != nil {
		if mask, ok := v.Message().Interface().(*fieldmaskpb.FieldMask); ok {
			return []string{strings.Join(mask.GetPaths(), ",")}
		}
	}
	return []string{v.String()}
}

// decode reads a reply. Fields that are newer than this program are passed over.
func (r *route) decode(body []byte, out proto.Message) error {
	m := out.ProtoReflect()
	if r.response != "" {
		m = m.Mutable(m.Descriptor().Fields().ByName(protoreflect.Name(r.response))).Message()
	}
	return unmarshal(body, m.Interface())
}

func unmarshal(body []byte, out proto.Message) error {
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(body, out); err != nil {
		return fmt.Errorf("the server's answer is not the shop's: %w; is --server right?", err)
	}
	return nil
}

// marshal writes a message on one line, with the contracts' names.
func marshal(m proto.Message) ([]byte, error) {
	text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("%s as JSON: %w", m.ProtoReflect().Descriptor().Name(), err)
	}
	return text, nil
}

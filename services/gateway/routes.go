package gateway

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/meshmart/meshmart/services/internal/policy"
)

// route is an HTTP method and a path that stand for an RPC (google.api.http).
type route struct {
	method   string
	template string   // "/v1/orders/{id}:cancel"
	segments []string // "v1", "orders", "{id}"
	verb     string   // "cancel"
	rpc      protoreflect.MethodDescriptor
	in, out  protoreflect.MessageType
	shown    protoreflect.FieldDescriptor // of the reply, which is the answer; nil: all of it
	full     string                       // "/order.v1.OrderService/CancelOrder"
	host     string                       // the service that answers
	body     string                       // the field that the body holds, "*" for the whole request, "" for none
}

// param is what a path binds: a variable of the template, and its value.
type param struct{ name, value string }

// routes is the public API, in the order in which routes are tried.
type routes []*route

func newRoutes(files []protoreflect.FileDescriptor) (routes, error) {
	var rs routes
	for _, f := range files {
		for i := range f.Services().Len() {
			ms := f.Services().Get(i).Methods()
			for j := range ms.Len() {
				rt, err := newRoute(ms.Get(j))
				if err != nil {
					return nil, err
				}
				if rt != nil {
					rs = append(rs, rt)
				}
			}
		}
	}
	return rs, nil
}

// newRoute returns nil for an RPC that is not public. It understands the path
// templates that the contracts use: names, {variables} of one segment, a verb.
func newRoute(m protoreflect.MethodDescriptor) (*route, error) {
	binding, ok := policy.HTTP(m)
	if !ok {
		return nil, nil
	}
	rt := &route{
		rpc: m, method: binding.Verb, template: binding.Path, body: binding.Body,
		full: fmt.Sprintf("/%s/%s", m.Parent().FullName(), m.Name()),
	}
	p, known := policy.Of(rt.full)
	if !known || rt.method == "" || binding.More || strings.ContainsAny(rt.template, "*=") {
		return nil, fmt.Errorf("route of %s: not one that the gateway understands", rt.full)
	}
	rt.host = p.Host
	path := rt.template
	if i := strings.LastIndexByte(path, ':'); i >= 0 {
		path, rt.verb = path[:i], path[i+1:]
	}
	rt.segments = strings.Split(path[1:], "/")
	return rt, rt.resolve(binding.ResponseBody)
}

// resolve finds the messages of the RPC, which are linked in.
func (rt *route) resolve(shown string) (err error) {
	if rt.in, err = protoregistry.GlobalTypes.FindMessageByName(rt.rpc.Input().FullName()); err != nil {
		return fmt.Errorf("request of %s: %w", rt.full, err)
	}
	if rt.out, err = protoregistry.GlobalTypes.FindMessageByName(rt.rpc.Output().FullName()); err != nil {
		return fmt.Errorf("reply of %s: %w", rt.full, err)
	}
	if shown == "" {
		return nil
	}
	rt.shown = rt.rpc.Output().Fields().ByName(protoreflect.Name(shown))
	if rt.shown == nil || rt.shown.Message() == nil || rt.shown.IsList() || rt.shown.IsMap() {
		return fmt.Errorf("reply of %s: %s is no message", rt.full, shown)
	}
	return nil
}

// find returns the route that a request takes and what its path binds. Without
// one, allow says which methods the path has; none: there is no such path.
func (rs routes) find(method, path string) (rt *route, params []param, allow []string) {
	parts := strings.Split(strings.TrimPrefix(path, "/"), "/")
	verb := ""
	if last := parts[len(parts)-1]; strings.Contains(last, ":") {
		i := strings.LastIndexByte(last, ':')
		if parts[len(parts)-1], verb = last[:i], last[i+1:]; verb == "" {
			return nil, nil, nil // "/v1/orders:" is not "/v1/orders"
		}
	}
	for _, r := range rs {
		switch {
		case r.verb != verb || !r.fits(parts):
		case r.method == method:
			return r, r.bind(parts), nil
		default:
			allow = append(allow, r.method)
		}
	}
	slices.Sort(allow)
	return nil, nil, allow
}

// fits reports whether a path of these parts, less its verb, is the route's.
func (rt *route) fits(parts []string) bool {
	if len(parts) != len(rt.segments) {
		return false
	}
	for i, s := range rt.segments {
		if s != parts[i] && (s[0] != '{' || parts[i] == "") {
			return false
		}
	}
	return true
}

func (rt *route) bind(parts []string) []param {
	var params []param
	for i, s := range rt.segments {
		if s[0] == '{' {
			params = append(params, param{s[1 : len(s)-1], parts[i]})
		}
	}
	return params
}

// message is what the body is decoded into; nil if the route takes no body.
func (rt *route) message() protoreflect.MessageDescriptor {
	switch rt.body {
	case "":
		return nil
	case "*":
		return rt.rpc.Input()
	}
	return rt.rpc.Input().Fields().ByName(protoreflect.Name(rt.body)).Message()
}

// needsBody reports whether there is something that only the body can say.
func (rt *route) needsBody() bool {
	if rt.body != "*" {
		return rt.body != ""
	}
	fields := rt.rpc.Input().Fields()
	for i := range fields.Len() {
		if !rt.inPath(string(fields.Get(i).Name())) {
			return true
		}
	}
	return false
}

func (rt *route) inPath(field string) bool { return slices.Contains(rt.segments, "{"+field+"}") }

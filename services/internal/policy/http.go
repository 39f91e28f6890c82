package policy

import (
	"net/http"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Binding is the public REST route of an RPC, as its google.api.http says.
type Binding struct {
	// Verb is the HTTP method; "" for a kind of rule that we do not use.
	Verb string
	// Path is the template, such as "/v1/orders/{id}:cancel".
	Path string
	// Body is the request's field that the body is, "*" for all of the request,
	// "" for no body.
	Body string
	// ResponseBody is the reply's field that the body is, "" for all of it.
	ResponseBody string
	// More says that there are additional bindings.
	More bool
}

// HTTP returns the public route of an RPC; it reports false if it has none.
func HTTP(m protoreflect.MethodDescriptor) (Binding, bool) {
	rule, _ := proto.GetExtension(m.Options(), annotations.E_Http).(*annotations.HttpRule)
	if rule == nil {
		return Binding{}, false
	}
	b := Binding{Body: rule.GetBody(), ResponseBody: rule.GetResponseBody(), More: len(rule.GetAdditionalBindings()) > 0}
	switch p := rule.GetPattern().(type) {
	case *annotations.HttpRule_Get:
		b.Verb, b.Path = http.MethodGet, p.Get
	case *annotations.HttpRule_Put:
		b.Verb, b.Path = http.MethodPut, p.Put
	case *annotations.HttpRule_Post:
		b.Verb, b.Path = http.MethodPost, p.Post
	case *annotations.HttpRule_Delete:
		b.Verb, b.Path = http.MethodDelete, p.Delete
	case *annotations.HttpRule_Patch:
		b.Verb, b.Path = http.MethodPatch, p.Patch
	}
	return b, true
}

package contract

import (
	"errors"
	"net/http"
	"path"
	"slices"
	"strings"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	meshpb "github.com/meshmart/meshmart/proto/mesh/v1"
)

// Read returns the shop that the files describe. It is refused as a whole if
// any policy is wrong; the error then names all that are, one line for each,
// with file, line and RPC.
func Read(files []protoreflect.FileDescriptor, opts Options) (*Shop, error) {
	s := &Shop{Options: opts}
	var found problems
	for _, f := range files {
		for i := range f.Services().Len() {
			found = append(found, s.addService(f.Services().Get(i))...)
		}
	}
	for _, svc := range s.Services {
		svc.Files = ofPackage(files, packageOf(svc.Names[0]))
	}
	slices.SortFunc(s.Services, func(a, b *Service) int { return strings.Compare(a.Host, b.Host) })
	if len(s.Services) == 0 && len(found) == 0 {
		return nil, errNoServices
	}
	found = append(found, s.problems()...)
	if err := errors.Join(append(found.errors(), s.check()...)...); err != nil {
		return nil, err
	}
	return s, nil
}

// addService puts the RPCs under the host that serves them.
func (s *Shop) addService(d protoreflect.ServiceDescriptor) problems {
	p, _ := proto.GetExtension(d.Options(), meshpb.E_Service).(*meshpb.ServicePolicy)
	at := problem{s.source(d), string(d.FullName()), ""}
	if p.GetHost() == "" || p.GetPort() == 0 || p.GetPort() > 65535 {
		return problems{at.of("no policy: declare (mesh.v1.service) with a host and a port")}
	}
	svc, found := s.serviceOf(d, p, at)
	for i := range d.Methods().Len() {
		m := d.Methods().Get(i)
		if !proto.HasExtension(m.Options(), meshpb.E_Method) {
			at := problem{s.source(m), string(d.FullName()) + "/" + string(m.Name()), ""}
			found = append(found, at.of("no policy: declare (mesh.v1.method)"))
			continue
		}
		svc.RPCs = append(svc.RPCs, s.rpc(m, p.GetHost()))
	}
	return found
}

// serviceOf returns what runs under the host, a new one for a new host. Two
// services share one only if they are of one package and on one port.
func (s *Shop) serviceOf(d protoreflect.ServiceDescriptor, p *meshpb.ServicePolicy, at problem) (*Service, problems) {
	name := string(d.FullName())
	i := slices.IndexFunc(s.Services, func(o *Service) bool { return o.Host == p.GetHost() })
	if i < 0 {
		svc := &Service{Host: p.GetHost(), Port: p.GetPort(), Names: []string{name}}
		s.Services = append(s.Services, svc)
		return svc, nil
	}
	svc := s.Services[i]
	first := svc.Names[0]
	svc.Names = append(svc.Names, name)
	if packageOf(first) != packageOf(name) || svc.Port != p.GetPort() {
		return svc, problems{at.of("the host %q is that of %s, port %d", svc.Host, first, svc.Port)}
	}
	return svc, nil
}

// packageOf is the package of a service with a full name, "" for none.
func packageOf(service string) string { return service[:max(strings.LastIndexByte(service, '.'), 0)] }

func ofPackage(files []protoreflect.FileDescriptor, name string) []protoreflect.FileDescriptor {
	files = slices.DeleteFunc(slices.Clone(files), func(f protoreflect.FileDescriptor) bool { return string(f.Package()) != name })
	slices.SortFunc(files, func(a, b protoreflect.FileDescriptor) int { return strings.Compare(a.Path(), b.Path()) })
	return files
}

func (s *Shop) source(d protoreflect.Descriptor) Source {
	src := Source{File: path.Join(s.Root, d.ParentFile().Path())}
	if at := d.ParentFile().SourceLocations().ByDescriptor(d); at.Path != nil {
		src.Line = at.StartLine + 1
	}
	return src
}

func (s *Shop) rpc(m protoreflect.MethodDescriptor, host string) *RPC {
	p := proto.GetExtension(m.Options(), meshpb.E_Method).(*meshpb.MethodPolicy)
	level := m.Options().(*descriptorpb.MethodOptions).GetIdempotencyLevel()
	r := &RPC{
		Service: string(m.Parent().FullName()), Method: string(m.Name()), Host: host,
		Source: s.source(m), Callers: slices.Sorted(slices.Values(p.GetCallers())),
		Access: p.GetAccess(), Timeout: p.GetTimeout().AsDuration(), Retry: retry(p.GetRetry()),
		Rate: p.GetRate(), SLO: p.GetSlo(),
		ReadOnly:      level == descriptorpb.MethodOptions_NO_SIDE_EFFECTS,
		Idempotent:    level != descriptorpb.MethodOptions_IDEMPOTENCY_UNKNOWN,
		ClientStreams: m.IsStreamingClient(), ServerStreams: m.IsStreamingServer(),
		Routes: routes(m), Descriptor: m,
	}
	for _, c := range p.GetCalls() {
		r.Calls = append(r.Calls, "/"+c)
	}
	return r
}

func retry(r *meshpb.Retry) *Retry {
	if r == nil {
		return nil
	}
	out := &Retry{Attempts: int(r.GetAttempts()), PerTry: r.GetPerTryTimeout().AsDuration(), On: []codes.Code{codes.Unavailable}}
	if len(r.GetOn()) > 0 {
		out.On = nil
	}
	for _, c := range r.GetOn() {
		out.On = append(out.On, codes.Code(c))
	}
	slices.Sort(out.On)
	return out
}

func routes(m protoreflect.MethodDescriptor) []Route {
	rule, _ := proto.GetExtension(m.Options(), annotations.E_Http).(*annotations.HttpRule)
	if rule == nil {
		return nil
	}
	var out []Route
	for _, r := range append([]*annotations.HttpRule{rule}, rule.GetAdditionalBindings()...) {
		out = append(out, route(r))
	}
	return out
}

func route(rule *annotations.HttpRule) Route {
	switch p := rule.GetPattern().(type) {
	case *annotations.HttpRule_Get:
		return Route{http.MethodGet, p.Get}
	case *annotations.HttpRule_Put:
		return Route{http.MethodPut, p.Put}
	case *annotations.HttpRule_Post:
		return Route{http.MethodPost, p.Post}
	case *annotations.HttpRule_Delete:
		return Route{http.MethodDelete, p.Delete}
	case *annotations.HttpRule_Patch:
		return Route{http.MethodPatch, p.Patch}
	}
	return Route{rule.GetCustom().GetKind(), rule.GetCustom().GetPath()}
}

// Package reference writes the reference of the API in docs/reference: a page
// for each service with its RPCs, their policies, messages and events, and one
// that shows who calls whom. All of its text is that of the contracts.
package reference

import (
	"bytes"
	"embed"
	"fmt"
	"path"
	"slices"
	"text/template"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/contract"
	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/target"
)

//go:embed *.tmpl
var folder embed.FS

const pages = "docs/reference/"

// Target is the reference. It has no losses: it is no way to run the shop.
func Target() target.Target {
	return target.Target{Name: "reference", Files: files}
}

// page is what a template is given; Service is nil on the first page.
type page struct {
	Shop     *contract.Shop
	Service  *contract.Service
	Services []protoreflect.ServiceDescriptor
	// Types are those that the RPCs take and return, and what these are made of.
	// Events are announced.
	Types, Events []protoreflect.Descriptor
}

func files(s *contract.Shop) ([]target.File, error) {
	templates := target.Templates(folder, functions)
	first, err := render(templates, "README.md.tmpl", "README.md", page{Shop: s})
	if err != nil {
		return nil, err
	}
	out := []target.File{first}
	for _, svc := range s.Services {
		file, err := render(templates, "service.md.tmpl", svc.Host+".md", pageOf(s, svc))
		if err != nil {
			return nil, err
		}
		out = append(out, file)
	}
	return out, nil
}

func render(t *template.Template, name, file string, p page) (target.File, error) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "<!-- %s -->\n", target.Header)
	if err := t.ExecuteTemplate(&b, name, p); err != nil {
		return target.File{}, fmt.Errorf("%s: %w", file, err)
	}
	return target.File{Path: path.Join(pages, file), Content: b.Bytes()}, nil
}

func pageOf(s *contract.Shop, svc *contract.Service) page {
	p := page{Shop: s, Service: svc}
	for _, r := range svc.RPCs {
		d := r.Descriptor.Parent().(protoreflect.ServiceDescriptor)
		if !slices.Contains(p.Services, d) {
			p.Services = append(p.Services, d)
		}
		p.Types = add(p.Types, r.Descriptor.Input())
		p.Types = add(p.Types, r.Descriptor.Output())
	}
	for _, f := range svc.Files {
		for i := range f.Messages().Len() {
			if m := f.Messages().Get(i); !slices.Contains(p.Types, protoreflect.Descriptor(m)) {
				p.Events = append(p.Events, m)
			}
		}
	}
	return p
}

// add puts a message and what it is made of behind those that are there already,
// as far as they are of its package.
func add(all []protoreflect.Descriptor, m protoreflect.MessageDescriptor) []protoreflect.Descriptor {
	if slices.Contains(all, protoreflect.Descriptor(m)) {
		return all
	}
	all = append(all, m)
	for i := range m.Fields().Len() {
		f := m.Fields().Get(i)
		if e := f.Enum(); e != nil && own(e, m) && !slices.Contains(all, protoreflect.Descriptor(e)) {
			all = append(all, e)
		}
		if sub := f.Message(); sub != nil && own(sub, m) && !sub.IsMapEntry() {
			all = add(all, sub)
		}
	}
	return all
}

func own(d, m protoreflect.Descriptor) bool {
	return d.ParentFile().Package() == m.ParentFile().Package()
}

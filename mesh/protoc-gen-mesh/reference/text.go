package reference

import (
	"fmt"
	"slices"
	"strings"
	"text/template"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/contract"
)

var functions = template.FuncMap{
	"comment": comment,
	"cell":    cell,
	"first":   first,
	"typeOf":  typeOf,
	"rules":   rules,
	"name":    nameOf,
	"policy":  policy,
	"fields":  fields,
	"values":  values,
	"edges":   edges,
	"join":    strings.Join,
	"lower":   strings.ToLower,
	"time":    func(d time.Duration) string { return d.String() },
}

// comment is what stands before a declaration, less what is meant for tools.
func comment(d protoreflect.Descriptor) string {
	var lines []string
	for line := range strings.Lines(d.ParentFile().SourceLocations().ByDescriptor(d).LeadingComments) {
		if line = strings.TrimSpace(line); !strings.HasPrefix(line, "buf:lint:") {
			lines = append(lines, line)
		}
	}
	return strings.TrimSpace(strings.Join(lines, "\n"))
}

// cell is a text in a table.
func cell(text string) string {
	return strings.ReplaceAll(strings.ReplaceAll(text, "\n", " "), "|", `\|`)
}

// first is the first sentence of a text.
func first(text string) string {
	text = strings.ReplaceAll(text, "\n", " ")
	if before, _, found := strings.Cut(text, ". "); found {
		return before + "."
	}
	return text
}

func fields(d protoreflect.Descriptor) []protoreflect.FieldDescriptor {
	m, ok := d.(protoreflect.MessageDescriptor)
	if !ok {
		return nil
	}
	out := make([]protoreflect.FieldDescriptor, m.Fields().Len())
	for i := range out {
		out[i] = m.Fields().Get(i)
	}
	return out
}

func values(d protoreflect.Descriptor) []protoreflect.EnumValueDescriptor {
	e, ok := d.(protoreflect.EnumDescriptor)
	if !ok {
		return nil
	}
	out := make([]protoreflect.EnumValueDescriptor, e.Values().Len())
	for i := range out {
		out[i] = e.Values().Get(i)
	}
	return out
}

// typeOf names a field's type as the contract does, with a link to one of the page.
func typeOf(f protoreflect.FieldDescriptor) string {
	var name string
	switch {
	case f.Message() != nil:
		name = link(f.Message(), f)
	case f.Enum() != nil:
		name = link(f.Enum(), f)
	default:
		name = f.Kind().String()
	}
	if f.IsList() {
		return "repeated " + name
	}
	return name
}

func link(d, from protoreflect.Descriptor) string {
	if !own(d, from) {
		return string(d.FullName())
	}
	name := nameOf(d)
	return fmt.Sprintf("[%s](#%s)", name, strings.ToLower(strings.ReplaceAll(name, ".", "")))
}

// nameOf is a type's name in its package, such as "Order.State".
func nameOf(d protoreflect.Descriptor) string {
	return strings.TrimPrefix(string(d.FullName()), string(d.ParentFile().Package())+".")
}

// policy is what a contract says of an RPC, in rows of a name and a text.
func policy(s *contract.Shop, r *contract.RPC) [][2]string {
	var rows [][2]string
	add := func(name, format string, args ...any) {
		rows = append(rows, [2]string{name, fmt.Sprintf(format, args...)})
	}
	for _, route := range r.Routes {
		add("REST", "`%s %s`", route.Verb, route.Path)
	}
	add("callers", "%s", strings.Join(r.Callers, ", "))
	add("access", "%s", r.AccessName())
	add("repeated", "%s", repeated(r))
	if r.Timeout > 0 {
		add("timeout", "%s", r.Timeout)
	}
	if r.Rate != nil {
		add("rate", "%v a second for a replica, %d at once", r.Rate.GetPerSecond(), r.Rate.GetBurst())
	}
	if r.SLO != nil {
		add("objective", "%s", objective(r))
	}
	var calls []string
	for _, name := range r.Calls {
		calls = append(calls, callee(s, name))
	}
	if len(calls) > 0 {
		add("calls", "%s", strings.Join(calls, ", "))
	}
	add("contract", "[%s](../../%s#L%d)", r.Source, r.Source.File, r.Source.Line)
	return rows
}

func repeated(r *contract.RPC) string {
	safe := "not safe"
	switch {
	case r.ReadOnly:
		safe = "safe, it changes nothing"
	case r.Idempotent:
		safe = "safe, it acts once"
	}
	if !r.Retried() {
		return safe + "; never by a mesh"
	}
	var on []string
	for _, c := range r.Retry.On {
		on = append(on, strings.ToUpper(c.String()))
	}
	return fmt.Sprintf("%s; by a mesh %d times on %s, each try within %s", safe, r.Retry.Attempts, strings.Join(on, ", "), r.Retry.PerTry)
}

func objective(r *contract.RPC) string {
	text := fmt.Sprintf("%g %% of calls are answered", percent(r.SLO.GetAvailability()))
	if r.SLO.GetLatencyQuantile() > 0 {
		text += fmt.Sprintf("; %g %% of those within %s", percent(r.SLO.GetLatencyQuantile()), r.SLO.GetLatency().AsDuration())
	}
	return text
}

// percent is a share in percent, without what binary fractions add.
func percent(share float64) float64 { return float64(int64(share*1e8+0.5)) / 1e6 }

func callee(s *contract.Shop, path string) string {
	for _, r := range s.RPCs() {
		if r.Path() == path {
			return fmt.Sprintf("[%s](%s.md#%s)", r.FullName(), r.Host, strings.ToLower(r.Method))
		}
	}
	return path
}

// edges are who calls which service, and by which RPCs where they are few.
func edges(s *contract.Shop) []string {
	var out []string
	for _, account := range s.Accounts() {
		for _, svc := range s.Callees(account) {
			var names []string
			for _, r := range svc.For(account) {
				names = append(names, r.Method)
			}
			label := strings.Join(names, "<br/>")
			if len(names) > 6 {
				label = fmt.Sprintf("%d RPCs", len(names))
			}
			out = append(out, fmt.Sprintf("%s -- \"%s\" --> %s", account, label, svc.Host))
		}
	}
	slices.Sort(out)
	return out
}

// option reads an extension of a field's options.
func option[T any](f protoreflect.FieldDescriptor, ext protoreflect.ExtensionType) (v T) {
	if proto.HasExtension(f.Options(), ext) {
		v, _ = proto.GetExtension(f.Options(), ext).(T)
	}
	return v
}

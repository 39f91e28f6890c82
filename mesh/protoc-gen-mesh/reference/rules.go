package reference

import (
	"fmt"
	"slices"
	"strings"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// rules are what a field must hold, as protovalidate checks it.
func rules(f protoreflect.FieldDescriptor) string {
	var out []string
	for _, b := range option[[]annotations.FieldBehavior](f, annotations.E_FieldBehavior) {
		out = append(out, strings.ToLower(strings.ReplaceAll(b.String(), "_", " ")))
	}
	if v := option[*validate.FieldRules](f, validate.E_Field); v != nil {
		out = append(out, checks(v.ProtoReflect())...)
	}
	return strings.Join(unique(out), "; ")
}

// checks lists what is set, in the order of the fields' numbers: "min_len 1".
func checks(m protoreflect.Message) []string {
	var out []string
	for i := range m.Descriptor().Fields().Len() {
		f := m.Descriptor().Fields().Get(i)
		if !m.Has(f) {
			continue
		}
		v := m.Get(f)
		switch {
		case f.FullName() == "buf.validate.FieldRules.ignore": // of what is not set
		case f.IsList() && f.Message() != nil:
			for j := range v.List().Len() {
				out = append(out, custom(v.List().Get(j).Message()))
			}
		case f.IsList():
			out = append(out, fmt.Sprintf("%s %s", f.Name(), list(v.List())))
		case f.Message() != nil && f.Name() == "items":
			for _, c := range checks(v.Message()) {
				out = append(out, "each "+c)
			}
		case f.Message() != nil:
			out = append(out, checks(v.Message())...)
		case f.Kind() == protoreflect.BoolKind:
			out = append(out, string(f.Name()))
		default:
			out = append(out, fmt.Sprintf("%s `%v`", f.Name(), v))
		}
	}
	return out
}

func list(l protoreflect.List) string {
	all := make([]string, l.Len())
	for i := range all {
		all[i] = fmt.Sprintf("`%v`", l.Get(i))
		if l.Get(i).String() == "" {
			all[i] = "`\"\"`"
		}
	}
	return strings.Join(all, ", ")
}

// custom is a rule in CEL, in the words of its message.
func custom(m protoreflect.Message) string {
	rule, _ := m.Interface().(*validate.Rule)
	if rule.GetMessage() != "" {
		return rule.GetMessage()
	}
	return "`" + rule.GetExpression() + "`"
}

func unique(all []string) []string {
	var out []string
	for _, s := range all {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

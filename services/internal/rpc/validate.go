package rpc

import (
	"errors"
	"fmt"

	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/proto"

	"github.com/meshmart/meshmart/services/internal/fault"
)

// Validate checks a message against the rules in its contract and returns a
// fault that names every field that breaks one. Servers do it with every
// request; a handler needs it only for messages whose check it put off.
func Validate(m proto.Message) error { return violations(protovalidate.Validate(m)) }

func violations(err error) error {
	if err == nil {
		return nil
	}
	var v *protovalidate.ValidationError
	if !errors.As(err, &v) {
		return fmt.Errorf("validate: %w", err) // a rule that does not compile or fails: a bug
	}
	vs := make([]fault.Violation, 0, len(v.Violations))
	for _, one := range v.Violations {
		vs = append(vs, fault.Violation{
			Field: protovalidate.FieldPathString(one.Proto.GetField()),
			Text:  one.Proto.GetMessage(),
		})
	}
	return fault.Violations(vs...)
}

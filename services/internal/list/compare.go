package list

import (
	"maps"
	"math/big"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"go.einride.tech/aip/filtering"
	expr "google.golang.org/genproto/googleapis/api/expr/v1alpha1"
)

// What a comparison is when the value lies where no row can have its own.
const (
	always = "1 = 1"
	never  = "1 = 0"
)

// comparison translates a field, an operator and a value.
func (c *compiler) comparison(op string, left, right *expr.Expr) (clause, error) {
	name, ok := path(left)
	if !ok {
		return clause{}, invalid("%q is no field; a comparison begins with one", c.source(left))
	}
	f, ok := c.spec.Fields[name]
	if !ok || !f.Filter {
		return clause{}, invalid("there is no field %q to filter by; there is: %s", clip(name),
			c.spec.names(func(f Field) bool { return f.Filter }))
	}
	if op == filtering.FunctionHas && f.Kind != String {
		return clause{}, invalid(`field %q is no text, so ":" does not apply to it`, name)
	}
	if op == filtering.FunctionNotEquals {
		op = "<>"
	}
	switch f.Kind {
	case Int:
		return c.number(name, f, op, right)
	case Time:
		return c.instant(name, f, op, right)
	case Enum:
		return c.enum(name, f, op, right)
	default:
		return c.string(name, f, op, right)
	}
}

// path returns the dotted name that e is.
func path(e *expr.Expr) (string, bool) {
	switch k := e.GetExprKind().(type) {
	case *expr.Expr_IdentExpr:
		return k.IdentExpr.GetName(), true
	case *expr.Expr_SelectExpr:
		parent, ok := path(k.SelectExpr.GetOperand())
		return parent + "." + k.SelectExpr.GetField(), ok
	}
	return "", false
}

// text returns the text that e is, in quotes or as a word.
func text(e *expr.Expr) (string, bool) {
	if s, ok := e.GetConstExpr().GetConstantKind().(*expr.Constant_StringValue); ok {
		return s.StringValue, true
	}
	return path(e)
}

func (c *compiler) string(name string, f Field, op string, right *expr.Expr) (clause, error) {
	s, ok := text(right)
	switch {
	case !ok:
		return clause{}, invalid("field %q is text, and %q is not; write it in quotes", name, c.source(right))
	case strings.ContainsRune(s, 0) || !utf8.ValidString(s): // PostgreSQL has no such text
		return clause{}, invalid("the text that field %q is compared with has a zero byte or is not UTF-8", name)
	case op != filtering.FunctionHas:
		return clause{sql: f.Column + " " + op + " ?", args: []any{s}}, nil
	case s == "*": // AIP-160: there is something
		return clause{sql: f.Column + " <> ''"}, nil
	}
	pattern := "%" + strings.NewReplacer("!", "!!", "%", "!%", "_", "!_").Replace(s) + "%"
	return clause{sql: "LOWER(" + f.Column + ") LIKE LOWER(?) ESCAPE '!'", args: []any{pattern}}, nil
}

func (c *compiler) enum(name string, f Field, op string, right *expr.Expr) (clause, error) {
	if op != "=" && op != "<>" {
		return clause{}, invalid(`field %q can be compared by "=" and "!=" only`, name)
	}
	s, _ := text(right)
	v, ok := f.Values[s]
	if !ok {
		return clause{}, invalid("field %q is never %q; it is one of %s", name, c.source(right),
			strings.Join(slices.Sorted(maps.Keys(f.Values)), ", "))
	}
	return clause{sql: f.Column + " " + op + " ?", args: []any{v}}, nil
}

func (c *compiler) instant(name string, f Field, op string, right *expr.Expr) (clause, error) {
	s, ok := text(right)
	if call := right.GetCallExpr(); call.GetFunction() == filtering.FunctionTimestamp && len(call.GetArgs()) == 1 {
		s, ok = text(call.GetArgs()[0])
	}
	t, err := time.Parse(time.RFC3339, s)
	if !ok || err != nil {
		return clause{}, invalid(`field %q is an instant, and %q is not; write it as "2006-01-02T15:04:05Z"`, name, c.source(right))
	}
	micros := new(big.Rat).SetInt64(t.Unix())
	micros.Mul(micros, big.NewRat(1e6, 1))
	return among(f.Column, op, micros.Add(micros, big.NewRat(int64(t.Nanosecond()), 1e3))), nil
}

// digits matches a number as the parser reads one, where it begins.
var digits = regexp.MustCompile(`^-?(0x[0-9a-fA-F]+|[0-9]*\.?[0-9]*)`)

// number compares exactly: it reads the digits as they are written, for the
// parser knows 0.1 only as the float64 next to it.
func (c *compiler) number(name string, f Field, op string, right *expr.Expr) (clause, error) {
	var written string
	switch right.GetConstExpr().GetConstantKind().(type) {
	case *expr.Constant_Int64Value, *expr.Constant_DoubleValue:
		written = digits.FindString(c.text[c.at[right.GetId()]:])
	}
	v, ok := new(big.Rat).SetString(written)
	if !ok {
		return clause{}, invalid("field %q is a number, and %q is not", name, c.source(right))
	}
	return among(f.Column, op, v.Mul(v, big.NewRat(max(f.Scale, 1), 1))), nil
}

// among compares a column of integers with a number that need not be one, nor
// fit in the column: x < 1.5 is x <= 1, and x = 1.5 is never.
func among(column, op string, v *big.Rat) clause {
	floor := new(big.Int).Div(v.Num(), v.Denom()) // downwards also below zero, as the denominator is positive
	above := floor.Sign() > 0
	switch {
	case v.IsInt() && floor.IsInt64():
	case op == "=":
		return clause{sql: never}
	case op == "<>":
		return clause{sql: always}
	case !floor.IsInt64() && above == strings.HasPrefix(op, "<"):
		return clause{sql: always}
	case !floor.IsInt64():
		return clause{sql: never}
	case op == "<":
		op = "<="
	case op == ">=":
		op = ">"
	}
	return clause{sql: column + " " + op + " ?", args: []any{floor.Int64()}}
}

package list

import (
	"errors"
	"io"
	"strings"
	"unicode/utf8"

	"go.einride.tech/aip/filtering"
	expr "google.golang.org/genproto/googleapis/api/expr/v1alpha1"

	"github.com/meshmart/meshmart/services/internal/fault"
)

// The limits of a filter. They keep the work for one request small; nobody
// writes so much by hand.
const (
	maxFilter = 4000 // bytes
	maxDepth  = 20   // parentheses in each other
	maxTerms  = 50   // comparisons
)

// filter returns the condition that a filter stands for. As AIP-160 has it, OR
// binds closer than AND, and comparisons in a row are joined by AND.
func (s *Spec) filter(filter string) (clause, error) {
	if strings.TrimSpace(filter) == "" {
		return clause{}, nil
	}
	if len(filter) > maxFilter {
		return clause{}, invalid("must not be longer than %d bytes", maxFilter)
	}
	text, err := tidy(filter)
	if err != nil {
		return clause{}, err
	}
	var p filtering.Parser
	p.Init(text)
	parsed, err := p.Parse()
	if err != nil {
		return clause{}, unreadable(text, err)
	}
	c := compiler{spec: s, text: text, at: parsed.GetSourceInfo().GetPositions()}
	return c.condition(parsed.GetExpr())
}

func invalid(format string, args ...any) error { return fault.Invalid("filter", format, args...) }

// tidy checks what is limited, before the parser recurses over it, and writes
// the filter in the way that the parser can read: it stumbles over a space
// before ")" and over a keyword beside a parenthesis, and takes 010 for octal.
func tidy(filter string) (string, error) {
	filter = strings.TrimSpace(filter)
	var l filtering.Lexer
	l.Init(filter)
	var t tidied
	for {
		token, err := l.Lex()
		if errors.Is(err, io.EOF) {
			return strings.TrimSpace(t.text.String()), nil
		}
		if err != nil {
			return "", unreadable(filter, err)
		}
		t.add(token)
		switch {
		case t.depth > maxDepth:
			return "", invalid("must not have more than %d parentheses in each other", maxDepth)
		case t.terms > maxTerms:
			return "", invalid("must not have more than %d comparisons", maxTerms)
		}
	}
}

// tidied is a filter as it is written anew, token by token.
type tidied struct {
	text         strings.Builder
	depth, terms int                 // parentheses that are open, and comparisons so far
	last         filtering.TokenType // but for spaces
	space        bool                // comes before the next token
}

func (t *tidied) add(token filtering.Token) {
	value, keyword := token.Value, token.Type.IsKeyword()
	switch {
	case token.Type == filtering.TokenTypeWhitespace:
		t.space = true
		return
	case token.Type == filtering.TokenTypeLeftParen:
		t.depth++
	case token.Type == filtering.TokenTypeRightParen:
		t.depth--
		t.space = false
	case token.Type == filtering.TokenTypeNumber && t.last != filtering.TokenTypeDot:
		end := len(value) - 1 // the last digit stays, were it 0
		value = strings.TrimLeft(value[:end], "0") + value[end:]
	case token.Type.IsComparator():
		t.terms++
	}
	if t.space || keyword {
		t.text.WriteByte(' ')
	}
	t.text.WriteString(value)
	t.last, t.space = token.Type, keyword
}

// unreadable says from where on a filter makes no sense.
func unreadable(text string, err error) error {
	at := 0
	var e interface{ Position() filtering.Position }
	for errors.As(err, &e) { // the innermost one knows best
		at = max(at, int(e.Position().Offset))
		err = errors.Unwrap(e.(error))
	}
	rest := strings.TrimSpace(text[min(at, len(text)):])
	if rest == "" {
		return invalid("ends too early")
	}
	return invalid("can't be read from %q on", clip(rest))
}

// clip shortens what is quoted in an error.
func clip(s string) string {
	const most = 40 // runes
	if utf8.RuneCountInString(s) <= most {
		return s
	}
	return string([]rune(s)[:most]) + "..."
}

// compiler translates a parsed filter.
type compiler struct {
	spec *Spec
	text string
	at   map[int64]int32 // where in text an expression begins
}

// condition translates an expression that is true or false.
func (c *compiler) condition(e *expr.Expr) (clause, error) {
	call := e.GetCallExpr()
	if call == nil {
		return clause{}, invalid(`%q is compared with nothing; a filter needs comparisons such as name:"mug"`, c.source(e))
	}
	args := call.GetArgs()
	switch f := call.GetFunction(); f {
	case filtering.FunctionAnd, filtering.FunctionFuzzyAnd:
		return c.join(" AND ", operands(e, filtering.FunctionAnd, filtering.FunctionFuzzyAnd))
	case filtering.FunctionOr:
		return c.join(" OR ", operands(e, filtering.FunctionOr))
	case filtering.FunctionNot:
		if len(args) != 1 {
			return clause{}, invalid("NOT takes one condition")
		}
		inner, err := c.condition(args[0])
		return clause{sql: "NOT (" + inner.sql + ")", args: inner.args}, err
	case filtering.FunctionEquals, filtering.FunctionNotEquals, filtering.FunctionLessThan, filtering.FunctionLessEquals,
		filtering.FunctionGreaterThan, filtering.FunctionGreaterEquals, filtering.FunctionHas:
		return c.comparison(f, args[0], args[1]) // no function call can have such a name
	default:
		return clause{}, invalid("there is no function %q that is true or false", clip(f))
	}
}

// operands returns what is joined by the functions, however it is nested to
// the left.
func operands(e *expr.Expr, functions ...string) []*expr.Expr {
	for _, f := range functions {
		if call := e.GetCallExpr(); call.GetFunction() == f && len(call.GetArgs()) == 2 {
			return append(operands(call.GetArgs()[0], functions...), call.GetArgs()[1])
		}
	}
	return []*expr.Expr{e}
}

func (c *compiler) join(op string, operands []*expr.Expr) (clause, error) {
	if len(operands) < 2 { // written as a function: AND(x)
		return clause{}, invalid("%stakes two conditions", strings.TrimLeft(op, " "))
	}
	var sqls []string
	var args []any
	for _, e := range operands {
		inner, err := c.condition(e)
		if err != nil {
			return clause{}, err
		}
		sqls = append(sqls, inner.sql)
		args = append(args, inner.args...)
	}
	return clause{sql: "(" + strings.Join(sqls, op) + ")", args: args}, nil
}

// source returns the text of the filter where e begins.
func (c *compiler) source(e *expr.Expr) string {
	rest := c.text[min(int(c.at[e.GetId()]), len(c.text)):]
	word, _, _ := strings.Cut(rest, " ")
	return clip(word)
}

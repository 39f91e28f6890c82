package gateway

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"github.com/grpc-ecosystem/grpc-gateway/v2/utilities"
	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/meshmart/meshmart/services/internal/fault"
)

// readQuery reads a query into a request. It refuses what grpc-gateway would pass
// over in silence: parameters that the RPC does not have, or that belong into the
// path or the body.
func readQuery(rt *route, query url.Values, in proto.Message) error {
	var bad []fault.Violation
	given := map[string]bool{}
	for _, key := range slices.Sorted(maps.Keys(query)) {
		if text := readParameter(rt, in, key, query[key], given); text != "" {
			bad = append(bad, fault.Violation{Field: strings.ToValidUTF8(key, "\uFFFD"), Text: text})
		}
	}
	if bad != nil {
		return fault.Violations(bad...)
	}
	return nil
}

// readParameter says what is wrong with a query parameter, or "". It adds its name in
// the contract to those that are given.
func readParameter(rt *route, in proto.Message, key string, values []string, given map[string]bool) string {
	fd, name := fieldOf(rt.rpc.Input(), key)
	root, _, _ := strings.Cut(name, ".")
	switch {
	case fd == nil:
		return "there is no such parameter"
	case rt.inPath(name):
		return "this is given in the path"
	case rt.body == "*" || rt.body == root:
		return "this is given in the body"
	case (len(values) > 1 || given[name]) && !fd.IsList():
		return "is given more than once"
	}
	given[name] = true
	for _, v := range values {
		if !utf8.ValidString(v) {
			return "is not valid UTF-8"
		}
	}
	none := utilities.NewDoubleArray(nil)
	if err := runtime.PopulateQueryParameters(in, url.Values{key: values}, none); err != nil {
		return "is not a valid " + kindOf(fd)
	}
	return ""
}

// fieldOf follows a path such as "price.units" from a message, and returns it as the
// contract has it; nil if it leads nowhere. As in JSON, a field goes by either of its
// names.
func fieldOf(m protoreflect.MessageDescriptor, path string) (fd protoreflect.FieldDescriptor, name string) {
	var names []string
	for part := range strings.SplitSeq(path, ".") {
		if m == nil {
			return nil, ""
		}
		if fd = m.Fields().ByTextName(part); fd == nil {
			fd = m.Fields().ByJSONName(part)
		}
		if fd == nil {
			return nil, ""
		}
		names = append(names, fd.TextName())
		m = fd.Message()
	}
	return fd, strings.Join(names, ".")
}

func kindOf(fd protoreflect.FieldDescriptor) string {
	switch {
	case fd.Enum() != nil:
		return string(fd.Enum().Name())
	case fd.Message() != nil:
		return string(fd.Message().Name())
	}
	return fd.Kind().String()
}

// jsonBody is a JSON text and where it belongs in the request: in the field
// root, or everywhere if root is empty.
type jsonBody struct {
	text []byte
	root string
}

// decode reads one JSON object into m. What can be wrong with it is a fault
// that names the field, as the service would name it.
func (b jsonBody) decode(m proto.Message) error {
	if i := invalidUTF8(b.text); i >= 0 {
		return b.at(i, "is not valid UTF-8")
	}
	if err := syntax(b.text); err != nil {
		return err
	}
	if bytes.TrimLeft(b.text, " \t\r\n")[0] != '{' {
		return fault.Malformed("the body must be a JSON object")
	}
	if err := protojson.Unmarshal(b.text, m); err != nil {
		return b.explain(err)
	}
	return nil
}

func invalidUTF8(b []byte) int {
	for i := 0; i < len(b); {
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n <= 1 {
			return i
		}
		i += n
	}
	return -1
}

func syntax(body []byte) error {
	var raw json.RawMessage
	err := json.Unmarshal(body, &raw)
	if err == nil {
		return nil
	}
	line, column := 1, 1
	if s, ok := err.(*json.SyntaxError); ok { // never wrapped
		before := body[:max(0, min(int(s.Offset)-1, len(body)))]
		line += bytes.Count(before, []byte("\n"))
		column += utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:])
	}
	return fault.Malformed("the body is not valid JSON: line %d, column %d: %v", line, column, err)
}

// problem takes protojson's errors apart. Their text is kept unstable on
// purpose, but for the position: that says which field it is.
var problem = regexp.MustCompile(`\(line (\d+):(\d+)\): (.*)$`)

func (b jsonBody) explain(err error) error {
	m := problem.FindStringSubmatch(err.Error())
	if m == nil {
		return fault.Malformed("the body does not fit: %s", strings.TrimSpace(strings.TrimPrefix(err.Error(), "proto:")))
	}
	line, _ := strconv.Atoi(m[1])
	column, _ := strconv.Atoi(m[2])
	text := m[3]
	switch {
	case strings.HasPrefix(text, "unknown field"):
		text = "there is no such field"
	case strings.HasPrefix(text, "duplicate field"):
		text = "is given more than once"
	case strings.HasPrefix(text, "invalid value for "):
		// "... for int32 field quantity: 1.5": the value itself is not repeated.
		kind, _, _ := strings.Cut(strings.TrimPrefix(text, "invalid value for "), " ")
		text = "is not a valid " + kind
	case strings.HasPrefix(text, "unexpected token"):
		text = "is of the wrong type"
	}
	return b.at(offset(b.text, line, column), text)
}

// offset finds the byte at a line and a column, both from 1, the latter in runes.
func offset(body []byte, line, column int) int {
	i := 0
	for ; line > 1; line-- {
		i += bytes.IndexByte(body[i:], '\n') + 1
	}
	for ; column > 1 && i < len(body); column-- {
		_, n := utf8.DecodeRune(body[i:])
		i += n
	}
	return i
}

// at refuses the body for what is at a position of it.
func (b jsonBody) at(pos int, text string) error {
	path := pathAt(b.text, pos)
	switch {
	case path == "":
		return fault.Malformed("the body %s", text)
	case b.root != "":
		path = b.root + "." + path
	}
	return fault.Invalid(path, "%s", text)
}

// level is an object or an array that pathAt is inside of.
type level struct {
	array bool
	index int    // of an array's element
	key   string // of an object's member
	value bool   // in an object: the key has been read, the value comes next
}

// pathAt returns the path, such as "items[1].quantity", of the token that is at
// a position of a JSON text.
func pathAt(body []byte, pos int) string {
	d := json.NewDecoder(bytes.NewReader(body))
	var in []level
	for {
		tok, err := d.Token()
		if err != nil {
			return pathOf(in)
		}
		delim, _ := tok.(json.Delim)
		if delim == '}' || delim == ']' {
			in = in[:len(in)-1]
			continue
		}
		if len(in) > 0 {
			in[len(in)-1].next(tok)
		}
		if int(d.InputOffset()) > pos {
			return pathOf(in)
		}
		if delim != 0 {
			in = append(in, level{array: delim == '[', index: -1})
		}
	}
}

func (l *level) next(tok json.Token) {
	switch {
	case l.array:
		l.index++
	case l.value:
		l.value = false
	default:
		l.key, l.value = fmt.Sprint(tok), true
	}
}

func pathOf(in []level) string {
	var b strings.Builder
	for _, l := range in {
		switch {
		case l.array && l.index >= 0:
			fmt.Fprintf(&b, "[%d]", l.index)
		case !l.array && b.Len() > 0:
			b.WriteString("." + l.key)
		case !l.array:
			b.WriteString(l.key)
		}
	}
	return strings.TrimSuffix(b.String(), ".")
}

// updateMask returns which fields of a resource a PATCH means to change when it
// does not say: those in the body, whole, less those that nobody can set. What
// grpc-gateway would take instead are the leaves, so that a new price of 5
// would keep the cents of the old one.
func updateMask(resource protoreflect.MessageDescriptor, body []byte) []string {
	var members map[string]json.RawMessage
	if json.Unmarshal(body, &members) != nil {
		return nil
	}
	var paths []string
	fields := resource.Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		_, byName := members[string(fd.Name())]
		_, byJSON := members[fd.JSONName()]
		if (byName || byJSON) && fd.Name() != "etag" && !outputOnly(fd) {
			paths = append(paths, string(fd.Name()))
		}
	}
	return paths
}

func outputOnly(fd protoreflect.FieldDescriptor) bool {
	behavior, _ := proto.GetExtension(fd.Options(), annotations.E_FieldBehavior).([]annotations.FieldBehavior)
	for _, b := range behavior {
		if b == annotations.FieldBehavior_OUTPUT_ONLY {
			return true
		}
	}
	return false
}

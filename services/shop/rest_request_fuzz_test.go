package shop

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	meshpb "github.com/meshmart/meshmart/proto/mesh/v1"
)

// shot is one request of the fuzzer.
type shot struct {
	op           *operation
	method, url  string // the url without the host
	header       http.Header
	body         string
	caller       *person // whose token it has, or nil
	genuine      bool    // the token is as it was given out, or there is none
	asDocumented bool    // method and path are those of the operation
}

func (s *shot) String() string {
	body := s.body
	if len(body) > 500 {
		body = body[:500] + "..."
	}
	return fmt.Sprintf("%s %.500s %.300q %q", s.method, s.url, s.header, body)
}

// generator makes requests of bytes.
type generator struct {
	dice
	doc    *document
	op     *operation
	raw    string // of the fuzzer's own: a value, or the body
	texts  []string
	values []string // JSON
	wild   int      // one in so many choices is hostile; 0: none
	caller *person

	admin  *person
	people [2]*person
	goods  [4]string
	newest string // id of the collection that the operation is about
}

// shoot makes a request for an operation.
func (r *rig) shoot(op *operation, choices []byte, raw string) *shot {
	g := &generator{dice: dice{choices}, doc: r.doc, op: op, raw: raw, texts: r.texts, values: r.values}
	g.admin, g.people, g.goods = r.know()
	g.newest = r.newestOf("/v1/" + collection(op))
	if g.roll(2) == 1 {
		g.people[0], g.people[1] = g.people[1], g.people[0]
	}
	g.wild = pick(&g.dice, 0, 16, 6, 0, 2)
	s := &shot{op: op, method: op.method, header: http.Header{}, genuine: true, asDocumented: true}
	g.identify(s)
	s.url = g.path() + g.query()
	g.headers(s)
	if op.method == "POST" || op.method == "PUT" || op.method == "PATCH" || g.mischief() {
		s.body = g.body()
	}
	if g.wild != 0 && g.roll(40) == 39 {
		s.method, s.asDocumented = pick(&g.dice, "PUT", "DELETE", "HEAD", "OPTIONS", "TRACE", "BREW", "POST"), false
	}
	s.header.Set("X-Forwarded-For", r.address())
	return s
}

// collection is the part of a path that tells what it is about.
func collection(op *operation) string {
	if parts := strings.Split(op.path, "/"); len(parts) > 2 {
		return parts[2]
	}
	return ""
}

// mischief reports whether the next thing is to be hostile.
func (g *generator) mischief() bool { return g.wild != 0 && g.roll(g.wild) == g.wild-1 }

// identify puts a token on the request: mostly one that the operation asks for.
func (g *generator) identify(s *shot) {
	me := g.people[0]
	switch {
	case g.op.access == meshpb.Access_ACCESS_ADMIN:
		g.caller = pick(&g.dice, g.admin, g.admin, g.admin, g.admin, g.admin, me)
	case g.op.access == meshpb.Access_ACCESS_USER:
		g.caller = pick(&g.dice, me, me, me, me, me, me, g.admin)
	default:
		g.caller = pick(&g.dice, nil, nil, nil, me, g.admin)
	}
	if g.caller != nil {
		s.header.Set("Authorization", "Bearer "+g.caller.token)
	}
	s.caller = g.caller
	if !g.mischief() {
		return
	}
	s.genuine, s.caller = false, nil
	parts := strings.Split(me.token, ".")
	s.header["Authorization"] = pick(&g.dice,
		[]string{"Bearer " + me.token, "Bearer " + g.admin.token}, []string{"Bearer x.y.z"}, []string{"Bearer "}, []string{"Basic YTpi"},
		[]string{"Bearer " + parts[0] + "." + parts[1] + "."}, []string{"Bearer eyJhbGciOiJub25lIn0." + parts[1] + "."},
		[]string{"Bearer " + parts[0] + "." + strings.Split(g.admin.token, ".")[1] + "." + parts[2]},
		[]string{"Bearer " + me.refresh}, []string{"Bearer " + strings.Repeat("x", 9000)}, []string{"Bearer \xff\xfe"}, []string{"é"},
		[]string{"Bearer " + me.token + ", " + me.token})
}

// path fills in what the operation's path leaves open.
func (g *generator) path() string {
	path := g.op.path
	for _, p := range g.op.Parameters {
		if p.In != "path" {
			continue
		}
		value := url.PathEscape(g.text(p.Name))
		if g.mischief() {
			value = url.PathEscape(g.hostile())
		}
		path = strings.Replace(path, "{"+p.Name+"}", value, 1)
	}
	if g.wild != 0 && g.roll(50) == 49 {
		path += pick(&g.dice, "/", "//", ":", ":x", "%2f", "/..", "/%2e%2e", "%00", "%ff", ";a=b")
	}
	return path
}

// query gives some of the parameters.
func (g *generator) query() string {
	q := url.Values{}
	for _, p := range g.op.Parameters {
		if p.In != "query" || !p.Required && g.roll(2) == 0 {
			continue
		}
		for range 1 + g.roll(2)*map[bool]int{true: 3}[p.Type == "array"] {
			q.Add(p.Name, g.queryValue(p))
		}
	}
	if g.mischief() {
		q.Add(pick(&g.dice, "colour", "page_size", "pageSize", "filter", "", "id", "product.price.units", "request_id", "a.b.c", "ids[0]"), g.hostile())
	}
	text := q.Encode()
	if g.wild != 0 && g.roll(30) == 29 {
		text += pick(&g.dice, "&%zz", "&a;b", "&&&=", "&%00=%ff", "&%ff=1", "&"+strings.Repeat("a=b&", 2000))
	}
	if text == "" {
		return ""
	}
	return "?" + text
}

func (g *generator) queryValue(p parameter) string {
	switch {
	case g.mischief():
		return g.hostile()
	case p.Type == "integer" || p.Format == "int64":
		return g.integer(p.Name)
	}
	return g.text(p.Name)
}

func (g *generator) headers(s *shot) {
	s.header.Set("Content-Type", "application/json")
	if g.mischief() {
		s.header.Set("Content-Type", pick(&g.dice, "text/plain", "application/json; charset=utf-16", "application/x-ndjson", "multipart/form-data", ";", "application/grpc", ""))
	}
	if g.mischief() {
		for name, value := range pick(&g.dice,
			map[string]string{"Last-Event-ID": g.hostile()}, map[string]string{"Traceparent": "00-zz-zz-zz", "Tracestate": "="},
			map[string]string{"Grpc-Timeout": "1n", "Grpc-Metadata-X-Admin": "1"}, map[string]string{"X-Http-Method-Override": "DELETE"},
			map[string]string{"Accept": "image/png", "Accept-Encoding": "br"}, map[string]string{"Origin": "null"}, map[string]string{"Content-Encoding": "gzip"},
			map[string]string{"Range": "bytes=0-"}, map[string]string{"Expect": "100-continue"}, map[string]string{"Cookie": strings.Repeat("a", 5000)}) {
			s.header.Set(name, strings.Map(inHeader, value))
		}
	}
}

// inHeader drops what a client could not even send.
func inHeader(c rune) rune {
	if c < ' ' || c == 0x7f {
		return -1
	}
	return c
}

// body writes what the operation takes, or several of it for a stream.
func (g *generator) body() string {
	if g.raw != "" && g.roll(4) == 0 {
		return g.raw
	}
	i := slices.IndexFunc(g.op.Parameters, func(p parameter) bool { return p.In == "body" })
	if i < 0 {
		return "{}"
	}
	var b strings.Builder
	for range 1 + g.roll(3)*map[bool]int{true: 1}[g.op.sends] {
		g.value(&b, "", g.op.Parameters[i].Schema)
		b.WriteString(map[bool]string{true: "\n"}[g.op.sends])
	}
	text := b.String()
	if !g.mischief() {
		return text
	}
	return pick(&g.dice, text+text, text[:len(text)/2], text+"}", "", "[]", "\ufeff"+text, "null", "<xml/>", "\xff"+text, " \n\t"+text+"\n",
		strings.ReplaceAll(text, `"`, "'"), text+strings.Repeat(" ", 1<<20), `{"a":"`+strings.Repeat("x", 1<<20)+`"}`, strings.Repeat("[", 1<<16))
}

// needed are the properties that must be there although the document does not
// say so, as another message with the same property need not have it.
func needed() []string {
	return []string{"name", "sku", "category", "price", "currency_code", "units", "source", "sequence", "product_id"}
}

// object writes the properties that nobody but the server sets only by mischief.
func (g *generator) object(b *strings.Builder, s *schema) {
	var members []string
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		p := s.Properties[name]
		must := slices.Contains(s.Required, name) || g.op.method != "PATCH" && slices.Contains(needed(), name)
		if p.ReadOnly && !g.mischief() || !must && !p.ReadOnly && g.roll(2) == 0 {
			continue
		}
		var member strings.Builder
		member.WriteString(quoted(name) + ":")
		g.value(&member, name, p)
		members = append(members, member.String())
	}
	if g.mischief() {
		members = append(members, pick(&g.dice, quoted(g.hostile())+":1", `"id":"x"`, `"role":"admin"`, `"roles":["admin"]`, `"__proto__":{}`, `"":{}`))
	}
	if len(members) > 0 && g.mischief() {
		members = append(members, members[g.roll(len(members))])
	}
	b.WriteString("{" + strings.Join(members, ",") + "}")
}

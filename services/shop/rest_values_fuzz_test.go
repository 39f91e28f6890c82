package shop

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// dice decides by the bytes of the fuzzer. When they are used up it always
// chooses the first, which is what makes sense.
type dice struct{ left []byte }

func (d *dice) roll(n int) int {
	if len(d.left) == 0 {
		return 0
	}
	b := d.left[0]
	d.left = d.left[1:]
	return int(b) % n
}

func pick[T any](d *dice, all ...T) T { return all[d.roll(len(all))] }

// hostileTexts are what a field or a parameter is given in place of a text that
// makes sense.
func hostileTexts() []string {
	return []string{
		"", " ", "\x00", "a\x00b", "🫖👩‍👩‍👧", strings.Repeat("x", 201), strings.Repeat("x", 5001), strings.Repeat("🫖", 129),
		"'; DROP TABLE orders; --", `" OR 1=1`, "%", "_", "$1", "?", "../../etc/passwd", "\u202egum", "\ufeff", "null", "-1", "0", "1.5",
		"9223372036854775807", "9223372036854775808", "1e400", "NaN", "true", "{}", "[]", "<script>alert(1)</script>", "%00", "%zz",
		"${jndi:ldap://x}", "a\r\nX-Evil: 1", "00000000-0000-0000-0000-000000000000", "019a0000-0000-7000-8000-00000000ZZZZ", "*", ".", "..",
		"a/b", "a:cancel", "a?b=c", "a#b", "a;b", strings.Repeat("(", 500), strings.Repeat("name = x OR ", 60) + "name = x", "\u2028",
		"user@xn--exmple-cua.com", "a@b", `"a b"@example.com`, "A@EXAMPLE.COM", "é@example.com", "2026-13-45T99:99:99Z", "EUR", "XXX", "https://x.example/\x7f",
	}
}

// hostileJSON are what a value in a body is replaced by, as it is written.
func hostileJSON() []string {
	return []string{
		"null", "true", "-1", "0", "1.5", "1e3", "1e999", "-0", "2147483648", "-2147483649", "99999999999999999999", `"9223372036854775807"`,
		`"-9223372036854775808"`, `"NaN"`, `"1.0"`, "[]", "{}", "[[[[]]]]", `[null]`, `{"":""}`, `{"@type":"type.googleapis.com/google.protobuf.Any"}`,
		strings.Repeat("[", 60) + strings.Repeat("]", 60), strings.Repeat(`{"a":`, 12_000) + "1" + strings.Repeat("}", 12_000),
		`"\ud800"`, "\"\xff\xfe\"", `"\u0000"`, `"\x"`, "tru", "", "01", "+1", "'x'", "NaN", "1,2", "[" + strings.Repeat("1,", 5000) + "1]",
		"[" + strings.Repeat("{},", 200) + "{}]", `{"currency_code":"EUR","units":"9223372036854775807","nanos":999999999}`,
		`{"currency_code":"EUR","units":"1","nanos":-1}`, `{"currency_code":"JPY","units":"9223372036853","nanos":1}`, `{"units":1,"units":2}`,
		"\"" + strings.Repeat("a", 70_000) + "\"", "/**/1", "0x10", "\u00a01", "[1,]", `{"a":1,}`,
	}
}

// hostile returns a text of the fuzzer's own, if there is one, or of ours.
func (g *generator) hostile() string {
	if g.raw != "" && g.roll(2) == 1 {
		return g.raw
	}
	return pick(&g.dice, g.texts...)
}

func quoted(s string) string {
	text, _ := json.Marshal(s) // a string always encodes
	return string(text)
}

// text returns one that makes sense for what has this name.
func (g *generator) text(name string) string {
	switch name {
	case "id", "product_id", "product.id", "user.id", "ids", "product_ids":
		return g.id(name)
	case "request_id":
		return fmt.Sprintf("019a0000-0000-7000-8000-%06x%06x", g.roll(256), g.roll(256))
	case "email":
		return pick(&g.dice, g.people[0].email, fmt.Sprintf("u%d-%d@example.com", g.roll(256), g.roll(256)), g.people[1].email)
	case "password":
		return pick(&g.dice, userPassword, "another-pass-phrase")
	case "refresh_token":
		return pick(&g.dice, g.people[0].refresh, g.people[1].refresh)
	case "payment_token":
		return pick(&g.dice, "tok_visa", "tok_chargeDeclined", "tok_mastercard", "tok_chargeDeclinedExpiredCard")
	case "sku":
		return "fuzz-" + strconv.Itoa(g.roll(256))
	case "category":
		return pick(&g.dice, "kitchen", "outdoors")
	case "source":
		return "warehouse-" + strconv.Itoa(g.roll(4))
	case "language":
		return pick(&g.dice, "en", "de", "tr", "")
	case "currency_code":
		return pick(&g.dice, "EUR", "JPY", "USD")
	case "etag", "resume_token":
		return ""
	case "page_token":
		return pick(&g.dice, "", g.people[0].cursor)
	case "order_by":
		return pick(&g.dice, "", "create_time", "update_time desc", "create_time desc,update_time", "name", "price.units desc, name")
	case "filter":
		return pick(&g.dice, "", `create_time > "2026-01-01T00:00:00Z"`, "state = COMPLETED", `name:"mug" AND price.units < 50`,
			`category = "kitchen" OR NOT sku = "x"`, `email:"example" OR display_name = "Ada"`)
	}
	return pick(&g.dice, "Ada", "Grace Hopper", "Ünïcødé 🫖", "x")
}

// id returns an id of the kind that the path is about: of one's own, of
// somebody else's, of nothing, of another kind.
func (g *generator) id(name string) string {
	ids := []string{g.goods[0], g.goods[1], g.goods[2], g.goods[3]}
	me, other := g.people[0], g.people[1]
	if !strings.HasPrefix(name, "product") {
		switch collection(g.op) {
		case "products", "stock":
		case "orders":
			ids = []string{me.order, other.order}
		case "payments":
			ids = []string{me.payment, other.payment}
		case "users":
			ids = []string{me.id, other.id}
			if g.caller != g.admin { // who would be gone for good
				ids = append(ids, "me")
			}
		default:
			if g.newest != "" {
				ids = []string{g.newest}
			}
		}
	}
	return pick(&g.dice, append(ids, ids[0], ids[0], "019a0000-0000-7000-8000-000000000000", strings.ToUpper(ids[0]))...)
}

// integer returns a number that makes sense for what has this name.
func (g *generator) integer(name string) string {
	switch name {
	case "quantity":
		return strconv.Itoa(1 + g.roll(3))
	case "sequence":
		return strconv.Itoa(1 + g.roll(256))
	case "delta":
		return strconv.Itoa(g.roll(200) - 50)
	case "nanos":
		return pick(&g.dice, "0", "0", "500000000", "990000000")
	case "available", "initial_stock":
		return strconv.Itoa(100 + g.roll(156))
	}
	return strconv.Itoa(g.roll(30))
}

// value writes one that a schema describes, with a hostile one here and there.
func (g *generator) value(b *strings.Builder, name string, s *schema) {
	s = g.doc.resolve(s)
	if g.mischief() {
		if g.roll(2) == 0 {
			b.WriteString(quoted(g.hostile()))
		} else {
			b.WriteString(pick(&g.dice, g.values...))
		}
		return
	}
	switch {
	case s.Type == "object":
		g.object(b, s)
	case s.Type == "array":
		b.WriteByte('[')
		for i := range 1 + g.roll(3) {
			if i > 0 {
				b.WriteByte(',')
			}
			g.value(b, name, s.Items)
		}
		b.WriteByte(']')
	case s.Type == "boolean":
		b.WriteString(pick(&g.dice, "true", "false"))
	case s.Enum != nil:
		b.WriteString(quoted(pick(&g.dice, s.Enum...)))
	case s.Type == "integer":
		b.WriteString(g.integer(name))
	case s.Format == "int64":
		b.WriteString(quoted(g.integer(name)))
	case s.Format == "date-time":
		b.WriteString(`"2026-01-02T03:04:05Z"`)
	default:
		b.WriteString(quoted(g.text(name)))
	}
}

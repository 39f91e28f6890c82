package list

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/meshmart/meshmart/services/internal/db"
	"github.com/meshmart/meshmart/services/internal/db/dbtest"
)

func TestFilterFinds(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		const day = 86_400_000_000
		for _, g := range []good{
			{"a", "Blue Mug", 12_500_000, 3, 1 * day, "NEW"},
			{"b", "100% wool_hat", 19_990_000, 0, 2 * day, "NEW"},
			{"c", `it's a "cup"!`, 19_990_001, -2, 3 * day, "SOLD"},
			{"d", "mug\\", 9_007_199_254_740_993, 8, 4*day + 1, "SOLD"},
			{"e", "", 0, 10, 5 * day, "NEW"},
		} {
			put(t, d, g, false)
		}
		for _, c := range []struct{ filter, want string }{
			{``, "abcde"}, {"  ", "abcde"},
			{`name = "Blue Mug"`, "a"}, {`name = "blue mug"`, ""}, {`name != "Blue Mug"`, "bcde"}, {`name=''`, "e"},
			{`name:"mug"`, "ad"}, {`name:MUG`, "ad"}, {`name:"0%"`, "b"}, {`name:"%"`, "b"}, {`name:"_"`, "b"},
			{`name:"!"`, "c"}, {`name:'\\'`, "d"}, {`name:"\"cup"`, "c"}, {`name:"'"`, "c"}, {`name:*`, "abcd"}, {`name:""`, "abcde"},
			{`name = "x' OR '1' = '1"`, ""},
			{`price.units < 19.99`, "ae"}, {`price.units <= 19.99`, "abe"}, {`price.units = 19.99`, "b"},
			{`price.units > 19.99`, "cd"}, {`price.units = 19.990001`, "c"}, {`price.units = 19.9900005`, ""},
			{`price.units > 19.9900005`, "cd"}, {`price.units >= 19.9900005`, "cd"}, {`price.units < 19.9900015`, "abce"},
			{`price.units = 9007199254.740993`, "d"}, {`price.units = 9007199254.740992`, ""}, {`price.units != 0.1`, "abcde"},
			{`price.units != 0.00000001`, "abcde"}, {`price.units<9223372036854775807`, "abcde"},
			{`price.units > 9223372036854775807`, ""}, {`price.units >= -9223372036854775807`, "abcde"},
			{`stock = 010`, "e"}, {`stock = 08`, "d"}, {`stock = 0x8`, "d"}, {`stock = -2`, "c"}, {`stock > -1.5`, "abde"},
			{`stock < -1.5`, "c"}, {`stock <= -2.`, "c"}, {`stock > .5 AND stock<8`, "a"},
			{`state = SOLD`, "cd"}, {`state = "NEW"`, "abe"}, {`state != NEW`, "cd"}, {`NOT state = NEW`, "cd"}, {`-state = NEW`, "cd"},
			{`create_time < "1970-01-03T00:00:00Z"`, "a"}, {`create_time <= timestamp("1970-01-03T02:00:00+02:00")`, "ab"},
			{`create_time > "1970-01-05T00:00:00Z"`, "de"}, {`create_time > "1970-01-05T00:00:00.0000005Z"`, "de"},
			{`create_time >= "1970-01-05T00:00:00.000001001Z"`, "e"}, {`create_time > "0000-01-01T00:00:00Z"`, "abcde"},
			{`create_time < "9999-12-31T23:59:59Z"`, "abcde"},
			{`state = NEW AND stock > 0`, "ae"}, {`state = NEW stock > 0`, "ae"}, {`name:mug OR name:hat`, "abd"},
			{`state = SOLD AND name:mug OR stock = 0`, "d"}, // OR binds closer
			{`(state = SOLD AND name:mug) OR stock = 0`, "bd"}, {`( state = SOLD )AND( NOT(name:mug ) )`, "c"},
			{`NOT (state = NEW OR stock = 8)`, "c"}, {"state = NEW\n\tAND stock = 0", "b"},
			{strings.Repeat("(", 20) + `stock = 0` + strings.Repeat(")", 20), "b"},
			{strings.Repeat("stock = 0 AND ", 49) + `stock = 0`, "b"}, {strings.Repeat("stock = 1 OR ", 49) + `stock = 0`, "b"},
		} {
			items, _ := page(t, d, request{filter: c.filter})
			if diff := cmp.Diff(strings.Join(ids(items), ""), c.want); diff != "" {
				t.Errorf("%s: %s", c.filter, diff)
			}
		}
	}, schema())
}

func TestBadFilterNamesWhatIsWrong(t *testing.T) {
	for filter, says := range map[string]string{
		`colour = "red"`: `"colour"`, `secret = "x"`: `"secret"`, `price_micros = 1`: `"price_micros"`, `price = 1`: `"price"`,
		`price.units.x = 1`: `"price.units.x"`, `1 = stock`: `"1"`, `"red" = name`: `"\"red\""`, `f(name) = 1`: `"f(name)"`,
		`mug`: `"mug"`, `"mug"`: `mug`, `name:mug OR hat`: `"hat"`, `price.units`: `"price.units"`, `7`: `"7"`, `NOT mug`: `"mug"`,
		`name = 7`: `"name"`, `name = -0.5`: `"-0.5"`, `stock = "7"`: `"stock"`, `stock = many`: `"many"`, `stock:7`: `":"`,
		`stock = timestamp("2026-01-01T00:00:00Z")`: `"stock"`, `name = (stock = 1)`: `"name"`,
		`create_time > 7`: `"create_time"`, `create_time > "yesterday"`: `yesterday`, `create_time = timestamp(7)`: `instant`,
		`create_time = timestamp()`: `instant`, `create_time = duration("5s")`: `instant`, `create_time > "2026-13-01T00:00:00Z"`: `instant`,
		`state = LOST`: `NEW, SOLD`, `state = 1`: `NEW, SOLD`, `state > NEW`: `"state"`, `state:NEW`: `":"`,
		`name = "a` + "\x00" + `b"`: "zero byte", `name = "\x00"`: "zero byte", `name = "` + "\xff" + `"`: "can't be read",
		`name = `: "too early", `name = "x`: `"\"x"`, `name = 'it''s'`: `"'s'"`, `(name = x`: "too early", `name = x)`: `")"`,
		`= x`: `"= x"`, `name == x`: `"= x"`, `name = x AND`: "AND", `stock = 99999999999999999999`: "99999999999999999999",
		`stock = 1e3`: `"e3"`, `f(x)`: `"f"`, `AND()`: "AND", `OR(name)`: "OR", `stock = 5 ; DROP TABLE goods`: `;`,
		strings.Repeat("(", 21) + `stock = 0` + strings.Repeat(")", 21): "20 parentheses",
		strings.Repeat("stock = 0 AND ", 50) + `stock = 0`:              "50 comparisons",
		strings.Repeat("mug ", 900):                                     `"mug"`,
		strings.Repeat("m", 5000):                                       "bytes",
		strings.Repeat("m", 3999):                                       "mmm...",
	} {
		refuses(t, request{filter: filter}, "filter", says)
	}
}

func BenchmarkParse(b *testing.B) {
	r := request{filter: `category = "x" OR name:"mug" AND price.units < 50`, orderBy: "price.units desc"}
	s := goods()
	s.Fields["category"] = s.Fields["name"]
	for b.Loop() {
		if _, err := s.Parse(r); err != nil {
			b.Fatal(err)
		}
	}
}

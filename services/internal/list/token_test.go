package list

import (
	"encoding/base64"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// tokenFor returns the page token after a row with this name and price.
func tokenFor(t *testing.T, r request, name string, price int64) string {
	t.Helper()
	q, err := goods().Parse(r)
	if err != nil {
		t.Fatal(err)
	}
	id := "id1"
	return q.token([]any{&name, &price, &id})
}

func TestTokenKeepsKeysExactly(t *testing.T) {
	r := request{orderBy: "name, price.units", filter: "stock > 0"}
	for _, price := range []int64{0, -1, math.MaxInt64, math.MinInt64, 1<<53 + 1} {
		for _, name := range []string{"", `<"'\&>`, "Müller 🫖", strings.Repeat("x", 200), "null"} {
			r.token = tokenFor(t, r, name, price)
			q, err := goods().Parse(r)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(q.after.args, []any{name, price, "id1"}); diff != "" {
				t.Error(diff)
			}
		}
	}
}

func TestTokenOfTheLongestNamesFitsTheContract(t *testing.T) {
	r := request{orderBy: "name, price.units"}
	if n := len(tokenFor(t, r, strings.Repeat("🫖", 200), math.MinInt64)); n > 2000 {
		t.Errorf("%d bytes, a request takes 2000", n)
	}
}

func TestTokenBelongsToItsRequest(t *testing.T) {
	r := request{orderBy: "name, price.units", filter: "stock > 0"}
	token := tokenFor(t, r, "a", 1)
	for _, other := range []request{
		{orderBy: "name, price.units"}, {orderBy: "name, price.units", filter: "stock > 1"}, {filter: "stock > 0"},
		{orderBy: "name desc, price.units", filter: "stock > 0"}, {orderBy: "price.units, name", filter: "stock > 0"},
	} {
		other.token = token
		refuses(t, other, "page_token", "another filter or order_by")
	}
	// The same order in other words is the same, and so is another size.
	same := request{orderBy: " name asc,price.units ", filter: " stock > 0", token: token, size: 7}
	if _, err := goods().Parse(same); err != nil {
		t.Error(err)
	}
}

func TestGarbageIsNoToken(t *testing.T) {
	r := request{orderBy: "name, price.units"}
	good := tokenFor(t, r, "a", 1)
	text, err := base64.RawURLEncoding.DecodeString(good)
	if err != nil {
		t.Fatal(err)
	}
	encode := func(from, to string) string {
		return base64.RawURLEncoding.EncodeToString([]byte(strings.Replace(string(text), from, to, 1)))
	}
	if encode("", "") != good {
		t.Fatal("the table is worth nothing")
	}
	for _, token := range []string{
		"x", "!", "e30=", good[:len(good)-1], good + "A", good + "=", " " + good, strings.Repeat("A", maxToken+1),
		encode(`"a"`, `1`), encode(`"a"`, `null`), encode(`"a"`, `["a"]`), encode(`"a"`, `"\u0000"`), encode(`"a",`, ``),
		encode(`1,`, `1.5,`), encode(`1,`, `1e2,`), encode(`1,`, `"1",`), encode(`1,`, `99999999999999999999,`), encode(`1,`, `1,1,`),
		encode(`}`, `,"x":1}`), encode(`}`, `}}`), encode(`}`, `}{}`), encode(`{`, `[`),
	} {
		r.token = token
		refuses(t, r, "page_token", "not one that was given out")
	}
	r.token = encode(`"p":"`, `"p":"x`)
	refuses(t, r, "page_token", "another")
}

package list

import (
	"encoding/base64"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/meshmart/meshmart/services/internal/db"
	"github.com/meshmart/meshmart/services/internal/db/dbtest"
	"github.com/meshmart/meshmart/services/internal/fault"
)

// sqlWords are the words of the SQL that may come of a request for goods.
var sqlWords = regexp.MustCompile(`^( |\(|\)|,|'!'|''|<>|<=|>=|=|<|>|\$\d+|1 = [01]|` +
	`WHERE|AND|OR|NOT|LOWER|LIKE|ESCAPE|ORDER|BY|DESC|LIMIT|id|name|price_micros|stock|state|created|deleted)+$`)

// shelf returns a SQLite database with the goods that the fuzz targets list.
func shelf(f *testing.F) *db.DB {
	f.Helper()
	d := dbtest.Open(f, dbtest.SQLite(f), schema())
	for _, g := range []good{
		{"a", "Blue Mug", 12_500_000, 3, 1, "NEW"}, {"b", "100% wool_hat", 19_990_000, 0, 86_400_000_000, "NEW"},
		{"c", `it's a "cup"!`, 19_990_001, -2, 5, "SOLD"}, {"d", "mug\\", 1<<63 - 1, 1<<63 - 1, 1<<63 - 1, "SOLD"},
		{"e", "", -1 << 63, -1 << 63, -1 << 63, "NEW"}, {"f", "Blue Mug", 12_500_000, 3, 1, "NEW"}, {"g", "", 0, 0, 0, "SOLD"},
	} {
		put(f, d, g, false)
	}
	put(f, d, good{ID: "z", Name: "deleted"}, true)
	return d
}

// shelved is how many goods of the shelf are not deleted.
const shelved = 7

// listed returns the ids of the page that r asks for and the token of the next.
// A request that makes no sense has ok false; it must be refused with a fault.
func listed(t *testing.T, d *db.DB, r request) (ids []string, next string, ok bool) {
	t.Helper()
	q, err := goods().Parse(r)
	if err != nil {
		if fault.As(err) == nil {
			t.Fatalf("%+v: %v", r, err)
		}
		return nil, "", false
	}
	tail, args := q.Page("deleted = $1", false)
	if !sqlWords.MatchString(tail) {
		t.Fatalf("%+v became %s", r, tail)
	}
	rows, err := d.Query(t.Context(), "SELECT id, "+q.Keys()+" FROM goods"+tail, args...)
	if err != nil {
		t.Fatalf("%+v became %s: %v", r, tail, err)
	}
	ids, next, err = Scan(q, rows, func(r Row) (id string, err error) { return id, r.Scan(&id) })
	if err != nil {
		t.Fatalf("%+v became %s: %v", r, tail, err)
	}
	return ids, next, true
}

// counted returns how many goods match the filter of r, which makes sense.
func counted(t *testing.T, d *db.DB, r request) (n int) {
	t.Helper()
	q, err := goods().Parse(r)
	if err != nil {
		t.Fatalf("%+v: %v", r, err)
	}
	text, args := q.Count("goods", "deleted = $1", false)
	if err := d.Row(t.Context(), text, args...).Scan(&n); err != nil {
		t.Fatalf("%+v became %s: %v", r, text, err)
	}
	return n
}

// FuzzFilter runs what comes of a filter: it finds what its negation does not,
// and what the count says.
func FuzzFilter(f *testing.F) {
	d := shelf(f)
	f.Fuzz(func(t *testing.T, filter string) {
		ids, _, ok := listed(t, d, request{filter: filter})
		if !ok {
			return
		}
		if n := counted(t, d, request{filter: filter}); n != len(ids) {
			t.Errorf("%q finds %q and counts %d", filter, ids, n)
		}
		if strings.TrimSpace(filter) == "" {
			return
		}
		others, _, ok := listed(t, d, request{filter: "NOT (" + filter + ")"})
		if ok && len(ids)+len(others) != shelved {
			t.Errorf("%q finds %q, and NOT %q", filter, ids, others)
		}
	})
}

// FuzzOrderBy walks through the pages of any order: each item comes once.
func FuzzOrderBy(f *testing.F) {
	d := shelf(f)
	f.Fuzz(func(t *testing.T, orderBy string, size int32) {
		r := request{orderBy: orderBy, size: size}
		seen := map[string]bool{}
		for range shelved + 1 {
			ids, next, ok := listed(t, d, r)
			if !ok {
				if r.token != "" {
					t.Fatalf("%+v: a token that was given out is refused", r)
				}
				return
			}
			for _, id := range ids {
				if seen[id] {
					t.Fatalf("order %q: %s comes twice", orderBy, id)
				}
				seen[id] = true
			}
			if r.token = next; next == "" {
				break
			}
		}
		if len(seen) != shelved {
			t.Errorf("order %q, pages of %d: %v", orderBy, size, seen)
		}
	})
}

// tokenOrder is the order of the lists to which the fuzzed page tokens belong.
const tokenOrder = "name, price.units desc"

// FuzzPageToken begins at tokens that nobody gave out: as they are, or as what
// such a token says, with @ for the list that it belongs to, which goes deeper.
func FuzzPageToken(f *testing.F) {
	d := shelf(f)
	q, err := goods().Parse(request{orderBy: tokenOrder})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, token string, inner bool) {
		if inner {
			token = base64.RawURLEncoding.EncodeToString([]byte(strings.ReplaceAll(token, "@", q.print)))
		}
		ids, _, _ := listed(t, d, request{token: token, orderBy: tokenOrder})
		if len(ids) > shelved {
			t.Errorf("%q finds %q", token, ids)
		}
		if p, _, _ := listed(t, d, request{token: token, orderBy: tokenOrder, filter: "deleted = true"}); p != nil {
			t.Errorf("%q shows what can't be asked for: %q", token, p)
		}
	})
}

// FuzzTokenKeepsKeys has any row be the last of a page.
func FuzzTokenKeepsKeys(f *testing.F) {
	r := request{orderBy: tokenOrder}
	q, err := goods().Parse(r)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, name string, price int64, id string) {
		if !utf8.ValidString(name) || !utf8.ValidString(id) || strings.ContainsRune(name+id, 0) {
			return // no database has it
		}
		r.token = q.token([]any{&name, &price, &id})
		next, err := goods().Parse(r)
		if err != nil {
			if len(r.token) <= maxToken {
				t.Errorf("%q: %v", r.token, err)
			}
			return
		}
		// The first key comes twice: an index needs it alone.
		want := []any{name, name, name, price, price, id}
		if diff := cmp.Diff(next.after.args, want); diff != "" {
			t.Error(diff)
		}
		if got := fmt.Sprint(next.after.sql); strings.Count(got, "?") != len(want) {
			t.Errorf("%s has other than %d arguments", got, len(want))
		}
	})
}

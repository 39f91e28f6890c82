package list

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	"github.com/meshmart/meshmart/services/internal/db"
	"github.com/meshmart/meshmart/services/internal/db/dbtest"
	"github.com/meshmart/meshmart/services/internal/fault"
)

// goods is what the tests list.
func goods() *Spec {
	return &Spec{
		Fields: map[string]Field{
			"name":        {Column: "name", Filter: true, Sort: true},
			"price.units": {Column: "price_micros", Kind: Int, Scale: 1_000_000, Filter: true, Sort: true},
			"stock":       {Column: "stock", Kind: Int, Filter: true, Sort: true},
			"state":       {Column: "state", Kind: Enum, Values: Named("NEW", "SOLD"), Filter: true},
			"create_time": {Column: "created", Kind: Time, Filter: true, Sort: true},
			"secret":      {Column: "secret"},
		},
		Order: "create_time",
		Key:   "id",
	}
}

func schema() db.Schema {
	return db.Schema{Name: "goods", FS: fstest.MapFS{"schema/001_goods.sql": {Data: []byte(`-- +goose Up
CREATE TABLE goods (
  id TEXT PRIMARY KEY, name TEXT NOT NULL, price_micros BIGINT NOT NULL, stock BIGINT NOT NULL,
  state TEXT NOT NULL, created BIGINT NOT NULL, secret TEXT NOT NULL, deleted BOOLEAN NOT NULL
);
CREATE INDEX goods_price ON goods (price_micros, id);
-- +goose Down
DROP TABLE goods;
`)}}}
}

type request struct {
	size                   int32
	token, filter, orderBy string
}

func (r request) GetPageSize() int32   { return r.size }
func (r request) GetPageToken() string { return r.token }
func (r request) GetFilter() string    { return r.filter }
func (r request) GetOrderBy() string   { return r.orderBy }

type good struct {
	ID, Name              string
	Price, Stock, Created int64
	State                 string
}

func put(t testing.TB, d *db.DB, g good, deleted bool) {
	t.Helper()
	if g.State == "" {
		g.State = "NEW"
	}
	_, err := d.Exec(t.Context(), "INSERT INTO goods VALUES ($1, $2, $3, $4, $5, $6, 'x', $7)",
		g.ID, g.Name, g.Price, g.Stock, g.State, g.Created, deleted)
	if err != nil {
		t.Fatal(err)
	}
}

// page reads a page as a service does.
func page(t testing.TB, d *db.DB, r request) ([]good, string) {
	t.Helper()
	q, err := goods().Parse(r)
	if err != nil {
		t.Fatalf("%+v: %v", r, err)
	}
	tail, args := q.Page("deleted = $1", false)
	rows, err := d.Query(t.Context(), "SELECT id, name, price_micros, stock, state, created, "+q.Keys()+" FROM goods"+tail, args...)
	if err != nil {
		t.Fatalf("%s: %v", tail, err)
	}
	items, next, err := Scan(q, rows, func(r Row) (g good, err error) {
		return g, r.Scan(&g.ID, &g.Name, &g.Price, &g.Stock, &g.State, &g.Created)
	})
	if err != nil {
		t.Fatalf("%s: %v", tail, err)
	}
	return items, next
}

func ids(goods []good) []string {
	var ids []string
	for _, g := range goods {
		ids = append(ids, g.ID)
	}
	return ids
}

// random returns goods with so few values that many are alike in all but the id.
func random(n int) []good {
	all := make([]good, n)
	for i := range all {
		all[i] = good{
			ID: fmt.Sprintf("id%04d", rand.IntN(1000)*10), Name: string(rune('a' + rand.IntN(3))), State: "NEW",
			Price: int64(rand.IntN(3)-1) * (1 << 60), Created: int64(rand.IntN(5)),
		}
	}
	slices.SortFunc(all, func(a, b good) int { return strings.Compare(a.ID, b.ID) })
	return slices.CompactFunc(all, func(a, b good) bool { return a.ID == b.ID })
}

// orders returns every order_by over up to all of the fields.
func orders(fields ...string) []string {
	var all []string
	for i, f := range fields {
		rest := append(slices.Clone(fields[:i]), fields[i+1:]...)
		for _, way := range []string{f, f + " desc"} {
			all = append(all, way)
			for _, more := range orders(rest...) {
				all = append(all, way+", "+more)
			}
		}
	}
	return all
}

// sorted returns the ids in the order that orderBy asks for, as Go sorts.
func sorted(all []good, orderBy string) []string {
	all = slices.Clone(all)
	slices.SortFunc(all, func(a, b good) int {
		desc, c := false, 0
		for term := range strings.SplitSeq(orderBy, ", ") {
			name, way, _ := strings.Cut(term, " ")
			desc = way == "desc"
			switch name {
			case "name":
				c = strings.Compare(a.Name, b.Name)
			case "price.units":
				c = int(a.Price>>60) - int(b.Price>>60)
			case "create_time":
				c = int(a.Created - b.Created)
			}
			if c != 0 {
				break
			}
		}
		if c == 0 {
			c = strings.Compare(a.ID, b.ID)
		}
		if desc {
			c = -c
		}
		return c
	})
	return ids(all)
}

func TestPagesTogetherAreTheSortedList(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		all := random(100)
		for i, g := range all {
			put(t, d, g, false)
			put(t, d, good{ID: "x" + g.ID, Name: all[i].Name}, true)
		}
		for _, orderBy := range orders("name", "price.units", "create_time") {
			var got []string
			r := request{size: int32(1 + rand.IntN(40)), orderBy: orderBy}
			for {
				items, next := page(t, d, r)
				if len(items) > int(r.size) {
					t.Fatalf("%d items, asked for %d", len(items), r.size)
				}
				got = append(got, ids(items)...)
				if r.token = next; next == "" {
					break
				}
			}
			if diff := cmp.Diff(got, sorted(all, orderBy)); diff != "" {
				t.Fatalf("%s, %d at a time: %s", orderBy, r.size, diff)
			}
		}
	}, schema())
}

func TestRowsThatComeInBetweenRepeatAndHideNone(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		all := random(60)
		for _, g := range all {
			put(t, d, g, false)
		}
		for _, orderBy := range []string{"", "name", "name desc, create_time"} {
			seen := map[string]int{}
			r := request{size: 7, orderBy: orderBy}
			for n := 0; n == 0 || r.token != ""; n++ {
				var items []good
				items, r.token = page(t, d, r)
				for _, g := range items {
					seen[g.ID]++
				}
				put(t, d, good{ID: fmt.Sprintf("new%s%d", orderBy, n), Name: "a"}, false)
			}
			for _, g := range all {
				if seen[g.ID] != 1 {
					t.Errorf("by %q: %s came %d times", orderBy, g.ID, seen[g.ID])
				}
			}
			for id, n := range seen {
				if n != 1 {
					t.Errorf("by %q: %s came %d times", orderBy, id, n)
				}
			}
		}
	}, schema())
}

func TestCountIsOfAllPagesButNoMoreThanTheLimit(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		_, err := d.Exec(t.Context(), `INSERT INTO goods SELECT 'id' || n, 'a', n, 0, 'NEW', 0, 'x', FALSE
			FROM (WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < 1005) SELECT n FROM s) AS many`)
		if err != nil {
			t.Fatal(err)
		}
		for filter, want := range map[string]int{"": maxCount, "price.units < 0.000010": 9, `name = "b"`: 0} {
			q, err := goods().Parse(request{size: 3, filter: filter})
			if err != nil {
				t.Fatal(err)
			}
			query, args := q.Count("goods", "deleted = $1", false)
			var got int
			if err := d.Row(t.Context(), query, args...).Scan(&got); err != nil {
				t.Fatalf("%s: %v", query, err)
			}
			if got != want {
				t.Errorf("%s: got %d, want %d", filter, got, want)
			}
		}
	}, schema())
}

func TestPagesAreFoundByIndex(t *testing.T) {
	d := dbtest.Open(t, dbtest.SQLite(t), schema())
	for _, orderBy := range []string{"price.units", "price.units desc", ""} {
		for _, where := range []string{"first", "next"} {
			s := goods()
			s.Order = ""
			r := request{size: 1, orderBy: orderBy}
			q, err := s.Parse(r)
			if err != nil {
				t.Fatal(err)
			}
			if where == "next" {
				price, id := int64(1), "id1"
				r.token = q.token([]any{&price, &id}[2-len(q.order):])
				if q, err = s.Parse(r); err != nil {
					t.Fatal(err)
				}
			}
			tail, args := q.Page("")
			plan := explain(t, d, "SELECT id, "+q.Keys()+" FROM goods"+tail, args)
			if strings.Contains(plan, "TEMP B-TREE") || !strings.Contains(plan, "USING ") ||
				where == "next" && !strings.Contains(plan, "SEARCH") {
				t.Errorf("by %q, %s page: %s\n%s", orderBy, where, tail, plan)
			}
		}
	}
}

func TestMixedDirectionsBoundTheIndexToo(t *testing.T) {
	d := dbtest.Open(t, dbtest.SQLite(t), schema())
	q := &Query{order: []sortKey{{"price_micros", Int, false}, {"name", String, true}, {"id", String, true}}}
	q.after = afterRow(q.order, []any{int64(1), "a", "id1"})
	tail, args := q.Page("")
	if plan := explain(t, d, "SELECT id FROM goods"+tail, args); !strings.Contains(plan, "SEARCH goods USING INDEX goods_price") {
		t.Errorf("%s\n%s", tail, plan)
	}
}

func explain(t *testing.T, d *db.DB, query string, args []any) string {
	t.Helper()
	rows, err := d.Query(t.Context(), "EXPLAIN QUERY PLAN "+query, args...)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	defer rows.Close()
	var plan strings.Builder
	for rows.Next() {
		var id, parent, unused int
		var detail string
		if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
			t.Fatal(err)
		}
		plan.WriteString(detail + "\n")
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return plan.String()
}

func TestPageSizeIsDefaultedBoundedAndNotNegative(t *testing.T) {
	for size, want := range map[int32]int{0: 50, 1: 1, 1000: 1000, 1001: 1000, 1 << 30: 1000} {
		q, err := goods().Parse(request{size: size})
		if err != nil || q.Limit() != want {
			t.Errorf("%d: got %v, %v, want %d", size, q, err, want)
		}
	}
	refuses(t, request{size: -1}, "page_size", "negative")
}

// refuses checks that the request is refused because of the field, and that
// the text says so.
func refuses(t *testing.T, r request, field, says string) {
	t.Helper()
	q, err := goods().Parse(r)
	f := fault.As(err)
	if f == nil || f.Code() != codes.InvalidArgument || len(f.Fields()) != 1 || f.Fields()[0].Field != field {
		t.Errorf("%+v: got %+v, %v, want a fault of %s", r, q, err, field)
		return
	}
	if text := f.Fields()[0].Text; !strings.Contains(text, says) || len(text) > 400 {
		t.Errorf("%+v: got %q, want it to say %q", r, text, says)
	}
}

func TestBadOrderNamesTheField(t *testing.T) {
	for orderBy, says := range map[string]string{
		"colour": `"colour"`, "secret": `"secret"`, "state": `"state"`, "price_micros": `"price_micros"`,
		"name, name desc": "twice", "name down": "desc", "name,": "commas", ",": "commas", "name;": "commas",
		"name desc desc": "commas", strings.Repeat("a", 2000): "1000 bytes", "name DESC": "desc",
	} {
		refuses(t, request{orderBy: orderBy}, "order_by", says)
	}
}

func TestMistakesInASpecAreFound(t *testing.T) {
	if err := goods().Check(); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*Spec){
		"no key":          func(s *Spec) { s.Key = "" },
		"no column":       func(s *Spec) { s.Fields["name"] = Field{} },
		"enum of nothing": func(s *Spec) { s.Fields["state"] = Field{Column: "state", Kind: Enum} },
		"sorted enum":     func(s *Spec) { s.Fields["state"] = Field{Column: "state", Kind: Enum, Values: Named("A"), Sort: true} },
		"scaled text":     func(s *Spec) { s.Fields["name"] = Field{Column: "name", Scale: 10} },
		"unknown order":   func(s *Spec) { s.Order = "colour" },
	} {
		s := goods()
		change(s)
		if err := s.Check(); err == nil || fault.As(err) != nil {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

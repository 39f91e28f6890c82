package db_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshmart/meshmart/services/internal/db"
	"github.com/meshmart/meshmart/services/internal/db/dbtest"
)

// traced opens a database whose spans are kept, with a table t of numbers.
func traced(t testing.TB, url string) (*db.DB, *sdktrace.TracerProvider, *tracetest.InMemoryExporter) {
	t.Helper()
	spans := tracetest.NewInMemoryExporter()
	traces := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
	d, err := db.Open(t.Context(), db.Config{URL: url, Traces: traces})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	if _, err := d.Exec(t.Context(), `CREATE TABLE t (n BIGINT PRIMARY KEY)`); err != nil {
		t.Fatal(err)
	}
	return d, traces, spans
}

func attributes(s tracetest.SpanStub) map[string]string {
	got := map[string]string{}
	for _, a := range s.Attributes {
		got[string(a.Key)] = a.Value.String()
	}
	return got
}

func TestEachStatementAndCommitIsASpanOfItsCaller(t *testing.T) {
	dbtest.EachURL(t, func(t *testing.T, url string) {
		d, traces, spans := traced(t, url)
		ctx, caller := traces.Tracer("test").Start(t.Context(), "caller")
		err := d.InTx(ctx, func(tx *db.DB) error {
			if _, err := tx.Exec(ctx, `INSERT INTO t (n) VALUES ($1)`, 4711); err != nil {
				return err
			}
			var n int
			return tx.Row(ctx, `UPDATE t SET n = n + 1 WHERE n IN (SELECT n FROM t WHERE n = $1) RETURNING n`, 4711).Scan(&n)
		})
		if err != nil {
			t.Fatal(err)
		}
		caller.End() // what it began goes on in its trace all the same
		rows, err := d.Query(ctx, `SELECT n FROM t`)
		if err != nil {
			t.Fatal(err)
		}
		if n := len(spans.GetSpans()); n != 4 {
			t.Errorf("%d spans while the rows are read, want 4", n)
		}
		rows.Close()

		system, _, _ := strings.Cut(t.Name()[strings.LastIndexByte(t.Name(), '/')+1:], "#")
		system = map[string]string{"sqlite": "sqlite", "postgres": "postgresql"}[system]
		want := []map[string]string{
			{"db.operation.name": "INSERT", "db.query.summary": "INSERT t", "db.query.text": `INSERT INTO t (n) VALUES ($1)`, "db.collection.name": "t"},
			{"db.operation.name": "UPDATE", "db.query.summary": "UPDATE t SELECT t", "db.collection.name": "t",
				"db.query.text": `UPDATE t SET n = n + 1 WHERE n IN (SELECT n FROM t WHERE n = $1) RETURNING n`},
			{"db.operation.name": "COMMIT", "db.query.summary": "COMMIT", "db.query.text": "COMMIT"},
			{"db.operation.name": "SELECT", "db.query.summary": "SELECT t", "db.query.text": `SELECT n FROM t`, "db.collection.name": "t"},
		}
		var got []map[string]string
		for _, s := range spans.GetSpans() {
			if s.Name == "caller" {
				continue
			}
			a := attributes(s)
			if s.Name != a["db.query.summary"] || s.SpanKind != trace.SpanKindClient || a["db.system.name"] != system ||
				s.Parent.SpanID() != caller.SpanContext().SpanID() || s.Status.Code != codes.Unset {
				t.Errorf("%s %s of %s, parent %s, status %v", s.SpanKind, s.Name, a["db.system.name"], s.Parent.SpanID(), s.Status)
			}
			for _, k := range place(t, a, url) {
				delete(a, k)
			}
			got = append(got, a)
		}
		if diff := cmp.Diff(got, want); diff != "" {
			t.Error(diff)
		}
	})
}

// place checks where a span says that its statement was run, and returns the
// attributes that say it.
func place(t *testing.T, a map[string]string, address string) []string {
	t.Helper()
	keys, want := []string{"db.system.name", "db.namespace"}, "sqlite "+filepath.Base(address)
	if u, err := url.Parse(address); err == nil && u.Scheme != "" {
		keys = append(keys, "server.address", "server.port")
		cfg, err := pgx.ParseConfig(address)
		if err != nil {
			t.Fatal(err)
		}
		want = fmt.Sprintf("postgresql %s %s %d", cfg.Database, cfg.Host, cfg.Port)
	}
	var got []string
	for _, k := range keys {
		got = append(got, a[k])
	}
	if diff := cmp.Diff(strings.Join(got, " "), want); diff != "" {
		t.Error(diff)
	}
	return keys
}

// What is undone is seen to be: after an error, a panic, and a caller's leaving.
func TestARollbackIsASpan(t *testing.T) {
	dbtest.EachURL(t, func(t *testing.T, url string) {
		d, traces, spans := traced(t, url)
		insert := func(ctx context.Context, tx *db.DB) {
			if _, err := tx.Exec(ctx, `INSERT INTO t (n) VALUES ($1)`, 4711); err != nil {
				t.Error(err)
			}
		}
		for name, end := range map[string]func(leave func()) error{
			"error": func(func()) error { return errors.New("no, 4711") },
			"panic": func(func()) error { panic("no, 4711") },
			"gone":  func(leave func()) error { leave(); return context.Canceled },
		} {
			spans.Reset()
			ctx, _ := traces.Tracer("test").Start(t.Context(), "caller")
			ctx, leave := context.WithCancel(ctx)
			func() {
				defer func() { recover() }()
				_ = d.InTx(ctx, func(tx *db.DB) error { insert(ctx, tx); return end(leave) })
			}()
			leave()
			var got []string
			for _, s := range spans.GetSpans() {
				got = append(got, s.Name+" "+s.Status.Code.String())
				place(t, attributes(s), url)
			}
			if diff := cmp.Diff(got, []string{"INSERT t Unset", "ROLLBACK Unset"}); diff != "" {
				t.Errorf("%s: %s", name, diff)
			}
		}
	})
}

func TestAFailedStatementSaysWhyWithoutItsValues(t *testing.T) {
	dbtest.EachURL(t, func(t *testing.T, url string) {
		d, traces, spans := traced(t, url)
		ctx, _ := traces.Tracer("test").Start(t.Context(), "caller")
		insert := func(ctx context.Context) error {
			_, err := d.Exec(ctx, `INSERT INTO t (n) VALUES ($1)`, 4711)
			return err
		}
		if err := insert(ctx); err != nil {
			t.Fatal(err)
		}
		if err := insert(ctx); !db.IsDuplicate(err) {
			t.Fatalf("got %v, want a duplicate", err)
		}
		gone, leave := context.WithCancel(ctx)
		leave()
		if insert(gone) == nil {
			t.Fatal("a caller who has left is served")
		}
		var n int
		if d.Row(ctx, `SELECT n FROM t WHERE n = $1`, 1).Scan(&n) == nil {
			t.Fatal("found what is not there")
		}
		var got []string
		for _, s := range spans.GetSpans() {
			a := attributes(s)
			got = append(got, s.Status.Code.String()+" "+a["error.type"]+" "+a["db.response.status_code"])
			for k, v := range a {
				if strings.Contains(v, "4711") || strings.Contains(s.Status.Description, "4711") {
					t.Errorf("a value is in %s", k)
				}
			}
		}
		code := "1555" // SQLITE_CONSTRAINT_PRIMARYKEY
		if strings.HasSuffix(t.Name(), "postgres") {
			code = "23505"
		}
		if diff := cmp.Diff(got, []string{"Unset  ", "Error " + code + " " + code, "Error canceled ", "Unset  "}); diff != "" {
			t.Error(diff)
		}
	})
}

func TestWithoutASampledTraceThereIsNoSpan(t *testing.T) {
	d, _, spans := traced(t, dbtest.SQLite(t))
	rare := sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.NeverSample()))
	dropped, _ := rare.Tracer("test").Start(t.Context(), "caller")
	for _, ctx := range []context.Context{t.Context(), dropped} {
		if err := d.InTx(ctx, func(tx *db.DB) error { _, err := tx.Exec(ctx, `DELETE FROM t`); return err }); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(spans.GetSpans()); n != 0 {
		t.Errorf("%d spans", n)
	}
}

func TestSpansThatAreNotKeptCostNoAllocation(t *testing.T) {
	rare := sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.NeverSample()))
	ctx, _ := rare.Tracer("test").Start(context.Background(), "caller") // no Done, whose cost varies
	allocs := func(d *db.DB) (exec, row float64) {
		exec = testing.AllocsPerRun(200, func() {
			if _, err := d.Exec(ctx, `DELETE FROM t WHERE n = $1`, 1); err != nil {
				t.Fatal(err)
			}
		})
		row = testing.AllocsPerRun(200, func() {
			var n int
			if err := d.Row(ctx, `SELECT COUNT(*) FROM t`).Scan(&n); err != nil {
				t.Fatal(err)
			}
		})
		return exec, row
	}
	with, _, _ := traced(t, dbtest.SQLite(t))
	bare := dbtest.Open(t, dbtest.SQLite(t))
	if _, err := bare.Exec(t.Context(), `CREATE TABLE t (n BIGINT PRIMARY KEY)`); err != nil {
		t.Fatal(err)
	}
	exec, row := allocs(with)
	bareExec, bareRow := allocs(bare)
	t.Logf("figure: allocations of a statement without a sampled trace: Exec %v (bare %v), Row %v (bare %v)", exec, bareExec, row, bareRow)
	if exec > bareExec || row > bareRow {
		t.Error("spans that nobody sees are paid for")
	}
}

// BenchmarkSpan tells what the spans cost a statement that finds nothing.
func BenchmarkSpan(b *testing.B) {
	d, traces, spans := traced(b, dbtest.SQLite(b))
	sampled, _ := traces.Tracer("test").Start(b.Context(), "caller")
	for name, ctx := range map[string]context.Context{"none": b.Context(), "sampled": sampled} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				var n int
				if err := d.Row(ctx, `SELECT COUNT(*) FROM t WHERE n = $1`, 1).Scan(&n); err != nil {
					b.Fatal(err)
				}
				spans.Reset()
			}
		})
	}
}

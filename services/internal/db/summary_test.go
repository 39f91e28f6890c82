package db

import (
	"strings"
	"testing"
)

func TestSummaryNamesOperationsAndTables(t *testing.T) {
	for query, want := range map[string]summary{
		"INSERT INTO orders (id, state) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET state = $2": {"INSERT", "orders", "INSERT orders"},
		"\n\tselect state\n\tFROM orders WHERE id = $1":                                            {"SELECT", "orders", "SELECT orders"},
		"DELETE FROM outbox WHERE id IN ($1, $2)":                                                  {"DELETE", "outbox", "DELETE outbox"},
		"UPDATE t SET a = (SELECT MAX(b) FROM u) WHERE c = $1":                                     {"UPDATE", "", "UPDATE t SELECT u"},
		"SELECT * FROM (SELECT id FROM a JOIN b ON a.id = b.id) AS c":                              {"SELECT", "", "SELECT SELECT a b"},
		"INSERT INTO t(a) SELECT $1":                                                               {"INSERT", "t", "INSERT t SELECT"},
		"SAVEPOINT s1":                                                                             {"SAVEPOINT", "", "SAVEPOINT"},
		"ROLLBACK TO SAVEPOINT s1":                                                                 {"ROLLBACK", "", "ROLLBACK"},
		"COMMIT":                                                                                   {"COMMIT", "", "COMMIT"},
		" ":                                                                                        {},
	} {
		if got := summarize(query); got != want {
			t.Errorf("%q: got %q, want %q", query, got, want)
		}
	}
	if got := summarize("SELECT" + strings.Repeat(" FROM t_of_long_name", 50)); len(got.text) != maxSummary {
		t.Errorf("%d bytes, want %d", len(got.text), maxSummary)
	}
}

package main

import (
	"strings"
	"testing"
)

const stream = `{"Action":"run","Package":"github.com/meshmart/meshmart/a","Test":"TestGood"}
{"Action":"output","Package":"github.com/meshmart/meshmart/a","Test":"TestGood","Output":"    a_test.go:7: figure: 12 ms\n"}
{"Action":"pass","Package":"github.com/meshmart/meshmart/a","Test":"TestGood"}
{"Action":"output","Package":"github.com/meshmart/meshmart/a","Test":"TestNoBrowser","Output":"    a_test.go:9: chromium: not installed\n"}
{"Action":"output","Package":"github.com/meshmart/meshmart/a","Test":"TestNoBrowser","Output":"--- SKIP: TestNoBrowser (0.00s)\n"}
{"Action":"skip","Package":"github.com/meshmart/meshmart/a","Test":"TestNoBrowser"}
`

func TestSummaryTellsWhatWasLeftOut(t *testing.T) {
	got, ok := run(t, stream+`{"Action":"pass","Package":"github.com/meshmart/meshmart/a","Elapsed":0.5}`)
	for _, want := range []string{"a TestNoBrowser: chromium: not installed", "12 ms", "1 passed, 0 failed, 1 skipped"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in:\n%s", want, got)
		}
	}
	if !ok {
		t.Error("a good run counts as failed")
	}
}

func TestFailuresFail(t *testing.T) {
	for name, in := range map[string]string{
		"a test fails":              stream + `{"Action":"fail","Package":"github.com/meshmart/meshmart/a","Test":"TestBad"}`,
		"a package does not build":  stream + `{"Action":"fail","Package":"github.com/meshmart/meshmart/b"}`,
		"nothing ran":               "",
		"the go command says no":    "go: cannot find main module",
		"a package dies by a panic": stream + `{"Action":"output","Package":"b","Output":"panic: x"}` + "\n" + `{"Action":"fail","Package":"b"}`,
	} {
		if got, ok := run(t, in); ok {
			t.Errorf("%s: counts as good:\n%s", name, got)
		}
	}
}

func run(t *testing.T, in string) (string, bool) {
	t.Helper()
	r := report{output: map[string][]string{}}
	var out strings.Builder
	if err := r.read(strings.NewReader(in), &out); err != nil {
		t.Fatal(err)
	}
	ok := r.summary(&out)
	return out.String(), ok
}

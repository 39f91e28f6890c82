package storybook

import (
	"strings"
	"testing"
	"time"

	"github.com/meshmart/meshmart/tests/tracetree"
)

func TestWorkThatEscapesIsFound(t *testing.T) {
	trees, err := tracetree.Parse("a server Get\n  a producer publish x\n")
	if err != nil {
		t.Fatal(err)
	}
	began := time.Unix(100, 0)
	pages := func() map[string]page { return map[string]page{"1": {story: "got", tree: trees[0]}} }
	right := []tracetree.Span{
		{Trace: "1", ID: "1", Service: "a", Kind: "server", Name: "Get", Start: began},
		{Trace: "1", ID: "2", Parent: "1", Service: "a", Kind: "producer", Name: "publish x", Start: began.Add(1)},
	}
	consumed := tracetree.Span{ID: "3", Parent: "2", Service: "b", Kind: "consumer", Name: "process x", Start: began.Add(2)}
	for _, tt := range []struct {
		name  string
		spans func() []tracetree.Span
		want  string // part of the only problem; "": there is none
	}{
		{"as it should be", func() []tracetree.Span { return right }, ""},
		{"a trace of its own", func() []tracetree.Span {
			consumed.Trace = "2"
			return append(right, consumed)
		}, "work has escaped to a trace of its own, 2"},
		{"a trace of before", func() []tracetree.Span {
			return append(right, tracetree.Span{Trace: "2", ID: "1", Service: "b", Kind: "server", Name: "Start", Start: began.Add(-1)})
		}, ""},
		{"late in its own trace", func() []tracetree.Span {
			consumed.Trace = "1"
			return append(right, consumed)
		}, `unexpected: "b consumer process x"`},
		{"not there", func() []tracetree.Span { return nil }, `missing: "a server Get"`},
	} {
		got := compare(began, tt.spans(), pages())
		switch {
		case tt.want == "" && len(got) > 0:
			t.Errorf("%s: %s", tt.name, got)
		case tt.want != "" && (len(got) != 1 || !strings.Contains(got[0], tt.want)):
			t.Errorf("%s: %s, want %q", tt.name, got, tt.want)
		}
	}
}

func TestEveryTreeIsOfAStory(t *testing.T) {
	known := map[string]bool{}
	for _, s := range stories() {
		known[s.name+".tree"] = true
		if len(wanted(t, s.name)) == 0 {
			t.Errorf("%s.tree is empty", s.name)
		}
	}
	files, err := trees.ReadDir("trees")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !known[f.Name()] {
			t.Errorf("no story is called %s", f.Name())
		}
	}
}

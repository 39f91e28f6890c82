package follow

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

const document = "Text.\n\n```sh\n# first\nmake run   # it stays\nfor s in a b; do\n  echo $s\ndone\ncurl -d '{\n  1}' \\\n  there\n```\n\n" +
	"```console\n$ echo {1..2} |\n    cat\n1 2\n...\n$ true\n```\n\n```yaml mesh/a.yaml\na: 1\n```\n"

func TestCommandsOfADocument(t *testing.T) {
	var names, prints []string
	blocks := Blocks(document)
	for _, b := range blocks {
		if !b.Shell() {
			continue
		}
		commands, err := b.Commands()
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range commands {
			names, prints = append(names, c.Name()), append(prints, c.Prints)
		}
	}
	want := []string{"make run", "for s in a b; do\n  echo $s\ndone", "curl -d '{\n  1}' \\\n  there", "echo {1..2} |\n    cat", "true"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("commands (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"", "", "", "1 2\n...\n", ""}, prints); diff != "" {
		t.Errorf("what they print (-want +got):\n%s", diff)
	}
	if b := blocks[2]; b.Language != "yaml" || b.File != "mesh/a.yaml" || b.Line != 22 || b.Shell() {
		t.Errorf("the quote is %+v", b)
	}
}

func TestACommandThatDoesNotEndIsAnError(t *testing.T) {
	for _, text := range []string{"echo 'a\n", "echo \\\n", "for s in a; do\n"} {
		if c, err := (Block{Language: "sh", Text: text}).Commands(); err == nil {
			t.Errorf("%q is %v", text, c)
		}
	}
	if c, err := (Block{Language: "console", Text: "1 2\n$ echo\n"}).Commands(); err == nil {
		t.Errorf("an answer to nothing is %v", c)
	}
}

// A shell keeps what was typed before, and tells what each command printed.
func TestShellIsOne(t *testing.T) {
	Needs(t, "bash")
	s := Open(t, t.TempDir(), nil)
	s.Type(t, "a=1; cd ..")
	if got := s.Type(t, "echo $a; cat"); got != "1\n" {
		t.Errorf("got %q", got)
	}
	if got := s.Type(t, "true # a comment"); got != "" {
		t.Errorf("got %q", got)
	}
}

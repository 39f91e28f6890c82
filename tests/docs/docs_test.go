// Package docs runs what the documents say, in a copy of the tree and with a shop
// that runs.
package docs

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/meshmart/meshmart/tests/follow"
	"github.com/meshmart/meshmart/tests/freeport"
)

// documents are those for people, in the order in which their commands are typed.
func documents(t *testing.T) []string {
	t.Helper()
	names := []string{"README.md", "CONTRIBUTING.md", "SECURITY.md"}
	found, err := filepath.Glob(filepath.Join(follow.Root(t), "docs", "*.md"))
	if err != nil || len(found) == 0 {
		t.Fatalf("no documents: %v", err)
	}
	for _, f := range found {
		names = append(names, "docs/"+filepath.Base(f))
	}
	return names
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(follow.Root(t), name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// step is a command at its place.
type step struct {
	document string
	line     int // of its block
	follow.Command
}

func (s step) String() string { return fmt.Sprintf("%s:%d: %s", s.document, s.line, s.Name()) }

// steps are the commands of all documents.
func steps(t *testing.T) []step {
	t.Helper()
	var all []step
	for _, d := range documents(t) {
		for _, b := range follow.Blocks(read(t, d)) {
			if !b.Shell() {
				continue
			}
			commands, err := b.Commands()
			if err != nil {
				t.Fatalf("%s: %v", d, err)
			}
			for _, c := range commands {
				all = append(all, step{d, b.Line, c})
			}
		}
	}
	return all
}

// TestEveryCommandRuns types each command of the documents, but for those that are
// listed as run elsewhere, and holds what is printed to what the document says.
func TestEveryCommandRuns(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the shop in a copy of the tree")
	}
	follow.Needs(t, "git", "make", "curl", "bash", "openssl")
	home, begin := t.TempDir(), time.Now()
	tree := filepath.Join(home, "meshmart")
	follow.Tree(t, tree)
	env, greeter := environ(t, home)
	r := reader{follow.Open(t, tree, env), greeter, map[string]string{}}
	blocks := map[string]bool{}
	typed, left := 0, 0
	for _, s := range steps(t) {
		if find(s) != nil {
			left++
			continue
		}
		r.do(t, s)
		blocks[fmt.Sprint(s.document, s.line)] = true
		typed++
	}
	wantHelp(t, tree, env)
	wantScripts(t, tree, env)
	t.Logf("figure: documents: %d commands of %d blocks typed in %.0f s (%.0f s of processor time), %d are run elsewhere, %d by no test",
		typed, len(blocks), time.Since(begin).Seconds(), r.shell.CPU(t).Seconds(), left-unrun(t), unrun(t))
}

// reader is who types what is read.
type reader struct {
	shell   *follow.Shell
	greeter string            // its address
	ids     map[string]string // those of the documents, and what they are here
}

func (r reader) do(t *testing.T, s step) {
	t.Helper()
	text := strings.ReplaceAll(before[s.Name()]+s.Text, "localhost:9006", r.greeter)
	for written, real := range r.ids {
		text = strings.ReplaceAll(text, written, real)
	}
	if err := compare(s.Prints, r.shell.Type(t, text), r.ids); err != nil {
		t.Errorf("%v\n%v", s, err)
	}
}

// before is what one does who reads more than the commands.
var before = map[string]string{
	"mv data lost": follow.Interrupt, // "ended by Ctrl-C"
}

// environ has the greeter at a port that is known, too.
func environ(t *testing.T, home string) (env []string, greeter string) {
	t.Helper()
	addrs, err := freeport.Addrs(1)
	if err != nil {
		t.Fatal(err)
	}
	standIns := filepath.Join(follow.Root(t), "tests", "docs", "testdata", "bin")
	return append(follow.Environ(t, home), "GREETER_GRPC_ADDR="+addrs[0], "PATH="+standIns+":"+os.Getenv("PATH")), addrs[0]
}

func TestEveryCommandThatIsNotTypedIsListed(t *testing.T) {
	all := steps(t)
	for i, l := range listed {
		used := false
		for _, s := range all {
			used = used || find(s) == &listed[i]
		}
		if !used {
			t.Errorf("no document has %q any more", l.command)
		}
		if l.why == "" {
			t.Errorf("%q is listed without a reason", l.command)
		}
		for _, by := range l.by {
			ran(t, l.command, by)
		}
	}
}

// ran wants a test ("tests/backup TestSQLiteIsRestored") or a script ("tools/hooks")
// to be there.
func ran(t *testing.T, command, by string) {
	t.Helper()
	folder, name, isTest := strings.Cut(by, " ")
	if !isTest {
		if _, err := os.Stat(filepath.Join(follow.Root(t), folder)); err != nil {
			t.Errorf("%q: %v", command, err)
		}
		return
	}
	files, err := filepath.Glob(filepath.Join(follow.Root(t), folder, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "\nfunc "+name+"(t *testing.T) {") {
			return
		}
	}
	t.Errorf("%q: there is no %s in %s", command, name, folder)
}

// TestBlocksSayWhatTheyAre has no command stand where this test does not see it.
func TestBlocksSayWhatTheyAre(t *testing.T) {
	indented := regexp.MustCompile(`(?m)^\n {4,}\S.*`)
	for _, d := range documents(t) {
		text := read(t, d)
		for _, b := range follow.Blocks(text) {
			if b.Language == "" {
				t.Errorf("%s:%d: a block that does not say what it is: sh or console, or else text", d, b.Line)
			}
			text = strings.Replace(text, b.Text, "", 1)
		}
		if m := indented.FindString(text); m != "" && !strings.HasPrefix(strings.TrimSpace(m), "- ") {
			t.Errorf("%s: a block without a fence:%s", d, m)
		}
	}
}

// TestTargetsExist looks at the commands inside of sentences.
func TestTargetsExist(t *testing.T) {
	makefile := read(t, "Makefile")
	made := regexp.MustCompile("`(?:[A-Z_]+=\\S+ )*make ([a-z-]+)")
	file := regexp.MustCompile("`(?:go run )?(?:\\./)?((?:tools|tests|services|observability|mesh|docs|deploy|proto)/[a-zA-Z0-9_./-]*)")
	for _, d := range documents(t) {
		text := read(t, d)
		for _, m := range made.FindAllStringSubmatch(text, -1) {
			if !strings.Contains(makefile, "\n"+m[1]+": ") {
				t.Errorf("%s: there is no target %s", d, m[1])
			}
		}
		for _, m := range file.FindAllStringSubmatch(text, -1) {
			if _, err := os.Stat(filepath.Join(follow.Root(t), m[1])); err != nil && !strings.Contains(m[1], "parcel") {
				t.Errorf("%s: %v", d, err)
			}
		}
	}
}

package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/meshmart/meshmart/tests/follow"
)

// variable is where the environment's variables are declared, or asked for by name.
var variable = regexp.MustCompile("`env:\"([A-Z_]+)|Env\\(\"([A-Z_]+)\"\\)")

// wantHelp has every program in a folder explain itself, and name each variable
// that its code reads.
func wantHelp(t *testing.T, tree string, env []string) {
	t.Helper()
	programs, err := filepath.Glob(filepath.Join(tree, "bin", "*"))
	if err != nil || len(programs) < 9 {
		t.Fatalf("only %v are built: %v", programs, err)
	}
	for _, p := range programs {
		name := filepath.Base(p)
		if filepath.Ext(name) == ".1" {
			continue // its page
		}
		said, err := follow.Run(t, tree, env, p+" -help")
		if err != nil || !strings.Contains(said, "Usage") {
			t.Errorf("%s -help: %v\n%s", name, err, said)
		}
		for _, v := range variables(t, tree, name) {
			if !regexp.MustCompile(`\b` + v + `\b`).MatchString(said) {
				t.Errorf("%s -help does not name %s", name, v)
			}
		}
	}
}

// variables are those that the program's own folder and, if it is a service, the
// runtime read.
func variables(t *testing.T, tree, program string) []string {
	t.Helper()
	folders := []string{program, "internal/*"}
	switch program {
	case "shopctl":
		folders = []string{program}
	case "shop":
		folders = []string{"[^s]*", "internal/*"} // all services
	}
	var all []string
	for _, folder := range folders {
		files, err := filepath.Glob(filepath.Join(tree, "services", folder, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			text, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range variable.FindAllStringSubmatch(string(text), -1) {
				if name := m[1] + m[2]; !strings.HasSuffix(f, "_test.go") && name != "TERM" {
					all = append(all, name)
				}
			}
		}
	}
	if len(all) == 0 {
		t.Errorf("%s reads no variables, so far as its code tells", program)
	}
	return all
}

// TestOnlyTheRuntimeReadsTheEnvironment keeps a service from reading what its -help
// could not know.
func TestOnlyTheRuntimeReadsTheEnvironment(t *testing.T) {
	reads := regexp.MustCompile(`os\.(Getenv|LookupEnv|Environ)\b`)
	err := filepath.WalkDir(filepath.Join(follow.Root(t), "services"), func(path string, _ os.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		folder := filepath.ToSlash(filepath.Dir(path))
		if regexp.MustCompile(`services/(internal/app|shop|shopctl)$`).MatchString(folder) || strings.HasSuffix(folder, "test") {
			return nil
		}
		text, err := os.ReadFile(path)
		if m := reads.Find(text); m != nil {
			t.Errorf("%s has %s: its -help does not tell of that", path, m)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// called finds programs that are run from source.
var called = regexp.MustCompile(`go run (\./[a-z/-]+)`)

// wantScripts has all that is executable in the tree explain itself, and what the
// documents run from source.
func wantScripts(t *testing.T, tree string, env []string) {
	t.Helper()
	out, err := follow.Run(t, tree, env, `git ls-files -s | sed -n 's/^100755[^\t]*\t//p'`)
	if err != nil || out == "" {
		t.Fatalf("%v: %s", err, out)
	}
	commands := strings.Fields(out)
	for _, d := range append(documents(t), "Makefile") {
		for _, m := range called.FindAllStringSubmatch(read(t, d), -1) {
			commands = append(commands, "go run "+m[1])
		}
	}
	asked := map[string]bool{
		"tools/hooks/pre-commit":                     true, // is git's to call
		"tests/images/postgres/docker-entrypoint.sh": true, // a container's
	}
	for _, c := range commands {
		if asked[c] {
			continue
		}
		asked[c] = true
		said, err := follow.Run(t, tree, env, "timeout 60 "+c+" -help </dev/null")
		if err != nil || len(said) < 40 {
			t.Errorf("%s -help: %v\n%s", c, err, said)
		}
	}
}

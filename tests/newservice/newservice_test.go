// Package newservice follows docs/new-service.md in a copy of the tree.
package newservice

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/meshmart/meshmart/tests/freeport"
)

const tutorial = "docs/new-service.md"

// TestTheTutorialIsTrue runs the commands of the tutorial word by word, from the
// clone to the trace, and then holds the new tree to what this one is held to.
func TestTheTutorialIsTrue(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the shop in a copy of the tree")
	}
	for _, tool := range []string{"git", "make", "curl", "bash"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("the tutorial needs %s", tool)
		}
	}
	begin := time.Now()
	root := repository(t)
	home := t.TempDir()
	published(t, root, filepath.Join(home, "published"))
	env := environ(t, root, home)

	out := follow(t, home, env, blocks(t, filepath.Join(root, tutorial)))
	t.Logf("figure: from a clone to a service of one's own in a trace: %.0f s", time.Since(begin).Seconds())
	wantOneEffect(t, out)
	wantTrace(t, out)

	tree := filepath.Join(home, "meshmart")
	wantSame(t, env, tree)
	for _, check := range []string{
		"tools/lint-proto",
		"tools/generate -check",
		"go vet ./services/parcel ./services/cmd/parcel ./services/gateway ./services/shop ./mesh/protoc-gen-mesh/contract/... ./tests/testbed ./tests/cluster ./tools/backup",
		"GOFLAGS=-trimpath go -C tests/observability vet .", // as tests/run builds it
		"go test ./services -run .",
		"go test ./mesh/protoc-gen-mesh/...",
	} {
		if out, err := run(t, tree, env, check); err != nil {
			t.Errorf("%s: %v\n%s", check, err, out)
		}
	}
}

func repository(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// published makes a repository of the files of this tree as they are, committed
// or not.
func published(t *testing.T, root, dir string) {
	t.Helper()
	command := `git -C "$ROOT" ls-files -z -co --exclude-standard --deduplicate |
		(cd "$ROOT" && while IFS= read -r -d '' f; do [ ! -e "$f" ] || printf '%s\0' "$f"; done | tar c --null -T -) | tar x &&
		git init -q && git add -A && git -c user.name=test -c user.email=test@localhost commit -qm 'As it is'`
	if _, err := run(t, root, os.Environ(), "git rev-parse"); err != nil {
		t.Skip("this tree is no repository of git, which would tell its files")
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := run(t, dir, append(os.Environ(), "ROOT="+root), command); err != nil {
		t.Fatalf("the tree can't be copied: %v\n%s", err, out)
	}
}

// built is how `make run` compiles, which what it has compiled before is kept for.
var built = regexp.MustCompile(`go build -trimpath .*-tags ([a-z0-9,]+)`)

// environ has git clone the copy, and the shop on ports that are free: localhost:8080
// is the copy's for curl.
func environ(t *testing.T, root, home string) []string {
	t.Helper()
	ports, err := freeport.Ports(1)
	if err != nil {
		t.Fatal(err)
	}
	curl := fmt.Sprintf("connect-to = \"localhost:8080:127.0.0.1:%d\"\n", ports[0])
	if err := os.WriteFile(filepath.Join(home, ".curlrc"), []byte(curl), 0o600); err != nil {
		t.Fatal(err)
	}
	makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	tags := built.FindSubmatch(makefile)
	if tags == nil {
		t.Fatal("the Makefile does not say how the programs are built")
	}
	env := append(os.Environ(),
		"CGO_ENABLED=0", "GOFLAGS=-trimpath -tags="+string(tags[1]),
		"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=url."+filepath.Join(home, "published")+".insteadOf",
		"GIT_CONFIG_VALUE_0=https://github.com/meshmart/meshmart",
		"CURL_HOME="+home, fmt.Sprintf("HTTP_ADDR=127.0.0.1:%d", ports[0]),
		"OTEL_EXPORTER_OTLP_ENDPOINT=",
	)
	programs, err := filepath.Glob(filepath.Join(root, "services/cmd/*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range append(programs, "parcel") {
		env = append(env, strings.ToUpper(filepath.Base(p))+"_GRPC_ADDR=127.0.0.1:0")
	}
	return env
}

var fence = regexp.MustCompile("(?ms)^```sh\n(.*?)^```$")

// blocks are the commands of a document, by its blocks.
func blocks(t *testing.T, document string) []string {
	t.Helper()
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, m := range fence.FindAllStringSubmatch(string(text), -1) {
		all = append(all, m[1])
	}
	if len(all) < 5 || !slices.Contains(all, stays) {
		t.Fatalf("%d blocks of commands in %s, one of which must be %q", len(all), document, stays)
	}
	return all
}

// stays is the block whose command does not end: the next ones are for another
// shell, once it is ready.
const stays = "make run\n"

const inBackground = `make run >run.log 2>&1 &
trap "kill $!; wait" EXIT
until curl -sf localhost:8080/readyz >/dev/null; do kill -0 $! || { cat run.log; exit 1; }; sleep 0.1; done
`

// follow types the blocks into one shell and returns what each printed.
func follow(t *testing.T, dir string, env, blocks []string) []string {
	t.Helper()
	script := "set -eu\n"
	for i, b := range blocks {
		if b == stays {
			b = inBackground
		}
		script += fmt.Sprintf("printf '\\n### %d\\n'\n%s", i, b)
	}
	out, err := run(t, dir, env, script)
	if err != nil {
		t.Fatalf("%s: %v\n%s", tutorial, err, out)
	}
	var parts []string
	for i := range blocks {
		_, after, _ := strings.Cut(out, fmt.Sprintf("\n### %d\n", i))
		part, _, _ := strings.Cut(after, "\n### ")
		parts = append(parts, part)
	}
	return parts
}

// run returns what a script prints.
func run(t *testing.T, dir string, env []string, script string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	out, err := os.Create(filepath.Join(t.TempDir(), "out")) // no pipe: who is left running would hold it open
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd := exec.CommandContext(ctx, "bash", "-o", "pipefail", "-c", script)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = dir, env, out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	err = cmd.Run()
	text, readErr := os.ReadFile(out.Name())
	if readErr != nil {
		t.Fatal(readErr)
	}
	return string(text), err
}

type parcel struct{ ID, Name string }

// wantOneEffect checks the replies to the request that was made twice, and the
// list: the objects with a parcel that were printed.
func wantOneEffect(t *testing.T, out []string) {
	t.Helper()
	var made []parcel
	total := -1
	for _, o := range objects(t, out) {
		var p parcel
		var l struct {
			Parcels []parcel
			Total   int `json:"total_size"`
		}
		if json.Unmarshal(o, &p) == nil && p.Name == "a present" {
			made = append(made, p)
		}
		if json.Unmarshal(o, &l) == nil && l.Parcels != nil {
			total = l.Total
		}
	}
	if len(made) != 2 || made[0] != made[1] || made[0].ID == "" || total != 1 {
		t.Errorf("the request made %v, and there are %d parcels in the list:\n%s", made, total, strings.Join(out, "\n"))
	}
}

// wantTrace checks that the trace has the way of the call.
func wantTrace(t *testing.T, out []string) {
	t.Helper()
	type span struct{ Service, Name, Kind string }
	var spans []span
	for _, o := range objects(t, out) {
		var trace struct{ Spans []span }
		if json.Unmarshal(o, &trace) == nil && len(trace.Spans) > 0 {
			spans = trace.Spans
		}
	}
	for _, want := range []span{
		{"gateway", "POST /v1/parcels", "server"},
		{"gateway", "parcel.v1.ParcelService/CreateParcel", "client"},
		{"parcel", "parcel.v1.ParcelService/CreateParcel", "server"},
		{"parcel", "INSERT parcels", "client"},
	} {
		if !slices.Contains(spans, want) {
			t.Errorf("the trace has no %v: %v", want, spans)
		}
	}
}

// objects are all JSON objects that were printed.
func objects(t *testing.T, out []string) []json.RawMessage {
	t.Helper()
	var all []json.RawMessage
	for _, text := range out {
		for i := strings.IndexByte(text, '{'); i >= 0; i = strings.IndexByte(text, '{') {
			var o json.RawMessage
			d := json.NewDecoder(strings.NewReader(text[i:]))
			if err := d.Decode(&o); err != nil {
				text = text[i+1:]
				continue
			}
			all = append(all, o)
			text = text[i+int(d.InputOffset()):]
		}
	}
	return all
}

// wantSame checks what is new in the tree: it is formatted, and asking for it
// again changes nothing.
func wantSame(t *testing.T, env []string, tree string) {
	t.Helper()
	const state = "git status --porcelain -uall && git diff HEAD"
	before, err := run(t, tree, env, state)
	if err != nil {
		t.Fatal(before)
	}
	out, err := run(t, tree, env, `gofmt -l $(git ls-files -mo --exclude-standard '*.go')`)
	if err != nil || out != "" {
		t.Errorf("not formatted: %s %v", out, err)
	}
	out, err = run(t, tree, env, "make new-service NAME=parcel")
	if err == nil || !strings.Contains(out, `-name "parcel": is taken`) {
		t.Errorf("the same service again: %v\n%s", err, out)
	}
	if after, err := run(t, tree, env, state); err != nil || after != before {
		t.Errorf("asking again has changed the tree: %v\n%s", err, after)
	}
}

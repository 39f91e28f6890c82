// Package newservice follows docs/new-service.md in a copy of the tree.
package newservice

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/meshmart/meshmart/tests/follow"
)

const tutorial = "docs/new-service.md"

// TestTheTutorialIsTrue runs the commands of the tutorial word by word, from the
// clone to the trace, and then holds the new tree to what this one is held to.
func TestTheTutorialIsTrue(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the shop in a copy of the tree")
	}
	follow.Needs(t, "git", "make", "curl", "bash")
	begin := time.Now()
	home := t.TempDir()
	follow.Tree(t, filepath.Join(home, "published"))
	env := asAtHome(t, home)

	var out []string
	shell := follow.Open(t, home, env)
	for _, block := range commands(t) {
		out = append(out, shell.Type(t, block))
	}
	t.Logf("figure: from a clone to a service of one's own in a trace: %.0f s, with %.0f s of processor time", time.Since(begin).Seconds(), shell.CPU(t).Seconds())
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
		if out, err := follow.Run(t, tree, env, check); err != nil {
			t.Errorf("%s: %v\n%s", check, err, out)
		}
	}
}

// asAtHome has git clone the copy in the place of what the tutorial names.
func asAtHome(t *testing.T, home string) []string {
	t.Helper()
	return append(follow.Environ(t, home, "parcel"),
		"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=url."+filepath.Join(home, "published")+".insteadOf",
		"GIT_CONFIG_VALUE_0=https://github.com/meshmart/meshmart",
	)
}

// commands are those of the tutorial, by its blocks.
func commands(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(follow.Root(t), tutorial))
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, b := range follow.Blocks(string(text)) {
		if b.Shell() {
			all = append(all, b.Text)
		}
	}
	if len(all) < 5 || !slices.Contains(all, follow.Stays+"\n") {
		t.Fatalf("%d blocks of commands in %s, one of which must be %q", len(all), tutorial, follow.Stays)
	}
	return all
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
	before, err := follow.Run(t, tree, env, state)
	if err != nil {
		t.Fatal(before)
	}
	out, err := follow.Run(t, tree, env, `gofmt -l $(git ls-files -mo --exclude-standard '*.go')`)
	if err != nil || out != "" {
		t.Errorf("not formatted: %s %v", out, err)
	}
	out, err = follow.Run(t, tree, env, "make new-service NAME=parcel")
	if err == nil || !strings.Contains(out, `-name "parcel": is taken`) {
		t.Errorf("the same service again: %v\n%s", err, out)
	}
	if after, err := follow.Run(t, tree, env, state); err != nil || after != before {
		t.Errorf("asking again has changed the tree: %v\n%s", err, after)
	}
}

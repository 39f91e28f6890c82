package contract

import (
	"flag"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func options(args ...string) (Options, error) {
	var o Options
	fs := flag.NewFlagSet("", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	o.Flags(fs)
	return o, fs.Parse(args)
}

func TestOptionsAreRead(t *testing.T) {
	got, err := options("-edge=door:80", "-backend=db:5432:b+a", "-backend=bus:4222:a", "-issuer=me")
	if err != nil {
		t.Fatal(err)
	}
	want := Options{
		Namespace: "meshmart", TrustDomain: "cluster.local", Edge: Edge{"door", 80}, Issuer: "me",
		Backends: []Backend{{"bus", 4222, []string{"a"}}, {"db", 5432, []string{"a", "b"}}},
		Root:     "proto", Keys: "/.well-known/jwks.json", Runbook: "https://github.com/meshmart/meshmart/blob/main/docs/runbook.md",
	}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Error(diff)
	}
}

func TestWrongOptionsAreRefused(t *testing.T) {
	for _, arg := range []string{"-edge=door", "-edge=:80", "-edge=door:0", "-edge=door:65536", "-backend=db", "-backend=db:x:a"} {
		if _, err := options(arg); err == nil {
			t.Errorf("%s is taken", arg)
		}
	}
	shop := &Shop{Options: Options{Edge: Edge{"gateway", 80}, Backends: []Backend{{"db", 5432, []string{"nobody"}}}}}
	var got []string
	for _, err := range shop.check() {
		got = append(got, err.Error())
	}
	if text := strings.Join(got, "\n"); !strings.Contains(text, `backend=db: its user "nobody" does not exist`) ||
		!strings.Contains(text, "option audience is missing") || !strings.Contains(text, "option issuer is missing") {
		t.Errorf("got %s", text)
	}
}

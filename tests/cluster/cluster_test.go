package main

import (
	"strings"
	"testing"
	"time"
)

func TestFlagsAreChecked(t *testing.T) {
	for _, tt := range []struct{ args, want string }{
		{"-mode sidecar", "-mode"},
		{"-rate 0", "-rate"},
		{"-calm 0s", "-calm"},
		{"-only drain,sleep", `"sleep"`},
		{"more", `"more"`},
	} {
		if _, err := parse(strings.Fields(tt.args)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("cluster %s: got %v, want an error that names %s", tt.args, err, tt.want)
		}
	}
}

// With no cluster it says how to get one, and touches nothing.
func TestNoClusterIsSaid(t *testing.T) {
	t.Setenv("KUBECONFIG", "/dev/null")
	t.Setenv("PATH", "")
	t.Chdir("../..")
	if _, err := Run(t.Context(), Config{Mode: "plain", Rate: 1, Calm: time.Second}); err == nil || !strings.Contains(err.Error(), "kubectl") {
		t.Errorf("got %v, want an error that says what is missing", err)
	}
}

// What the customers say is counted, and it is known whether all of it was heard.
func TestCustomersAreCounted(t *testing.T) {
	for _, tt := range []struct {
		name, log string
		done      bool
	}{
		{"to the end", `{"took":[3,9],"orders":[{"id":"a","trace":"b"}]}` + "\n" + `{"took":[4],"failed":[{"Call":"order","Error":"Unavailable"}],"done":true}` + "\n", true},
		{"cut off", `{"took":[3,9],"orders":[{"id":"a","trace":"b"}]}` + "\n" + `{"took":[4],"failed":[{"Call":"order"}]}` + "\n" + `{"to`, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := &customers{}
			c.listen(strings.NewReader(tt.log))
			if c.calls != 3 || len(c.took) != 3 || len(c.failed) != 1 || len(c.orders) != 1 || c.done != tt.done {
				t.Errorf("got %d calls, %d failed, %d orders, done %v", c.calls, len(c.failed), len(c.orders), c.done)
			}
		})
	}
}

// The node names an image by its digest, and a pod sometimes with a tag, too.
func TestImagesAreFoundByTheirDigest(t *testing.T) {
	sizes := map[string]int64{"localhost:5000/order@sha256:abc": 7}
	for image, want := range map[string]int64{
		"localhost:5000/order@sha256:abc":    7,
		"localhost:5000/order:v1@sha256:abc": 7,
		"localhost:5000/order:v1":            0,
	} {
		if got := sizeOf(sizes, image); got != want {
			t.Errorf("%s: got %d, want %d", image, got, want)
		}
	}
}

func TestFailuresOfTheSameKindAreToldTogether(t *testing.T) {
	c := &customers{}
	c.listen(strings.NewReader(strings.Repeat(`{"took":[1],"failed":[{"Call":"order","Error":"Unavailable"}]}`+"\n", 3)))
	p := Phase{Name: "rollout", Failed: c.failed}
	if got := p.failures(); len(got) != 1 || got[0] != "3 x order: Unavailable" {
		t.Errorf("got %q", got)
	}
}

package main

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/meshmart/meshmart/tests/cluster/load/stranger"
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

// Who has no identity, or another's, is answered by nobody, and the gateway is.
func TestAnswersToStrangersAreBrokenPromises(t *testing.T) {
	for _, tt := range []struct {
		who    string
		how    string
		code   codes.Code
		fenced bool // what NetworkPolicies keep out says nothing of the mesh
		broken bool
	}{
		{"load", stranger.Plaintext, codes.Unavailable, false, false},
		{"load", stranger.Plaintext, codes.Unauthenticated, false, true},
		{"load", stranger.NoCertificate, codes.OK, false, true},
		{"greeter", stranger.Certificate, codes.PermissionDenied, false, false},
		{"greeter", stranger.Certificate, codes.Unauthenticated, false, true},
		{"greeter", stranger.Certificate, codes.Unavailable, false, true},
		{"greeter", stranger.Certificate, codes.DeadlineExceeded, true, false},
		{"gateway", stranger.Certificate, codes.Unauthenticated, false, false},
		{"gateway", stranger.Certificate, codes.PermissionDenied, false, true},
		{"gateway", stranger.Certificate, codes.Unavailable, false, true},
		{"gateway", stranger.Certificate, codes.Unavailable, true, true},
	} {
		r := &run{report: Report{Fenced: tt.fenced}}
		r.judge(tt.who, stranger.Answer{Target: "order", How: tt.how, Code: tt.code})
		if broken := len(r.report.Violations) > 0; broken != tt.broken || r.report.Identity[tt.who] != 1 {
			t.Errorf("%s %s, fenced %v, hears %v: got broken %v, want %v", tt.who, tt.how, tt.fenced, tt.code, broken, tt.broken)
		}
	}
}

// A pod that asks is like those of a service, and is never taken for one of them.
func TestPodThatAsksIsNoneOfTheService(t *testing.T) {
	pod, err := askingPod([]byte(`{"spec": {"template": {
		"metadata": {"labels": {"app": "greeter", "version": "v1", "sidecar.istio.io/inject": "true"}, "annotations": {"a": "b"}},
		"spec": {"serviceAccountName": "greeter", "containers": [{"name": "service", "image": "shop", "readinessProbe": {}}, {"name": "istio-proxy", "image": "auto"}]}
	}}}`), "stranger-like-greeter", "greeter", "load", []string{"order:9090"})
	want := `{"apiVersion":"v1","kind":"Pod","metadata":{"annotations":{"a":"b"},"labels":{"app":"greeter","sidecar.istio.io/inject":"true"},"name":"stranger-like-greeter"},` +
		`"spec":{"containers":[{"args":["order:9090"],"env":[{"name":"CERTIFICATES","value":"/var/lib/istio/data"}],"image":"load","name":"service","securityContext":null},` +
		`{"image":"auto","name":"istio-proxy"}],"readinessGates":[{"conditionType":"meshmart.test/never"}],"restartPolicy":"Never","serviceAccountName":"greeter"}}`
	if err != nil || string(pod) != want {
		t.Errorf("got %s, %v, want %s", pod, err, want)
	}
}

func TestAnswersAreReadToTheEnd(t *testing.T) {
	all, err := heard([]byte(`{"target":"a","how":"x","code":14}` + "\n" + `{"target":"","how":"","code":0}` + "\n"))
	if err != nil || len(all) != 1 || all[0].Code != codes.Unavailable {
		t.Errorf("got %v, %v", all, err)
	}
	if all, err := heard([]byte(`{"target":"a","how":"x","code":14}` + "\n")); err == nil {
		t.Errorf("cut off: got %v and no error", all)
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

package docs

import (
	"strings"
	"testing"
)

// elsewhere is what TestEveryCommandRuns does not type.
type elsewhere struct {
	document string // "" is any
	command  string // how it begins
	why      string
	by       []string // folder and test, or script, that runs it; none: nobody does
}

var listed = []elsewhere{
	{"docs/new-service.md", "", "the tutorial has a clone of its own",
		[]string{"tests/newservice TestTheTutorialIsTrue"}},
	{"", "make test", "is what runs this",
		[]string{".ci/run"}},
	{"", "make check", "minutes of staticcheck; CI does it",
		[]string{".ci/run"}},
	{"", "make observe", "containers, under names and ports of their own there",
		[]string{"tests TestObserveShowsTheShop", "tests TestObserveEndsWithNothingLeft"}},
	{"", "make chaos", "containers, for minutes; a short campaign",
		[]string{"tests/chaos TestCampaign"}},
	{"", `make bench ARGS="-addr`, "minutes; a short one, of a shop that runs already",
		[]string{"tests/bench TestAShopThatRunsElsewhereIsMeasured"}},
	{"", "make bench", "minutes; a short one",
		[]string{"tests/bench TestEverythingIsMeasured"}},
	{"", `make images ARGS="-push`, "needs a registry; all but the push",
		[]string{"tests/testbed TestImageIsReproducible"}},
	{"", "make images", "the tests in containers run these images",
		[]string{"tests/testbed TestImages", "tests/testbed TestImageIsReproducible"}},
	{"", "make release ARGS=-dry-run", "builds all images for two kinds of machine; one of each",
		[]string{"tests/release TestDryRunIsARelease"}},
	{"", "docker run --rm -p 8080:8080", "takes port 8080",
		[]string{"tests/testbed TestShopImage"}},
	{"docs/operations.md", "go run ./tools/backup save -dir backup/$(date +%F) \\\n  -exec", "needs a cluster; the same by docker exec",
		[]string{"tests/backup TestPostgresIsRestored"}},
	{"docs/operations.md", "go run ./tools/backup save -dir backup/$(date +%F)\n", "needs PostgreSQL",
		[]string{"tests/backup TestPostgresIsRestored"}},
	{"docs/operations.md", "for s in", "needs a cluster", nil},
	{"", "kubectl apply -k mesh/", "needs a cluster; the manifests are checked without",
		[]string{"tests/mesh TestEveryOverlayIsValid", "tests/mesh TestIstioctlTakesTheOverlaysOfIstio"}},
	{"", "kubectl -n meshmart rollout restart", "needs a cluster: make test-cluster",
		[]string{"tests/cluster/disturb.go"}},
	{"docs/operations.md", "kubectl -n databases port-forward", "needs a cluster: make test-cluster, to another",
		[]string{"tests/cluster/kubectl.go"}},
	{"docs/runbook.md", "kubectl -n meshmart", "needs a cluster in trouble", nil},
	{"docs/mesh.md", "kubectl apply -f https://github.com/kubernetes-sigs", "needs a cluster, and the network", nil},
	{"", "helm ", "needs a cluster, and the network", nil},
	{"", "linkerd ", "needs a cluster, and the network", nil},
	{"docs/plain.md", "kubectl apply -f mesh/plain", "needs a cluster with cert-manager",
		[]string{"mesh/protoc-gen-mesh/certificates TestEveryAccountHasACertificateOfItsOwn"}},
	{"docs/stripe.md", "PAYMENT_PROCESSOR=stripe", "needs an account at Stripe; the same by stripe-mock and a stand-in",
		[]string{"services/payment TestServiceByStripe", "services/payment TestRequestsAreAsStripeSpecifiesThem"}},
	{"docs/stripe.md", "stripe ", "needs an account at Stripe, and its own program", nil},
	{"docs/images.md", "gh attestation verify", "needs a release on GitHub", nil},
	{"docs/images.md", "sha256sum --ignore-missing", "needs what was downloaded; the same file",
		[]string{"tests/release TestDryRunIsARelease"}},
}

// find returns the first entry that the command is in, if any.
func find(s step) *elsewhere {
	for i, l := range listed {
		if (l.document == "" || l.document == s.document) && strings.HasPrefix(s.Name()+"\n", l.command) {
			return &listed[i]
		}
	}
	return nil
}

// unrun counts the commands that no test runs anywhere.
func unrun(t *testing.T) int {
	t.Helper()
	n := 0
	for _, s := range steps(t) {
		if l := find(s); l != nil && len(l.by) == 0 {
			n++
		}
	}
	return n
}

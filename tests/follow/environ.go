package follow

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/meshmart/meshmart/tests/freeport"
)

// built is how `make run` compiles, which what it has compiled before is kept for.
var built = regexp.MustCompile(`go build -trimpath .*-tags ([a-z0-9,]+)`)

// Environ is that of somebody whose folder is home: the shop is on ports that are
// free, and localhost:8080 is the shop's for curl, and by default for shopctl. The
// programs are those of services/cmd, and the others named.
func Environ(t *testing.T, home string, others ...string) []string {
	t.Helper()
	ports, err := freeport.Ports(1)
	if err != nil {
		t.Fatal(err)
	}
	curl := fmt.Sprintf("silent\nshow-error\nconnect-to = \"localhost:8080:127.0.0.1:%d\"\n", ports[0])
	if err := os.WriteFile(filepath.Join(home, ".curlrc"), []byte(curl), 0o600); err != nil {
		t.Fatal(err)
	}
	env := append(os.Environ(),
		"CGO_ENABLED=0", "GOFLAGS=-trimpath -tags="+tags(t),
		"CURL_HOME="+home, fmt.Sprintf("HTTP_ADDR=127.0.0.1:%d", ports[0]),
		fmt.Sprintf("SHOPCTL_SERVER=http://127.0.0.1:%d", ports[0]), "XDG_CONFIG_HOME="+home,
		"OTEL_EXPORTER_OTLP_ENDPOINT=",
	)
	programs, err := filepath.Glob(filepath.Join(Root(t), "services/cmd/*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range append(programs, others...) {
		env = append(env, strings.ToUpper(filepath.Base(p))+"_GRPC_ADDR=127.0.0.1:0")
	}
	return env
}

func tags(t *testing.T) string {
	t.Helper()
	makefile, err := os.ReadFile(filepath.Join(Root(t), "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	tags := built.FindSubmatch(makefile)
	if tags == nil {
		t.Fatal("the Makefile does not say how the programs are built")
	}
	return string(tags[1])
}

package shopctl

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func TestManualHasEveryCommandAndFlag(t *testing.T) {
	r := newShop(t, nil).run(t, nil, "man")
	if r.code != exitOK {
		t.Fatalf("%+v", r)
	}
	page := strings.ReplaceAll(r.out, `\-`, "-")
	c := &cli{Process: Process{Env: func(string) string { return "" }}}
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		if !cmd.HasAvailableSubCommands() && !strings.Contains(page, "\n.B "+cmd.CommandPath()) {
			t.Errorf("no %q", cmd.CommandPath())
		}
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(c.root())
	for _, want := range []string{"--server string\n", "--card string\n", "SHOPCTL_PASSWORD", "not signed in, or not allowed"} {
		if !strings.Contains(page, want) {
			t.Errorf("no %q", want)
		}
	}
}

func TestManualIsUnderstood(t *testing.T) {
	groff, err := exec.LookPath("groff")
	if err != nil {
		t.Skip("needs groff")
	}
	cmd := exec.CommandContext(t.Context(), groff, "-man", "-Tutf8", "-ww", "-rLL=100n")
	cmd.Stdin = strings.NewReader(newShop(t, nil).run(t, nil, "man").out)
	var warnings strings.Builder
	cmd.Stderr = &warnings
	out, err := cmd.Output()
	if err != nil || warnings.Len() > 0 {
		t.Errorf("%v\n%s", err, &warnings)
	}
	if !strings.Contains(string(out), "be a new customer") && !strings.Contains(string(out), "Be a new customer") {
		t.Errorf("it shows\n%s", out)
	}
}

// TestCompletionsAreScripts has each shell that is here read its own.
func TestCompletionsAreScripts(t *testing.T) {
	for shell, check := range map[string][]string{"bash": {"bash", "-n"}, "zsh": {"zsh", "-n"}, "fish": {"fish", "--no-execute"}} {
		t.Run(shell, func(t *testing.T) {
			r := newShop(t, nil).run(t, nil, "completion", shell)
			if r.code != exitOK || !strings.Contains(r.out, "shopctl") {
				t.Fatalf("%+v", r)
			}
			if _, err := exec.LookPath(check[0]); err != nil {
				t.Skipf("needs %s", shell)
			}
			cmd := exec.CommandContext(t.Context(), check[0], check[1:]...)
			cmd.Stdin = strings.NewReader(r.out)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

package follow

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Root is the folder of this repository, for a test in a folder of tests/.
func Root(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// Tree makes a repository of git in dir, of the files of this tree as they are,
// committed or not.
func Tree(t *testing.T, dir string) {
	t.Helper()
	const command = `git -C "$ROOT" ls-files -z -co --exclude-standard --deduplicate |
		(cd "$ROOT" && while IFS= read -r -d '' f; do [ ! -e "$f" ] || printf '%s\0' "$f"; done | tar c --null -T -) | tar x &&
		git init -q && git add -A && git -c user.name=test -c user.email=test@localhost commit -qm 'As it is'`
	root := Root(t)
	if _, err := Run(t, root, os.Environ(), "git rev-parse"); err != nil {
		t.Skip("this tree is no repository of git, which would tell its files")
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := Run(t, dir, append(os.Environ(), "ROOT="+root), command); err != nil {
		t.Fatalf("the tree can't be copied: %v\n%s", err, out)
	}
}

// Needs skips a test that has to do without a program.
func Needs(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("what the document says needs %s", p)
		}
	}
}

// Run returns what a script prints.
func Run(t *testing.T, dir string, env []string, script string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	err = command(ctx, dir, env, out, "-c", script).Run()
	text, readErr := os.ReadFile(out.Name())
	if readErr != nil {
		t.Fatal(readErr)
	}
	return string(text), err
}

// command is bash, and what it starts. Its output is no pipe: who is left running
// would hold it open.
func command(ctx context.Context, dir string, env []string, out *os.File, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "bash", append([]string{"-eu", "-o", "pipefail"}, args...)...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = dir, env, out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	return cmd
}

// Stays is the command that does not end: the next ones are for another shell,
// once it is ready.
const Stays = "make run"

const inBackground = `[ -z "${shop:-}" ] || { kill $shop; wait $shop || true; }
make run >>run.log 2>&1 3>&- & shop=$!
trap 'kill $shop; wait' EXIT
until curl -sf localhost:8080/readyz >/dev/null; do kill -0 $shop || { cat run.log; exit 1; }; sleep 0.1; done
`

// Interrupt ends what Stays has begun, as Ctrl-C does.
const Interrupt = "kill $shop; wait $shop || true; shop=; trap - EXIT\n"

// Shell is one that commands are typed into, as one person does at one place.
type Shell struct {
	in   io.Writer
	out  *os.File // what has been printed
	done *bufio.Reader
}

// Open starts a shell in a folder; it ends with the test, and so does what Stays
// has begun.
func Open(t *testing.T, dir string, env []string) *Shell {
	t.Helper()
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	done, says, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := command(context.WithoutCancel(t.Context()), dir, env, out)
	cmd.ExtraFiles = []*os.File{says}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	hang := time.AfterFunc(25*time.Minute, func() { _ = cmd.Cancel() })
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait() // with what the last command ended with
		hang.Stop()
		_, _ = done.Close(), out.Close()
	})
	_ = says.Close() // the shell has its own
	return &Shell{in, out, bufio.NewReader(done)}
}

// Type types commands, waits until they are done, and returns what they printed.
// That one fails fails the test.
func (s *Shell) Type(t *testing.T, commands string) string {
	t.Helper()
	if (Command{Text: commands}).Name() == Stays {
		commands = inBackground
	}
	before, err := s.out.Seek(0, io.SeekEnd)
	if err != nil {
		t.Fatal(err)
	}
	_, err = fmt.Fprintf(s.in, "{ %s\n} </dev/null\necho >&3\n", strings.TrimSuffix(commands, "\n"))
	if err == nil {
		_, err = s.done.ReadString('\n')
	}
	printed, readErr := io.ReadAll(io.NewSectionReader(s.out, before, 1<<30))
	if readErr != nil {
		t.Fatal(readErr)
	}
	if err != nil {
		t.Fatalf("this failed: %s\n%s", commands, printed)
	}
	return string(printed)
}

// CPU is the processor time of what has been typed and is done.
func (s *Shell) CPU(t *testing.T) time.Duration {
	t.Helper()
	var sum time.Duration
	for _, word := range strings.Fields(s.Type(t, "times")) { // 1m2.345s, four of them
		d, err := time.ParseDuration(word)
		if err != nil {
			t.Fatal(err)
		}
		sum += d
	}
	return sum
}

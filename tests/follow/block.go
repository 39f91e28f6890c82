// Package follow does what a document says: it reads its blocks of commands, and
// types them into a shell in a copy of the tree.
package follow

import (
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strings"
)

// Block is a fenced block of a document.
type Block struct {
	Language string // what is behind the fence, up to a space
	File     string // and after it: of what file the block is a quote
	Line     int    // of the fence, from 1
	Text     string
}

var fence = regexp.MustCompile("(?ms)^```([a-z]*)(?: ([^\n]+))?\n(.*?)^```$")

// Blocks returns the fenced blocks of a document, in its order.
func Blocks(document string) []Block {
	var all []Block
	for _, m := range fence.FindAllStringSubmatchIndex(document, -1) {
		b := Block{Language: document[m[2]:m[3]], Text: document[m[6]:m[7]], Line: 1 + strings.Count(document[:m[0]], "\n")}
		if m[4] >= 0 {
			b.File = document[m[4]:m[5]]
		}
		all = append(all, b)
	}
	return all
}

// Shell reports whether the block is for a shell: commands (sh, bash), or commands
// behind a $ with what they print below them (console).
func (b Block) Shell() bool { return slices.Contains([]string{"sh", "bash", "console"}, b.Language) }

// Command is one command of a block, with the lines that go on with it.
type Command struct {
	Text   string // ends with a line break; comments before it are part of it
	Prints string // what the document says that it prints; empty if it says nothing
}

// Name is the command without what stands behind it as a comment, and without the
// comments before it.
func (c Command) Name() string {
	var lines []string
	for line := range strings.Lines(c.Text) {
		if line = strings.TrimSuffix(line, "\n"); !strings.HasPrefix(line, "#") {
			lines = append(lines, line)
		}
	}
	text, _, _ := strings.Cut(strings.Join(lines, "\n"), " # ")
	return strings.TrimSpace(text)
}

// Commands are those of a block for a shell. One that does not end, such as a
// quotation that is left open, is an error.
func (b Block) Commands() ([]Command, error) {
	var all []Command
	var now Command
	open := false // a command has begun
	for line := range strings.Lines(b.Text) {
		if b.Language == "console" {
			command, typed := strings.CutPrefix(line, "$ ")
			if !typed && !open {
				if len(all) == 0 {
					return nil, fmt.Errorf("line %d: the first line has no $", b.Line)
				}
				all[len(all)-1].Prints += line
				continue
			}
			line = command
		}
		now.Text += line
		if open = !whole(now.Text); !open && now.Name() != "" {
			all, now = append(all, now), Command{}
		}
	}
	if open {
		return nil, fmt.Errorf("line %d: this command does not end: %s", b.Line, now.Text)
	}
	return all, nil
}

// whole reports whether a shell would wait for no more lines.
func whole(text string) bool {
	return !strings.HasSuffix(text, "\\\n") && exec.Command("bash", "-n", "-c", text).Run() == nil
}

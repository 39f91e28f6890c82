package shopctl

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/meshmart/meshmart/services/internal/version"
)

// The manual page is written by the program itself, from the same texts as --help:
// there is none that could be of another version.
func (c *cli) manCommand() *cobra.Command {
	return &cobra.Command{
		Use: "man", Short: "write the manual page: shopctl man | man -l -", Args: cobra.NoArgs,
		Long: `Write the manual page, with all commands and their flags, in the language of man(1).
To read it: shopctl man | man -l -. To install it: shopctl man >/usr/local/share/man/man1/shopctl.1`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := io.WriteString(c.Stdout, manual(cmd.Root()))
			return err
		},
	}
}

// manual is the page of a command and all that belong to it.
func manual(root *cobra.Command) string {
	var b strings.Builder
	fmt.Fprintf(&b, ".TH %s 1 \"\" \"%s\"\n", strings.ToUpper(root.Name()), troff(version.Get()))
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", root.Name(), troff(root.Short))
	fmt.Fprintf(&b, ".SH SYNOPSIS\n.B %s\n[\\fIflags\\fR] \\fIcommand\\fR ...\n.SH OPTIONS\n", root.Name())
	options(&b, root.PersistentFlags())
	b.WriteString(".SH COMMANDS\n")
	for _, g := range root.Groups() {
		fmt.Fprintf(&b, ".SS %s\n", troff(strings.TrimSuffix(g.Title, ":")))
		for _, cmd := range root.Commands() {
			if cmd.GroupID == g.ID {
				describe(&b, cmd)
			}
		}
	}
	for section := range strings.SplitSeq(strings.TrimSpace(notes), "\n\n") {
		title, text, _ := strings.Cut(section, ":\n")
		fmt.Fprintf(&b, ".SH %s\n.nf\n%s\n.fi\n", strings.ToUpper(title), troff(text))
	}
	return b.String()
}

// describe writes of a command, or of those under it.
func describe(b *strings.Builder, cmd *cobra.Command) {
	if cmd.HasAvailableSubCommands() {
		for _, sub := range cmd.Commands() {
			describe(b, sub)
		}
		return
	}
	line := strings.TrimSuffix(cmd.UseLine(), " [flags]")
	fmt.Fprintf(b, ".TP\n.B %s\n%s\n", troff(line), troff(strings.ToUpper(cmd.Short[:1])+cmd.Short[1:]+"."))
	if cmd.Long != "" {
		fmt.Fprintf(b, ".RS\n.PP\n.nf\n%s\n.fi\n.RE\n", troff(strings.TrimSpace(strings.ReplaceAll(cmd.Long, "\t", "  "))))
	}
	if cmd.HasAvailableLocalFlags() {
		b.WriteString(".RS\n")
		options(b, cmd.NonInheritedFlags())
		b.WriteString(".RE\n")
	}
}

func options(b *strings.Builder, flags *pflag.FlagSet) {
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		name := "--" + f.Name
		if f.Shorthand != "" {
			name = "-" + f.Shorthand + ", " + name
		}
		value, usage := pflag.UnquoteUsage(f)
		fmt.Fprintf(b, ".TP\n.B %s\n%s\n", troff(strings.TrimSpace(name+" "+value)), troff(usage))
	})
}

// troff has man show a text as it is.
func troff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, `-`, `\-`).Replace(text)
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}

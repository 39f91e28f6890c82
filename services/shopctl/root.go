package shopctl

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/meshmart/meshmart/services/internal/version"
	"github.com/meshmart/meshmart/services/shopctl/rest"
	"github.com/meshmart/meshmart/services/shopctl/signin"
)

const defaultServer = "http://localhost:8080"

// notes stand at the end of the root command's help.
const notes = `
Environment:
  SHOPCTL_SERVER     the shop's address, unless --server says it (` + defaultServer + `)
  SHOPCTL_PASSWORD   the password for login and register; without it they ask,
                     or take a line of standard input if that is no terminal
  XDG_CONFIG_HOME    tokens are kept in meshmart/tokens.json there (~/.config)
  NO_COLOR           if set, no colors

Exit codes:
  0  done                                1  the shop refused or failed, or is away
  2  the command is wrong                3  partly done: some lines were rejected
  4  not signed in, or not allowed       5  not found
  130  interrupted
`

// cli is one run of the program.
type cli struct {
	Process
	server  string
	timeout time.Duration
	format  string // of the output
	hurried bool   // --timeout was given
	started bool   // the command is understood

	out    *printer
	shop   *rest.Client
	tokens *signin.Session
}

const (
	groupAccount = "account"
	groupGoods   = "goods"
	groupOrders  = "orders"
	groupMore    = "more"
)

// root is the command that all others belong to.
func (c *cli) root() *cobra.Command {
	root := &cobra.Command{
		Use: "shopctl", Short: "the command line of a meshmart shop",
		SilenceErrors: true, SilenceUsage: true, // Run tells errors
		Args: cobra.NoArgs, RunE: help,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return c.start(cmd) },
	}
	root.SetIn(c.Stdin)
	root.SetOut(c.Stdout)
	root.SetErr(c.Stderr)
	server := c.Env("SHOPCTL_SERVER")
	if server == "" {
		server = defaultServer
	}
	f := root.PersistentFlags()
	f.StringVar(&c.server, "server", server, "the shop's address ($SHOPCTL_SERVER)")
	f.DurationVar(&c.timeout, "timeout", 30*time.Second, "for each call with its repetitions; for watch and import, which else may take any time, for the whole")
	f.StringVarP(&c.format, "output", "o", "table", `"table", or "json" for the server's own answers, one a line`)
	_ = root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json"}, cobra.ShellCompDirectiveNoFileComp)) // the flag is there
	c.addCommands(root)
	// Not by a template: text/template keeps the linker from leaving out methods.
	usual := root.HelpFunc()
	root.SetHelpFunc(func(cmd *cobra.Command, args []string) {
		usual(cmd, args)
		if cmd == root {
			fmt.Fprint(c.Stdout, notes)
		}
	})
	return root
}

// addCommands adds all commands in their groups, those of cobra itself included.
func (c *cli) addCommands(root *cobra.Command) {
	root.AddGroup(
		&cobra.Group{ID: groupAccount, Title: "Account:"}, &cobra.Group{ID: groupGoods, Title: "Goods:"},
		&cobra.Group{ID: groupOrders, Title: "Orders:"}, &cobra.Group{ID: groupMore, Title: "More:"},
	)
	for id, cmds := range map[string][]*cobra.Command{
		groupAccount: {c.loginCommand(), c.logoutCommand(), c.whoamiCommand(), c.registerCommand(), c.usersCommand()},
		groupGoods:   {c.productsCommand(), c.stockCommand()},
		groupOrders:  {c.orderCommand(), c.demoCommand()},
		groupMore:    {c.manCommand(), c.versionCommand()},
	} {
		for _, cmd := range cmds {
			cmd.GroupID = id
			root.AddCommand(cmd)
		}
	}
	root.SetHelpCommandGroupID(groupMore)
	root.SetCompletionCommandGroupID(groupMore)
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		switch cmd.Name() {
		case "help":
			cmd.Short = "tell more about a command"
		case "completion":
			cmd.Short = "write a script that completes commands in a shell"
		}
	}
}

// help is what a command does that only has others under it.
func help(cmd *cobra.Command, _ []string) error { return cmd.Help() }

// group is such a command.
func group(use, short string, cmds ...*cobra.Command) *cobra.Command {
	g := &cobra.Command{Use: use, Short: short, Args: cobra.NoArgs, RunE: help}
	g.AddCommand(cmds...)
	return g
}

// start checks the flags and prepares what commands need.
func (c *cli) start(cmd *cobra.Command) error {
	c.started = true
	c.hurried = cmd.Flags().Changed("timeout")
	server, err := address(c.server)
	switch {
	case err != nil:
		return err
	case c.timeout <= 0:
		return usagef("--timeout must be positive")
	case c.format != "table" && c.format != "json":
		return usagef("--output is table or json, not %q", c.format)
	}
	path, err := signin.Path(c.Env)
	if err != nil {
		return err
	}
	c.out = newPrinter(c.Process, c.format == "json")
	c.shop = &rest.Client{
		Server: server, Agent: "shopctl/" + version.Get(), HTTP: rest.NewHTTP(),
		Timeout: c.timeout, Notice: c.notice, Pause: c.pause,
	}
	c.tokens = &signin.Session{File: signin.File{Path: path}, Client: c.shop, Now: time.Now}
	c.shop.Session = c.tokens
	return nil
}

// address returns the base address of the shop in one form, since tokens are
// kept by it.
func address(server string) (string, error) {
	if !strings.Contains(server, "://") {
		server = "http://" + server
	}
	u, err := url.Parse(server)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", usagef("--server: %q is not an address such as %s", server, defaultServer)
	}
	return strings.ToLower(u.Scheme+"://"+u.Host) + strings.TrimRight(u.EscapedPath(), "/"), nil
}

// unhurried is the context for what may take any time, unless --timeout says
// how long.
func (c *cli) unhurried(ctx context.Context) (context.Context, context.CancelFunc) {
	if c.hurried {
		return context.WithTimeout(ctx, c.timeout)
	}
	return context.WithCancel(ctx)
}

func (c *cli) close() {
	if c.shop != nil {
		c.shop.HTTP.CloseIdleConnections()
	}
}

func (c *cli) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "print the version", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			fmt.Fprintln(c.Stdout, "shopctl", version.Get())
			return nil
		},
	}
}

package shopctl

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	userpb "github.com/meshmart/meshmart/proto/user/v1"
)

func (c *cli) loginCommand() *cobra.Command {
	return &cobra.Command{
		Use: "login [EMAIL]", Short: "sign in", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			email, password, err := c.credentials(cmd.Context(), args, false)
			if err != nil {
				return err
			}
			return c.signIn(cmd.Context(), email, password)
		},
	}
}

func (c *cli) signIn(ctx context.Context, email, password string) error {
	if err := c.tokens.In(ctx, email, password); err != nil {
		return err
	}
	c.notice("signed in to %s as %s", c.shop.Server, email)
	return nil
}

func (c *cli) registerCommand() *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use: "register [EMAIL]", Short: "open an account, and sign in", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			email, password, err := c.credentials(ctx, args, true)
			if err != nil {
				return err
			}
			out := &userpb.CreateUserResponse{}
			in := &userpb.CreateUserRequest{Email: email, Password: password, DisplayName: name}
			raw, err := c.shop.Call(ctx, userpb.UserService_CreateUser_FullMethodName, in, out)
			if err != nil {
				return err
			}
			c.out.reply(raw, func() *table { return userDetails(out.GetUser()) })
			return c.signIn(ctx, email, password)
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "how to be addressed")
	return cmd
}

func (c *cli) logoutCommand() *cobra.Command {
	return &cobra.Command{
		Use: "logout", Short: "sign out, and have the tokens revoked", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			was, err := c.tokens.Out(cmd.Context())
			switch {
			case err != nil:
				return err
			case was:
				c.notice("signed out of %s", c.shop.Server)
			default:
				c.notice("not signed in to %s", c.shop.Server)
			}
			return nil
		},
	}
}

func (c *cli) whoamiCommand() *cobra.Command {
	return &cobra.Command{
		Use: "whoami", Short: "show who is signed in", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			out := &userpb.GetUserResponse{}
			raw, err := c.shop.Call(cmd.Context(), userpb.UserService_GetUser_FullMethodName, &userpb.GetUserRequest{Id: "me"}, out)
			if err != nil {
				return err
			}
			c.out.reply(raw, func() *table { return userDetails(out.GetUser()) })
			return nil
		},
	}
}

func userDetails(u *userpb.User) *table {
	t := details()
	t.field("id", u.GetId())
	t.field("email", u.GetEmail())
	t.field("name", u.GetDisplayName())
	t.field("roles", strings.Join(u.GetRoles(), ", "))
	t.field("created", clock(u.GetCreateTime()))
	return t
}

func (c *cli) usersCommand() *cobra.Command {
	var q query
	cmd := &cobra.Command{
		Use: "list", Short: "list the accounts (administrators)", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return q.pages(c, "accounts", func(token string, size int32) (page, error) {
				out := &userpb.ListUsersResponse{}
				in := &userpb.ListUsersRequest{PageSize: size, PageToken: token, Filter: q.filter, OrderBy: q.order}
				raw, err := c.shop.Call(cmd.Context(), userpb.UserService_ListUsers_FullMethodName, in, out)
				return page{raw, out, len(out.GetUsers()), func() *table { return userTable(out.GetUsers()) }}, err
			})
		},
	}
	q.flags(cmd, `email:"@example.com"`, "email")
	g := group("users", "look after accounts (administrators)", cmd)
	g.Aliases = []string{"user"}
	return g
}

func userTable(users []*userpb.User) *table {
	t := &table{head: []string{"ID", "EMAIL", "NAME", "ROLES", "CREATED"}, flexible: 2}
	for _, u := range users {
		t.add(u.GetId(), u.GetEmail(), u.GetDisplayName(), strings.Join(u.GetRoles(), ","), clock(u.GetCreateTime()))
	}
	return t
}

// credentials finds out who signs in: what the command does not say is asked.
func (c *cli) credentials(ctx context.Context, args []string, chosen bool) (email, password string, err error) {
	c.warnOfPlainText()
	fd, tty := terminal(c.Stdin)
	in := bufio.NewReader(c.Stdin)
	switch {
	case len(args) > 0:
		email = args[0]
	case !tty:
		return "", "", usagef("say who signs in: shopctl login EMAIL")
	default:
		fmt.Fprint(c.Stderr, "email: ")
		if email, err = await(ctx, func() (string, error) { return line(in) }); err != nil {
			return "", "", err
		}
	}
	if password = c.Env("SHOPCTL_PASSWORD"); password != "" {
		return email, password, nil
	}
	if !tty {
		password, err = await(ctx, func() (string, error) { return line(in) })
	} else if password, err = c.askHidden(ctx, fd, "password: "); err == nil && chosen {
		var again string
		if again, err = c.askHidden(ctx, fd, "once more: "); err == nil && again != password {
			err = usagef("these are two passwords")
		}
	}
	if err == nil && password == "" {
		err = usagef("no password: set SHOPCTL_PASSWORD, or give it on standard input")
	}
	return email, password, err
}

// line reads one line, without its end.
func line(in *bufio.Reader) (string, error) {
	text, err := in.ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	return strings.TrimRight(text, "\r\n"), nil
}

// askHidden reads a line without showing it. However it ends, the terminal
// shows again what is typed.
func (c *cli) askHidden(ctx context.Context, fd int, prompt string) (string, error) {
	state, err := term.GetState(fd)
	if err != nil {
		return "", fmt.Errorf("ask for a password: %w", err)
	}
	defer term.Restore(fd, state)
	fmt.Fprint(c.Stderr, prompt)
	defer fmt.Fprintln(c.Stderr)
	return await(ctx, func() (string, error) {
		text, err := term.ReadPassword(fd)
		return string(text), err
	})
}

// warnOfPlainText tells when a password is about to cross a network in clear.
func (c *cli) warnOfPlainText() {
	u, err := url.Parse(c.shop.Server)
	if err != nil || u.Scheme != "http" || u.Hostname() == "localhost" {
		return
	}
	if ip := net.ParseIP(u.Hostname()); ip == nil || !ip.IsLoopback() {
		c.notice("warning: %s is not encrypted; others on the way can read the password", c.shop.Server)
	}
}

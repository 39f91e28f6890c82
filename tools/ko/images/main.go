// Command images makes the container images of the shop's programs, one of each,
// by ko and as .ko.yaml says. It runs in the folder of that file.
//
// It is ko's library and not its command for what that leaves out: images where no
// registry can be reached, all of them in one layout, and their sizes.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"strings"

	"github.com/google/ko/pkg/commands/options"
)

const help = `usage: images [flags] [NAME...]

Builds the image of each program in services/cmd, or of those named, and prints
what became of them. Without a flag that says where to, they go to the layout
.build/images, and from there to KO_DOCKER_REPO where that is set or else to the
local Docker engine if one answers. KO_DEFAULTBASEIMAGE is another base than that
of .ko.yaml; where no registry answers it is one of our own making. VERSION is
what the programs say of themselves, and the images' tag (if it is not set, what
git describe says, and latest).

`

// settings are what the command line says.
type settings struct {
	layout    string // folder of an OCI layout, and of the SBOMs
	push      string // repository
	docker    bool
	scratch   bool   // our own base, whatever can be reached
	platforms string // with commas between
	tag       string
	tags      string // of the Go build, instead of those in .ko.yaml
	names     []string
}

func main() {
	log.SetOutput(io.Discard) // ko's own, which has all that git calls dirty
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	s, err := parse(ctx, os.Args[1:])
	if err == nil {
		err = run(ctx, s)
	}
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		say("%v", err)
		os.Exit(1)
	}
}

// say tells whoever waits what is being done.
func say(format string, args ...any) { fmt.Fprintf(os.Stderr, "images: "+format+"\n", args...) }

func parse(ctx context.Context, args []string) (settings, error) {
	var s settings
	f := flag.NewFlagSet("images", flag.ContinueOnError)
	f.Usage = func() {
		fmt.Fprint(f.Output(), help)
		f.PrintDefaults()
	}
	f.StringVar(&s.layout, "layout", "", "write an OCI layout with all platforms, and the SBOMs, into this `folder`")
	f.BoolVar(&s.docker, "docker", false, "load those of this machine's platform into the local Docker engine, as meshmart/NAME:TAG")
	f.StringVar(&s.push, "push", "", "push to this `repository`, as REPOSITORY/NAME:TAG, with the SBOMs")
	f.BoolVar(&s.scratch, "scratch", false, "use the base of our own making, whether or not a registry answers")
	f.StringVar(&s.platforms, "platform", "", "`platforms` with commas between instead of those in .ko.yaml; with -docker alone it is this machine's")
	f.StringVar(&s.tag, "tag", cmp.Or(os.Getenv("VERSION"), "latest"), "`tag` of the images")
	f.StringVar(&s.tags, "gotags", "", "build `tags` of Go, with commas between, instead of those in .ko.yaml")
	if err := f.Parse(args); err != nil {
		return s, err
	}
	if s.names = f.Args(); len(s.names) == 0 {
		dirs, err := filepath.Glob("services/cmd/*")
		if err != nil || len(dirs) == 0 {
			return s, fmt.Errorf("no programs in services/cmd of this folder (%v)", err)
		}
		for _, d := range dirs {
			s.names = append(s.names, filepath.Base(d))
		}
	}
	for _, name := range s.names {
		if _, err := os.Stat(filepath.Join("services", "cmd", name)); err != nil {
			return s, fmt.Errorf("there is no program %s: %w", name, err)
		}
	}
	return s.withDefaults(ctx), nil
}

func (s settings) withDefaults(ctx context.Context) settings {
	if s.docker && s.layout == "" && s.push == "" && s.platforms == "" {
		s.platforms = machine()
	}
	if !s.docker && s.layout == "" && s.push == "" {
		s.layout = filepath.Join(".build", "images")
		s.push = os.Getenv("KO_DOCKER_REPO")
		s.docker = s.push == "" && dockerAnswers(ctx)
	}
	return s
}

// useTags has every program built with a flag that goes before GOFLAGS, and before
// the flags that the program has of its own.
func useTags(opt *options.BuildOptions, flag string) {
	opt.DefaultFlags = append(opt.DefaultFlags, flag)
	for path, own := range opt.BuildConfigs {
		own.Flags = append(own.Flags, flag)
		opt.BuildConfigs[path] = own
	}
}

func run(ctx context.Context, s settings) error {
	for _, name := range []string{"GOOS", "GOARCH", "GOARM", "GOAMD64", "GOARM64"} {
		os.Unsetenv(name) // they would hold for every platform
	}
	if os.Getenv("VERSION") == "" {
		os.Setenv("VERSION", described(ctx)) // .ko.yaml has it stamped
	}
	opt := &options.BuildOptions{Trimpath: true}
	if err := opt.LoadConfig(); err != nil {
		return fmt.Errorf(".ko.yaml: %w", err)
	}
	if opt.Platforms = opt.DefaultPlatforms; s.platforms != "" {
		opt.Platforms = strings.Split(s.platforms, ",")
	}
	if s.tags != "" {
		useTags(opt, "-tags="+s.tags)
	}
	if s.layout != "" {
		opt.SBOMDir = filepath.Join(s.layout, "sbom")
	}
	unlock, err := useCache(s.tags)
	if err != nil {
		return err
	}
	defer unlock()
	b, err := newBuilder(ctx, opt, s.scratch)
	if err != nil {
		return err
	}
	made, err := b.all(ctx, s.names)
	if err != nil {
		return err
	}
	if err := deliver(ctx, s, made); err != nil {
		return err
	}
	if s.docker && s.layout == "" && s.push == "" {
		return nil // for a program that asked: to weigh the layers takes longer than all else
	}
	return report(os.Stdout, s, made)
}

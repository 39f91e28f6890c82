package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/ko/pkg/build"
	"github.com/google/ko/pkg/commands/options"
	"golang.org/x/sync/errgroup"
)

const koVersion = "v0.19.1" // said in the SBOMs; that of go.mod

// image is what was built of one program: an index of images, or one image.
type image struct {
	name   string
	result build.Result
}

type builder struct{ ko build.Interface }

// newBuilder has ko build as its options say. Nothing in it is of the time or the
// place, so that the same source on the same base gives the same digest.
func newBuilder(ctx context.Context, o *options.BuildOptions, scratch bool) (*builder, error) {
	base, err := chooseBase(ctx, o, scratch)
	if err != nil {
		return nil, err
	}
	opts := []build.Option{
		build.WithBaseImages(base),
		build.WithPlatforms(o.Platforms...),
		build.WithDefaultEnv(o.DefaultEnv),
		build.WithDefaultFlags(o.DefaultFlags),
		build.WithDefaultLdflags(o.DefaultLdflags),
		build.WithConfig(o.BuildConfigs),
		build.WithTrimpath(o.Trimpath),
		build.WithUser(user),
		build.WithSPDX(koVersion),
		build.WithLabel("org.opencontainers.image.version", os.Getenv("VERSION")),
	}
	if o.SBOMDir != "" {
		opts = append(opts, build.WithSBOMDir(o.SBOMDir))
	}
	ko, err := build.NewGobuilds(ctx, ".", o.BuildConfigs, opts...)
	return &builder{ko}, err
}

// all builds the images, as many at once as there are CPUs.
func (b *builder) all(ctx context.Context, names []string) ([]image, error) {
	made := make([]image, len(names))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i, name := range names {
		g.Go(func() error {
			path, err := b.ko.QualifyImport("./services/cmd/" + name)
			if err == nil {
				err = b.ko.IsSupportedReference(path)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			say("building %s", name)
			made[i].name = name
			if made[i].result, err = b.ko.Build(gctx, path); err != nil {
				return fmt.Errorf("build %s: %w", name, err)
			}
			return nil
		})
	}
	return made, g.Wait()
}

// images calls fn with each of the images, one for each platform.
func (i image) images(fn func(v1.Platform, v1.Image) error) error {
	if img, ok := i.result.(v1.Image); ok {
		config, err := img.ConfigFile()
		if err != nil {
			return err
		}
		return fn(*config.Platform(), img)
	}
	index := i.result.(v1.ImageIndex)
	manifest, err := index.IndexManifest()
	if err != nil {
		return err
	}
	for _, d := range manifest.Manifests {
		img, err := index.Image(d.Digest)
		if err != nil {
			return err
		}
		if err := fn(*d.Platform, img); err != nil {
			return err
		}
	}
	return nil
}

// machine is the platform of containers on this one.
func machine() string { return "linux/" + runtime.GOARCH }

// described is what git says of the source, if it is a clone.
func described(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "git", "describe", "--tags", "--always", "--dirty").Output()
	if err != nil {
		return "devel"
	}
	return strings.TrimSpace(string(out))
}

// useCache has ko keep the binaries, so that one whose source is as it was is not
// linked and compressed again. The folder is of one build at a time.
func useCache(tags string) (unlock func(), err error) {
	dir := os.Getenv("MESHMART_CACHE")
	if dir == "" {
		if dir, err = os.UserCacheDir(); err != nil {
			return nil, err
		}
		dir = filepath.Join(dir, "meshmart")
	}
	// What ko remembers of a layer holds for the compressor of one Go version.
	key := sha256.Sum256([]byte(runtime.Version() + tags))
	dir = filepath.Join(dir, "ko", fmt.Sprintf("%x", key[:4]))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	return func() { f.Close() }, os.Setenv("KOCACHE", dir)
}

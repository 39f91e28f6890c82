package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/ko/pkg/build"
	"github.com/google/ko/pkg/commands/options"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// user is who runs the programs, by number for a cluster to see that it is not root.
const user = "65532:65532"

// chooseBase returns the base that the options name, or our own where no registry
// answers. What a registry answers, such as that there is no such image, counts.
func chooseBase(ctx context.Context, o *options.BuildOptions, scratch bool) (build.GetBase, error) {
	if !scratch {
		ref, err := name.ParseReference(o.BaseImage)
		if err != nil {
			return nil, fmt.Errorf("base image: %w", err)
		}
		base, err := pull(ctx, ref)
		if err == nil {
			return func(context.Context, string) (name.Reference, build.Result, error) { return ref, base, nil }, nil
		}
		if _, answered := errors.AsType[*transport.Error](err); answered || ctx.Err() != nil {
			return nil, fmt.Errorf("base image: %w", err)
		}
		say("no registry answers (%v): the base is one of our own making, with the same files", err)
	}
	ref := name.MustParseReference("ko.local/meshmart/base:latest")
	base, err := ownBase(ctx, o.Platforms)
	if err != nil {
		return nil, fmt.Errorf("make a base: %w", err)
	}
	return func(context.Context, string) (name.Reference, build.Result, error) { return ref, base, nil }, nil
}

func pull(ctx context.Context, ref name.Reference) (build.Result, error) {
	// Only the first answer has a limit: layers are read when they are needed.
	probe, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if _, err := remote.Head(ref, remote.WithContext(probe), remote.WithAuthFromKeychain(authn.DefaultKeychain)); err != nil {
		return nil, err
	}
	d, err := remote.Get(ref, remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain))
	if err != nil {
		return nil, err
	}
	say("the base is %s@%s", ref, d.Digest)
	if d.MediaType.IsIndex() {
		return d.ImageIndex()
	}
	return d.Image()
}

// ownBase has what a static program needs beside itself, as distroless has it. All
// of it is of this module's go.sum and of the Go release.
func ownBase(ctx context.Context, platforms []string) (v1.ImageIndex, error) {
	layer, err := ownLayer(ctx)
	if err != nil {
		return nil, err
	}
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, text := range platforms {
		p, err := v1.ParsePlatform(text)
		if err != nil {
			return nil, err
		}
		img, err := ownImage(p, layer)
		if err != nil {
			return nil, err
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: p}})
	}
	return index, nil
}

func ownImage(p *v1.Platform, layer v1.Layer) (v1.Image, error) {
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	img, err := mutate.Append(img, mutate.Addendum{Layer: layer, History: v1.History{CreatedBy: "tools/ko/images"}})
	if err != nil {
		return nil, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Variant = p.OS, p.Architecture, p.Variant
	config.Created = v1.Time{Time: time.Unix(0, 0).UTC()}
	config.Config.User = user
	config.Config.WorkingDir = "/home/nonroot"
	config.Config.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"}
	return mutate.ConfigFile(img, config)
}

func ownLayer(ctx context.Context) (v1.Layer, error) {
	var buf bytes.Buffer
	w := tree{tar.NewWriter(&buf)}
	w.dir("etc", 0o755, 0)
	w.file("etc/passwd", "root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n")
	w.file("etc/group", "root:x:0:\nnonroot:x:65532:\n")
	w.dir("etc/ssl", 0o755, 0)
	w.dir("etc/ssl/certs", 0o755, 0)
	w.file("etc/ssl/certs/ca-certificates.crt", authorities())
	w.dir("home", 0o755, 0)
	w.dir("home/nonroot", 0o700, 65532)
	w.dir("tmp", 0o1777, 0)
	w.dir("usr", 0o755, 0)
	w.dir("usr/share", 0o755, 0)
	if err := w.zones(ctx); err != nil {
		return nil, fmt.Errorf("time zones: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(buf.Bytes())), nil },
		tarball.WithMediaType(types.OCILayer), tarball.WithCompressedCaching)
}

// authorities are those of the public web. One that is trusted with conditions,
// which the file can't say, is left out.
func authorities() string {
	var text strings.Builder
	for root := range bundle.Roots() {
		if root.Constraint == nil {
			_ = pem.Encode(&text, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}) // a Builder takes all
		}
	}
	return text.String()
}

// tree writes files of no time. Its errors are those of Close.
type tree struct{ *tar.Writer }

func (t tree) dir(path string, mode int64, owner int) {
	_ = t.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: path + "/", Mode: mode, Uid: owner, Gid: owner})
}

func (t tree) file(path, text string) {
	_ = t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: path, Mode: 0o644, Size: int64(len(text))})
	_, _ = io.WriteString(t, text)
}

// zones writes the time zones that come with Go.
func (t tree) zones(ctx context.Context) error {
	root, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return err
	}
	z, err := zip.OpenReader(filepath.Join(strings.TrimSpace(string(root)), "lib", "time", "zoneinfo.zip"))
	if err != nil {
		return err
	}
	defer z.Close()
	t.dir("usr/share/zoneinfo", 0o755, 0)
	for _, f := range z.File {
		if name, ok := strings.CutSuffix(f.Name, "/"); ok {
			t.dir("usr/share/zoneinfo/"+name, 0o755, 0)
			continue
		}
		r, err := f.Open()
		if err != nil {
			return err
		}
		text, err := io.ReadAll(r)
		if err = errors.Join(err, r.Close()); err != nil {
			return err
		}
		t.file("usr/share/zoneinfo/"+f.Name, string(text))
	}
	return nil
}

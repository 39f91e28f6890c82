package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/daemon"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/ko/pkg/publish"
	"github.com/moby/moby/client"
)

// deliver puts the images where they are wanted.
func deliver(ctx context.Context, s settings, made []image) error {
	if s.layout != "" {
		if err := writeLayout(s, made); err != nil {
			return fmt.Errorf("write %s: %w", s.layout, err)
		}
	}
	for _, i := range made {
		if s.push != "" {
			if err := push(ctx, s, i); err != nil {
				return fmt.Errorf("push %s: %w", i.name, err)
			}
		}
		if s.docker {
			if err := load(ctx, s.reference(i), i); err != nil {
				return fmt.Errorf("load %s into Docker: %w", i.name, err)
			}
		}
	}
	return nil
}

// reference names an image where no repository does.
func (s settings) reference(i image) string { return "meshmart/" + i.name + ":" + s.tag }

// writeLayout leaves these images in the folder and no others.
func writeLayout(s settings, made []image) error {
	p, err := layout.Write(s.layout, empty.Index)
	if err != nil {
		return err
	}
	for _, i := range made {
		named := layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": s.reference(i)})
		if index, ok := i.result.(v1.ImageIndex); ok {
			err = p.AppendIndex(index, named)
		} else {
			err = p.AppendImage(i.result.(v1.Image), named)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", i.name, err)
		}
	}
	stale, err := p.GarbageCollect()
	for _, blob := range stale {
		err = errors.Join(err, p.RemoveBlob(blob))
	}
	return err
}

func push(ctx context.Context, s settings, i image) error {
	p, err := publish.NewDefault(s.push, publish.WithTags([]string{s.tag}),
		publish.WithNamer(func(repo, pkg string) string { return path.Join(repo, path.Base(pkg)) }))
	if err != nil {
		return err
	}
	_, err = p.Publish(ctx, i.result, i.name)
	return errors.Join(err, p.Close())
}

func dockerAnswers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	docker, err := client.New(client.FromEnv)
	if err != nil {
		return false
	}
	defer docker.Close()
	_, err = docker.Ping(ctx, client.PingOptions{})
	return err == nil
}

// load gives Docker the image of this machine's platform. It leaves one that is
// there alone, and removes what had the name before if nothing else uses it.
func load(ctx context.Context, reference string, i image) error {
	tag, err := name.NewTag(reference)
	if err != nil {
		return err
	}
	docker, err := client.New(client.FromEnv)
	if err != nil {
		return err
	}
	defer docker.Close()
	before, _ := docker.ImageInspect(ctx, reference) // there may be none
	found := false
	err = i.images(func(p v1.Platform, img v1.Image) error {
		if p.OS+"/"+p.Architecture != machine() {
			return nil
		}
		found = true
		if answer, err := daemon.Write(tag, img, daemon.WithContext(ctx), daemon.WithClient(docker)); err != nil {
			return fmt.Errorf("%w %s", err, answer)
		}
		return nil
	})
	if err == nil && !found {
		return fmt.Errorf("it was not built for %s", machine())
	}
	if now, e := docker.ImageInspect(ctx, reference); e == nil && before.ID != "" && now.ID != before.ID {
		_, _ = docker.ImageRemove(ctx, before.ID, client.ImageRemoveOptions{}) // a container may still use it
	}
	return err
}

// report prints what there is now. The size is that of the files, the download
// that of the compressed layers.
func report(to io.Writer, s settings, made []image) error {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "IMAGE\tPLATFORM\tSIZE\tDOWNLOAD\tDIGEST")
	for _, i := range made {
		err := i.images(func(p v1.Platform, img v1.Image) error {
			size, download, err := sizes(img)
			if err != nil {
				return err
			}
			digest, err := img.Digest()
			fmt.Fprintf(w, "%s\t%s\t%.1f MB\t%.1f MB\t%s\n", i.name, p, size/1e6, download/1e6, digest)
			return err
		})
		if err != nil {
			return fmt.Errorf("%s: %w", i.name, err)
		}
		if _, ok := i.result.(v1.ImageIndex); ok {
			digest, err := i.result.Digest()
			if err != nil {
				return fmt.Errorf("%s: %w", i.name, err)
			}
			fmt.Fprintf(w, "%s\tall\t\t\t%s\n", i.name, digest)
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprint(to, s.places())
	return err
}

func (s settings) places() string {
	var b strings.Builder
	if s.layout != "" {
		fmt.Fprintf(&b, "in the OCI layout %s, with an SBOM (SPDX) of each in %[1]s/sbom\n", s.layout)
	}
	if s.docker {
		fmt.Fprintf(&b, "in the local Docker engine as meshmart/NAME:%s\n", s.tag)
	}
	if s.push != "" {
		fmt.Fprintf(&b, "pushed to %s/NAME:%s\n", s.push, s.tag)
	}
	return b.String()
}

func sizes(img v1.Image) (size, download float64, err error) {
	layers, err := img.Layers()
	if err != nil {
		return 0, 0, err
	}
	for _, l := range layers {
		n, err := l.Size()
		if err != nil {
			return 0, 0, err
		}
		download += float64(n)
		r, err := l.Uncompressed()
		if err != nil {
			return 0, 0, err
		}
		n, err = io.Copy(io.Discard, r)
		if err = errors.Join(err, r.Close()); err != nil {
			return 0, 0, err
		}
		size += float64(n)
	}
	return size, download, nil
}

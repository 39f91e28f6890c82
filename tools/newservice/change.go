package main

import (
	"embed"
	"errors"
	"fmt"
	"go/format"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// The files of a service that keeps gadgets, each where it belongs.
//
//go:embed template
var templates embed.FS

// change is a file as it is to be.
type change struct {
	path string // from the root, with slashes
	text []byte
	new  bool
}

func (c change) String() string {
	if c.new {
		return "new      " + c.path
	}
	return "changed  " + c.path
}

func (c change) write(root string) error {
	p := filepath.Join(root, filepath.FromSlash(c.path))
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		return err
	}
	return os.WriteFile(p, c.text, 0o644)
}

// changes are all that the service needs. An error tells every place that is not
// as expected.
func (s *service) changes(root string) ([]change, error) {
	written, err := s.templates()
	if err != nil {
		return nil, err
	}
	var all []change
	var errs []error
	for p, text := range written {
		if _, err := os.Lstat(filepath.Join(root, filepath.FromSlash(p))); err == nil {
			errs = append(errs, fmt.Errorf("%s is there already", p))
		}
		all = append(all, change{p, text, true})
	}
	edited := map[string][]byte{}
	for _, e := range edits() {
		if edited[e.path] == nil {
			text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(e.path)))
			if err != nil {
				errs = append(errs, err)
				continue
			}
			edited[e.path] = text
		}
		text, err := e.apply(s, edited[e.path])
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", e.path, err))
			continue
		}
		edited[e.path] = text
	}
	for p, text := range edited {
		text, err := formatted(p, text)
		errs = append(errs, err)
		all = append(all, change{p, text, false})
	}
	slices.SortFunc(all, func(a, b change) int { return strings.Compare(a.path, b.path) })
	return all, errors.Join(errs...)
}

// templates returns the new files by their paths.
func (s *service) templates() (map[string][]byte, error) {
	all := map[string][]byte{}
	err := fs.WalkDir(templates, "template", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := templates.ReadFile(p)
		if err != nil {
			return err
		}
		to := s.named(strings.TrimSuffix(strings.TrimPrefix(p, "template/"), ".tmpl"))
		if all[to] != nil {
			return fmt.Errorf("there would be two files %s", to)
		}
		all[to], err = formatted(to, []byte(s.named(string(text))))
		return err
	})
	return all, err
}

// formatted is what gofmt makes of a Go file, imports in their order; other files
// stay as they are.
func formatted(path string, text []byte) ([]byte, error) {
	if !strings.HasSuffix(path, ".go") {
		return text, nil
	}
	text, err := format.Source(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return text, nil
}

// edit is a change of a file that is there, at the one place that a regular
// expression matches.
type edit struct {
	path  string
	place string
	// becomes is what is put there, about gadgets. $0 is what was there, $1 and $2
	// are the groups of place, and NEXT is the number after that in $1.
	becomes string
}

func (e edit) apply(s *service, text []byte) ([]byte, error) {
	place := regexp.MustCompile(e.place)
	found := place.FindAllSubmatchIndex(text, -1)
	if len(found) != 1 {
		return nil, fmt.Errorf("there are %d places, not one, that match %s", len(found), e.place)
	}
	at := found[0]
	becomes := e.becomes
	if strings.Contains(becomes, "NEXT") {
		last, err := strconv.Atoi(string(text[at[2]:at[3]]))
		if err != nil {
			return nil, err
		}
		becomes = strings.ReplaceAll(becomes, "NEXT", strconv.Itoa(last+1))
	}
	becomes = s.named(becomes)
	out := append([]byte{}, text[:at[0]]...)
	out = place.Expand(out, []byte(becomes), text, at)
	return append(out, text[at[1]:]...), nil
}

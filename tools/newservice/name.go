package main

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

var wellFormed = regexp.MustCompile(`^[a-z][a-z0-9]{1,30}$`)

// checkName says why there can be no service of that name, or nil.
func checkName(root, name string) error {
	switch {
	case name == "":
		return errors.New("is missing: make new-service NAME=parcel")
	case !wellFormed.MatchString(name):
		return errors.New("must be 2 to 31 of a-z and 0-9, the first a letter, such as parcel")
	case token.IsKeyword(name), slices.Contains(types.Universe.Names(), name), name == "main", name == "init":
		return errors.New("is a word of Go's")
	case name == "vendor", name == "testdata":
		return errors.New("is a folder's name that the go command takes for its own")
	case strings.Contains(name, "gadget"):
		return errors.New("is what the template is written with")
	case !keeps(plural(name)):
		return fmt.Errorf("would need a table %s, which is a word of SQL's", plural(name))
	}
	for _, check := range []func(root, name string) error{checkFolders, checkPackages, checkTexts} {
		if err := check(root, name); err != nil {
			return err
		}
	}
	return nil
}

// checkFolders refuses a service that is there.
func checkFolders(root, name string) error {
	for _, dir := range []string{"proto", "services", "services/cmd", "services/internal"} {
		if _, err := os.Stat(filepath.Join(root, dir, name)); err == nil {
			return fmt.Errorf("is taken: %s is there", path.Join(dir, name))
		}
	}
	return nil
}

// checkPackages refuses what would be ambiguous where the service's package is
// imported, and the names of the packages that the service itself imports.
func checkPackages(root, name string) error {
	files, err := filepath.Glob(filepath.Join(root, "services/shop/*.go"))
	if err != nil {
		return err
	}
	used := map[string]bool{}
	for _, file := range files {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		imported(f, used)
		declared(f, used)
	}
	written, err := (&service{name: name}).templates()
	if err != nil {
		return err
	}
	for p, text := range written {
		if !strings.HasSuffix(p, ".go") {
			continue
		}
		others := strings.ReplaceAll(string(text), "/services/"+name+`"`, `/services/-"`) // its own package is the one to come
		f, err := parser.ParseFile(token.NewFileSet(), p, others, parser.ImportsOnly)
		if err != nil {
			return err
		}
		imported(f, used)
	}
	if used[name] {
		return errors.New("is the name of a package or of something else that the services have already")
	}
	return nil
}

// imported adds the names of the packages that a file imports, as their paths end.
func imported(f *ast.File, names map[string]bool) {
	for _, imp := range f.Imports {
		names[path.Base(strings.Trim(imp.Path.Value, `"`))] = true
	}
}

// declared adds what a file declares for its package.
func declared(f *ast.File, names map[string]bool) {
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			names[d.Name.Name] = names[d.Name.Name] || d.Recv == nil
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				for _, id := range declaredBy(spec) {
					names[id.Name] = true
				}
			}
		}
	}
}

func declaredBy(spec ast.Spec) []*ast.Ident {
	switch spec := spec.(type) {
	case *ast.TypeSpec:
		return []*ast.Ident{spec.Name}
	case *ast.ValueSpec:
		return spec.Names
	}
	return nil
}

// clash is something that a file must not have if there is to be a gadget service.
type clash struct{ dir, suffix, text, why string }

func clashes() []clash {
	return []clash{
		{"proto", ".proto", `"/v1/gadgets["/:{]`, "its routes are taken"},
		{"services", "events.go", `"gadget\.[a-z_]+"`, "its events are announced by another service"},
		{"services", ".go", `env:"GADGET_`, "a variable of another service begins with it, and in the all-in-one that is the new one's"},
		{"mesh/base", ".yaml", `(?m)^ *(- )?name: gadget$`, "the manifests have something of that name"},
		{"observability", ".yaml", `(?m)^ *(- )?name: gadget$`, "the manifests have something of that name"},
	}
}

// checkTexts refuses names that mean something else already.
func checkTexts(root, name string) error {
	s := &service{name: name}
	for _, c := range clashes() {
		text, err := regexp.Compile(s.named(c.text))
		if err != nil {
			return err
		}
		err = filepath.WalkDir(filepath.Join(root, c.dir), func(p string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(p, c.suffix) || strings.HasSuffix(p, "_test.go") {
				return err
			}
			content, err := os.ReadFile(p)
			if err == nil && text.Match(content) {
				rel, _ := filepath.Rel(root, p)
				err = fmt.Errorf("%s (%s)", c.why, filepath.ToSlash(rel))
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

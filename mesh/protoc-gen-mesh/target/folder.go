package target

import (
	_ "embed"
	"slices"
	"strings"
	"text/template"
)

//go:embed kustomization.yaml.tmpl
var kustomization string

var list = template.Must(template.New("kustomization").Parse(kustomization))

// Folder renders a target's templates into files under a path of the
// repository. After an error it renders nothing more.
type Folder struct {
	Path      string
	Templates *template.Template

	files []File
	err   error
}

// Render writes one file; its name is relative to the folder.
func (f *Folder) Render(template, name string, data any) {
	if f.err != nil {
		return
	}
	file, err := Render(f.Templates, template, f.Path+"/"+name, data)
	f.files, f.err = append(f.files, file), err
}

// List writes the kustomization of what has been rendered into a folder within
// so far.
func (f *Folder) List(dir string) {
	if f.err != nil {
		return
	}
	var resources []string
	for _, file := range f.files {
		if name, ok := strings.CutPrefix(file.Path, f.Path+"/"+dir+"/"); ok {
			resources = append(resources, name)
		}
	}
	slices.Sort(resources)
	file, err := Render(list, "kustomization", f.Path+"/"+dir+"/kustomization.yaml", resources)
	f.files, f.err = append(f.files, file), err
}

// Files are those written, and the first error.
func (f *Folder) Files() ([]File, error) { return f.files, f.err }

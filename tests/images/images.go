// Package images names the container images that the tests run. They are pulled
// or, where no registry can be reached, built by the script get beside this file.
package images

import (
	_ "embed"
	"fmt"
	"strings"
)

//go:embed tags
var tags string

// Tag returns the image of a name in the file tags, such as "postgres".
func Tag(name string) string {
	for line := range strings.Lines(tags) {
		if n, tag, ok := strings.Cut(strings.TrimSpace(line), "="); ok && n == name {
			return tag
		}
	}
	panic(fmt.Sprintf("tests/images/tags does not name %q", name))
}

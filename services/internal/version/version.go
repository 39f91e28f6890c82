// Package version tells which build of the shop a program is.
package version

import "runtime/debug"

// stamp is written by the linker, for images (.ko.yaml), and by nobody else.
var stamp string

// Get returns the version of the program's image or module or else the commit
// that it was built from; "devel" if none was stamped.
func Get() string {
	if stamp != "" {
		return stamp
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return "devel"
}

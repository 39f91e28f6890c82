// Package version tells which build of the shop a program is.
package version

import "runtime/debug"

// Get returns the version of the program's module or else the commit that it
// was built from; "devel" if neither was stamped.
func Get() string {
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

// Package service holds what every Keyward service does the same way: strict configuration, a log that masks card numbers
// and keys as a last safety net, an ordered and bounded stop, signals, readiness, metrics and profiling handlers, and the
// protection of memory against core dumps. It knows nothing of payments.
package service

import (
	"fmt"
	"runtime/debug"
)

// version is set by the linker: -ldflags "-X github.com/keyward/keyward/internal/service.version=v1.2.3".
var version = ""

// shownCommit is how much of a commit is shown; a full one of 40 hex digits would be masked as a key in the log.
const shownCommit = 12

// Version describes this binary: release, commit (with "+changes" when the tree had any), and Go version.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return orText(version, "unknown version")
	}
	v, commit, changed := orText(version, info.Main.Version), "", false
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			commit = s.Value[:min(shownCommit, len(s.Value))]
		case "vcs.modified":
			changed = s.Value == "true"
		}
	}
	if commit == "" {
		return fmt.Sprintf("%s %s", orText(v, "(devel)"), info.GoVersion)
	}
	if changed {
		commit += "+changes"
	}
	return fmt.Sprintf("%s %s %s", orText(v, "(devel)"), commit, info.GoVersion)
}

func orText(s, def string) string {
	if s == "" {
		return def
	}
	return s
}

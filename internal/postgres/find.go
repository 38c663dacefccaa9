package postgres

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// oldestMajor is the oldest PostgreSQL that the schema is written for.
const oldestMajor = 14

// binaries is a usable set of PostgreSQL programs.
type binaries struct {
	dir     string // holds initdb and postgres
	version string // as the program says, for example "15.18"
	major   string // "15"
}

func (b binaries) path(program string) string { return filepath.Join(b.dir, program) }

// installPlaces are directories where packagers put the programs without putting them on PATH.
var installPlaces = []string{
	"/usr/lib/postgresql/*/bin",                          // Debian and Ubuntu
	"/usr/pgsql-*/bin",                                   // Red Hat
	"/opt/homebrew/opt/postgresql*/bin",                  // Homebrew on Apple silicon
	"/usr/local/opt/postgresql*/bin",                     // Homebrew on Intel
	"/Applications/Postgres.app/Contents/Versions/*/bin", // Postgres.app
	"/home/linuxbrew/.linuxbrew/opt/postgresql*/bin",     // Homebrew on Linux
}

// findBinaries returns programs of the major version that wrote the data (any version when major is ""). It looks in
// $PG_BIN alone when that is set; else on PATH, in the usual places and among those fetched before; then it installs.
func findBinaries(ctx context.Context, log *slog.Logger, id identity, major string) (binaries, error) {
	if dir := os.Getenv("PG_BIN"); dir != "" {
		bin, err := inspect(ctx, id, dir)
		if err != nil {
			return binaries{}, fmt.Errorf("postgres: PG_BIN=%s: %w: set PG_BIN to a directory with initdb and postgres, or unset it", dir, err)
		}
		if major != "" && bin.major != major {
			return binaries{}, wrongMajor(major, []string{bin.version + " in " + dir})
		}
		return bin, nil
	}
	var seen []string
	look := func() (binaries, bool) {
		seen = nil
		for _, dir := range candidates(id) {
			bin, err := inspect(ctx, id, dir)
			if err != nil {
				log.DebugContext(ctx, "postgresql programs not usable", "dir", dir, "error", err)
				continue
			}
			if major == "" || bin.major == major {
				return bin, true
			}
			seen = append(seen, bin.version+" in "+dir)
		}
		return binaries{}, false
	}
	if bin, ok := look(); ok {
		return bin, nil
	}
	if n, err := strconv.Atoi(major); err == nil && n < oldestMajor {
		return binaries{}, wrongMajor(major, seen) // not worth a try to install
	}
	installErr := install(ctx, log, id, major)
	if installErr == nil {
		if bin, ok := look(); ok {
			return bin, nil
		}
	}
	if len(seen) > 0 {
		return binaries{}, wrongMajor(major, seen)
	}
	if installErr == nil {
		installErr = fmt.Errorf("the installed programs do not run")
	}
	return binaries{}, fmt.Errorf("postgres: %w: %w", ErrUnavailable, installErr)
}

func wrongMajor(major string, seen []string) error {
	if len(seen) == 0 {
		seen = []string{"none"}
	}
	return fmt.Errorf("postgres: the data directory was written by PostgreSQL %s, but here is only %s: install PostgreSQL %s and set PG_BIN to its programs, or start afresh with `make dev-reset`",
		major, strings.Join(seen, ", "), major)
}

// candidates lists directories that may hold the programs, best first.
func candidates(id identity) []string {
	var dirs []string
	add := func(dir string) {
		// A link on PATH (Debian's wrappers, /usr/local/bin) leads to the real directory, where the other programs are.
		if real, err := filepath.EvalSymlinks(filepath.Join(dir, "postgres")); err == nil {
			if dir = filepath.Dir(real); !slices.Contains(dirs, dir) {
				dirs = append(dirs, dir)
			}
		}
	}
	if path, err := exec.LookPath("postgres"); err == nil {
		add(filepath.Dir(path))
	}
	patterns := slices.Clone(installPlaces)
	// The place of fetched programs may lie where anybody can create a directory: nobody else's is run.
	if info, err := os.Lstat(fetchedRoot(id)); err == nil && info.IsDir() && ownerOf(info) == os.Geteuid() {
		patterns = append(patterns, filepath.Join(fetchedRoot(id), "*", "native", "bin"))
	}
	for _, pattern := range patterns {
		found, err := filepath.Glob(pattern)
		if err != nil {
			continue // the patterns are constants and a cache directory: only the latter can be malformed
		}
		slices.SortFunc(found, func(a, b string) int { return numberIn(b, pattern) - numberIn(a, pattern) }) // newest first
		for _, dir := range found {
			add(dir)
		}
	}
	return dirs
}

var firstNumber = regexp.MustCompile(`[0-9]+`)

// numberIn returns the first number of what the star of pattern matched in dir: the version in the directory names of
// packagers, 0 when there is none.
func numberIn(dir, pattern string) int {
	before, _, _ := strings.Cut(pattern, "*")
	n, err := strconv.Atoi(firstNumber.FindString(strings.TrimPrefix(dir, before)))
	if err != nil {
		return 0
	}
	return n
}

var versionText = regexp.MustCompile(`\(PostgreSQL\) (([0-9]+)[0-9.a-z]*)`)

// inspect asks the programs in dir for their version.
func inspect(ctx context.Context, id identity, dir string) (binaries, error) {
	for _, program := range []string{"initdb", "postgres"} {
		path := filepath.Join(dir, program)
		if _, err := os.Stat(path); err != nil {
			return binaries{}, fmt.Errorf("no program %s there", program)
		}
		if !id.canRun(ctx, path) {
			return binaries{}, fmt.Errorf("user %s may not run %s", id.name, program)
		}
	}
	ctx, cancel := probe(ctx)
	defer cancel()
	out, err := id.command(ctx, filepath.Join(dir, "postgres"), "--version").CombinedOutput()
	if err != nil {
		return binaries{}, fmt.Errorf("postgres --version: %w: %s", err, lastLines(string(out), 1))
	}
	match := versionText.FindStringSubmatch(string(out))
	if match == nil {
		return binaries{}, fmt.Errorf("postgres --version says %q", strings.TrimSpace(string(out)))
	}
	if n, err := strconv.Atoi(match[2]); err != nil || n < oldestMajor {
		return binaries{}, fmt.Errorf("PostgreSQL %s is too old, want %d or newer", match[1], oldestMajor)
	}
	return binaries{dir: dir, version: match[1], major: match[2]}, nil
}

// lastLines returns the last n non-empty lines of text, joined by "; ".
func lastLines(text string, n int) string {
	var lines []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines[max(0, len(lines)-n):], "; ")
}

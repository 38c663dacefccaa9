// Package vectors loads the known-answer vectors for tests.
//
// The files live in shared/vectors beside the checkout when the project is developed, and as copies under
// testdata/vectors so that a clone alone passes. The layout of a file is described by facts "vectors/README.md": groups
// of vectors with "in" and "out" maps, bytes as upper-case hex. Test code only: no production package imports it.
package vectors

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// Vector is one known answer: the inputs, the outputs, and where they come from.
type Vector struct {
	ID       string         `json:"id"`
	Source   string         `json:"source"`
	Kind     string         `json:"kind"`
	In       map[string]any `json:"in"`
	Out      map[string]any `json:"out"`
	Verified bool           `json:"verified"`
	Note     string         `json:"note"`
}

// File is a loaded vector file.
type File struct {
	Name     string
	Dialects map[string]json.RawMessage
	groups   map[string][]Vector
}

type fileJSON struct {
	Dialects map[string]json.RawMessage `json:"dialects"`
	Groups   map[string]struct {
		Vectors []Vector `json:"vectors"`
	} `json:"groups"`
}

// Load reads a vector file by its base name, for example "kcv.json". It fails the test when the file is missing or
// holds no vector at all, so that an empty file can never pass silently.
func Load(tb testing.TB, name string) File {
	tb.Helper()
	path := find(tb, name)
	raw, err := os.ReadFile(path)
	if err != nil {
		tb.Fatalf("read vectors %s: %v", name, err)
	}
	var parsed fileJSON
	if err := json.Unmarshal(raw, &parsed); err != nil {
		tb.Fatalf("parse vectors %s: %v", path, err)
	}
	file := File{Name: name, Dialects: parsed.Dialects, groups: map[string][]Vector{}}
	total := 0
	for group, content := range parsed.Groups {
		file.groups[group] = content.Vectors
		total += len(content.Vectors)
	}
	if total == 0 {
		tb.Fatalf("vectors %s: the file holds no vector", name)
	}
	return file
}

// Group returns the vectors of one group and fails the test when there is none.
func (f File) Group(tb testing.TB, group string) []Vector {
	tb.Helper()
	list := f.groups[group]
	if len(list) == 0 {
		tb.Fatalf("vectors %s: group %q is empty or missing", f.Name, group)
	}
	return list
}

// Str returns a text value of a map, or "" when it is absent.
func Str(m map[string]any, key string) string {
	s, _ := m[key].(string)
	return s
}

// Int returns a numeric value of a map, or def when it is absent.
func Int(m map[string]any, key string, def int) int {
	f, ok := m[key].(float64)
	if !ok {
		return def
	}
	return int(f)
}

// Hex decodes a hex text value of a map; an absent value is an empty slice.
func Hex(tb testing.TB, m map[string]any, key string) []byte {
	tb.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(Str(m, key), " ", ""))
	if err != nil {
		tb.Fatalf("vector value %q is not hex: %v", key, err)
	}
	return b
}

// find prefers the shared folder beside the checkout, because it is the newer copy during development.
func find(tb testing.TB, name string) string {
	tb.Helper()
	_, self, _, ok := runtime.Caller(0)
	if !ok {
		tb.Fatal("vectors: cannot tell where the source tree is")
	}
	root := filepath.Dir(filepath.Dir(filepath.Dir(self)))
	for _, candidate := range []string{
		filepath.Join(filepath.Dir(root), "shared", "vectors", name),
		filepath.Join(root, "testdata", "vectors", name),
	} {
		if _, err := os.Stat(candidate); err == nil {
			return candidate
		}
	}
	tb.Fatalf("vectors %s: not found under shared/vectors or testdata/vectors", name)
	return ""
}

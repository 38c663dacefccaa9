// Package doctest compares the documentation with the code: links, commands, ports, packages and configuration keys.
package doctest

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const root = "../.."

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// pages are all documents for people, by path below the root.
func pages(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, pattern := range []string{"*.md", "docs/*.md"} {
		list, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range list {
			rel, err := filepath.Rel(root, path)
			if err != nil {
				t.Fatal(err)
			}
			out[filepath.ToSlash(rel)] = read(t, rel)
		}
	}
	if len(out) < 20 {
		t.Fatalf("only %d documents found", len(out))
	}
	return out
}

var fence = regexp.MustCompile("(?ms)^```.*?^```[^\n]*$")

// prose is a document without its blocks of code.
func prose(text string) string { return fence.ReplaceAllString(text, "") }

var heading = regexp.MustCompile(`(?m)^(#+) +(.*?) *$`)

var notInAnchor = regexp.MustCompile(`[^\p{L}\p{N} _-]`)

// anchor is what GitHub makes of a heading.
func anchor(title string) string {
	return strings.ReplaceAll(notInAnchor.ReplaceAllString(strings.ToLower(title), ""), " ", "-")
}

// section is the text below a heading up to the next one of its level or above.
func section(t *testing.T, text, title string) string {
	t.Helper()
	plain := text
	for _, m := range heading.FindAllStringSubmatchIndex(plain, -1) {
		if plain[m[4]:m[5]] != title {
			continue
		}
		level, rest := m[3]-m[2], plain[m[1]:]
		for _, n := range heading.FindAllStringSubmatchIndex(rest, -1) {
			if n[3]-n[2] <= level {
				return rest[:n[0]]
			}
		}
		return rest
	}
	t.Fatalf("there is no heading %q", title)
	return ""
}

// rows are the lines of all tables in the text, cells without their blanks, headings left out.
func rows(text string) [][]string {
	var out [][]string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "|") {
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		if strings.Trim(strings.Join(cells, ""), "-:") == "" { // the line below the heading
			if len(out) > 0 {
				out = out[:len(out)-1]
			}
			continue
		}
		out = append(out, cells)
	}
	return out
}

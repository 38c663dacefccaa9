package doctest

import (
	"errors"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// link is [text](target) and ![text](target); a title may follow the target.
var link = regexp.MustCompile(`\]\(([^)\s]+)(?: "[^"]*")?\)`)

// mentioned is a document named in running text, as in "see docs/errors.md".
var mentioned = regexp.MustCompile(`\bdocs/[a-z-]+\.(?:md|svg)\b`)

// broken lists the relative links of a document that lead nowhere. exists tells whether a path below the root does; anchors are those
// of a document.
func broken(page, text string, exists func(string) bool, anchors func(string) map[string]bool) []string {
	var out []string
	for _, m := range link.FindAllStringSubmatch(prose(text), -1) {
		u, err := url.Parse(m[1])
		if err != nil {
			out = append(out, m[1])
			continue
		}
		if u.Scheme != "" || u.Host != "" {
			continue // the world outside changes without our doing
		}
		target := page
		if u.Path != "" {
			target = path.Join(path.Dir(page), u.Path)
		}
		if !exists(target) || u.Fragment != "" && !anchors(target)[u.Fragment] {
			out = append(out, m[1])
		}
	}
	for _, name := range mentioned.FindAllString(text, -1) {
		if !exists(name) {
			out = append(out, name)
		}
	}
	return out
}

func anchorsOf(text string) map[string]bool {
	out := map[string]bool{}
	for _, m := range heading.FindAllStringSubmatch(prose(text), -1) {
		out[anchor(m[2])] = true
	}
	return out
}

func TestLinks(t *testing.T) {
	t.Parallel()
	all := pages(t)
	for page, text := range all {
		for _, target := range broken(page, text, exists, func(p string) map[string]bool { return anchorsOf(all[p]) }) {
			t.Errorf("%s points to %s, which does not exist", page, target)
		}
	}
}

func exists(rel string) bool {
	_, err := os.Stat(filepath.Join(root, filepath.FromSlash(rel)))
	return !errors.Is(err, os.ErrNotExist)
}

func TestBrokenLinksAreFound(t *testing.T) {
	t.Parallel()
	text := "# One\n[a](b.md) [c](#one) [d](#two) [e](../x.md#y \"title\") ![f](https://example.org/g.png)\n" +
		"```sh\n[not](a-link.md)\n```\nsee docs/none.md\n"
	got := broken("docs/p.md", text, func(p string) bool { return p == "docs/p.md" || p == "x.md" }, func(p string) map[string]bool {
		return map[string]map[string]bool{"docs/p.md": anchorsOf(text)}[p]
	})
	if want := "b.md #two ../x.md#y docs/none.md"; strings.Join(got, " ") != want {
		t.Errorf("found %v, want %s", got, want)
	}
}

var (
	makeTarget = regexp.MustCompile("(?m)(?:`|^|\\bexec )make ([a-z][a-z-]*)")
	target     = regexp.MustCompile(`(?m)^([a-z][a-z-]*):`)
)

// TestMakeTargets finds "make x" at the beginning of a line of code and behind a backquote; elsewhere "make" is a word.
func TestMakeTargets(t *testing.T) {
	t.Parallel()
	known := map[string]bool{}
	for _, m := range target.FindAllStringSubmatch(read(t, "Makefile"), -1) {
		known[m[1]] = true
	}
	named := 0
	for page, text := range pages(t) {
		// In running text only what stands in backquotes is a command.
		code := strings.Join(fence.FindAllString(text, -1), "\n")
		for _, m := range regexp.MustCompile("`[^`\n]*`").FindAllString(prose(text), -1) {
			code += "\n" + strings.Trim(m, "`")
		}
		for _, m := range makeTarget.FindAllStringSubmatch(code, -1) {
			named++
			if !known[m[1]] {
				t.Errorf("%s names make %s, which the Makefile does not have", page, m[1])
			}
		}
	}
	if named < 5 || !known["dev"] {
		t.Errorf("only %d targets are named; the test looks in the wrong place", named)
	}
}

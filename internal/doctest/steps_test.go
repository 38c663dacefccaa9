package doctest

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// Steps in code: the flows of posp speak of a step in sentences, the others begin a comment with it.
var (
	stepsInSentences = regexp.MustCompile(`(?i)\bsteps? (\d+)(?: and (\d+))?`)
	stepsAtStart     = regexp.MustCompile(`Step (\d+):`)
	stepsInPage      = regexp.MustCompile(`(?m)^(\d+)\. `)
)

// source is a part of a file: from one text to another, "" for its beginning and end.
type source struct{ file, from, to string }

// flows are the numbered pages, or sections of one, and the code that they number.
var flows = []struct {
	page, heading string
	pattern       *regexp.Regexp
	inOrder       bool // the code has the steps in the order of the page
	code          []source
}{
	{"docs/flow-purchase.md", "", stepsInSentences, false, []source{{"internal/posp/handle.go", "", ""}, {"internal/posp/flow.go", "", ""}}},
	{"docs/flow-signon.md", "", stepsInSentences, false, []source{{"internal/posp/handle.go", "", ""}, {"internal/posp/signon.go", "", ""}}},
	// The frame of the issuer's run, which holds the last step, stands before the part that changes things.
	{"docs/flow-issue.md", "## The issuer", stepsAtStart, false, []source{{"internal/issuer/flow.go", "", ""}}},
	{"docs/flow-issue.md", "## The key service: deriving", stepsAtStart, true, []source{
		{"internal/keyservice/flow.go", "func (a *App) derive(", "func (a *App) script("},
	}},
	{"docs/flow-issue.md", "## The key service: a card script", stepsAtStart, true, []source{
		{"internal/keyservice/flow.go", "func (a *App) script(", "// Reasons for a refusal"},
	}},
}

// TestFlowPagesHaveTheStepsOfTheCode keeps the numbered pages and the numbered comments together, and none is missing.
func TestFlowPagesHaveTheStepsOfTheCode(t *testing.T) {
	t.Parallel()
	for _, f := range flows {
		section := read(t, f.page)
		if f.heading != "" {
			section, _, _ = strings.Cut(part(t, f.page, section, f.heading), "\n## ")
		}
		inPage := numbers(t, stepsInPage, section)
		var inCode []int
		for _, s := range f.code {
			text := read(t, s.file)
			if s.from != "" {
				text = part(t, s.file, text, s.from)
			}
			if s.to != "" {
				var found bool
				if text, _, found = strings.Cut(text, s.to); !found {
					t.Errorf("%s: %q is not in it", s.file, s.to)
				}
			}
			inCode = append(inCode, numbers(t, f.pattern, text)...)
		}
		if !f.inOrder {
			slices.Sort(inCode)
		}
		if f.pattern == stepsInSentences {
			inCode = slices.Compact(inCode) // a step is spoken of more than once
		}
		if len(inPage) == 0 || !slices.Equal(inPage, inCode) {
			t.Errorf("%s %s has the steps %v, the code %v", f.page, f.heading, inPage, inCode)
		}
		for i, n := range inPage {
			if n != i+1 {
				t.Errorf("%s %s: step %d stands at place %d", f.page, f.heading, n, i+1)
			}
		}
	}
}

// part is what follows a mark.
func part(t *testing.T, file, text, mark string) string {
	t.Helper()
	_, after, found := strings.Cut(text, mark)
	if !found {
		t.Errorf("%s: %q is not in it", file, mark)
	}
	return after
}

func numbers(t *testing.T, pattern *regexp.Regexp, text string) (list []int) {
	t.Helper()
	for _, match := range pattern.FindAllStringSubmatch(text, -1) {
		for _, digits := range match[1:] {
			if digits == "" {
				continue
			}
			n, err := strconv.Atoi(digits)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, n)
		}
	}
	return list
}

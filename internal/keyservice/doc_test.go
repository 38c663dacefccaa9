package keyservice

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The numbered lists of docs/flow-issue.md and the steps in flow.go are the same.
func TestStepsAreDocumented(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../../docs/flow-issue.md")
	if err != nil {
		t.Fatal(err)
	}
	code, err := os.ReadFile("flow.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []struct{ heading, function, end string }{
		{"## The key service: deriving", "func (a *App) derive(", "func (a *App) script("}, {"## The key service: a card script", "func (a *App) script(", "// Reasons for a refusal"},
	} {
		_, section, found := strings.Cut(string(doc), part.heading)
		section, _, _ = strings.Cut(section, "\n## ")
		_, body, inCode := strings.Cut(string(code), part.function)
		body, _, _ = strings.Cut(body, part.end)
		listed := numbers(`(?m)^(\d+)\. `, section)
		steps := numbers(`Step (\d+):`, body)
		if !found || !inCode || len(steps) == 0 || !slices.Equal(listed, steps) {
			t.Errorf("%s: document has steps %v, code %v", part.heading, listed, steps)
		}
	}
}

func numbers(pattern, text string) (list []string) {
	for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
		list = append(list, m[1])
	}
	return list
}

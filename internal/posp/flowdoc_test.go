package posp

import (
	"os"
	"regexp"
	"slices"
	"strconv"
	"testing"
)

// TestFlowDocumentsHaveTheStepsOfTheCode keeps the numbered pages and the numbered comments together.
func TestFlowDocumentsHaveTheStepsOfTheCode(t *testing.T) {
	t.Parallel()
	for doc, sources := range map[string][]string{
		"../../docs/flow-purchase.md": {"handle.go", "flow.go"},
		"../../docs/flow-signon.md":   {"handle.go", "signon.go"},
	} {
		inDoc := numbers(t, doc, regexp.MustCompile(`(?m)^(\d+)\. \*\*`))
		var inCode []int
		for _, source := range sources {
			inCode = append(inCode, numbers(t, source, regexp.MustCompile(`(?i)\bsteps? (\d+)`))...)
			inCode = append(inCode, numbers(t, source, regexp.MustCompile(`Steps \d+ and (\d+)`))...)
		}
		slices.Sort(inCode)
		inCode = slices.Compact(inCode)
		if len(inDoc) == 0 || !slices.Equal(inDoc, inCode) {
			t.Errorf("%s has the steps %v, the code %v", doc, inDoc, inCode)
		}
		for i, n := range inDoc {
			if n != i+1 {
				t.Errorf("%s: step %d stands at place %d", doc, n, i+1)
			}
		}
	}
}

func numbers(t *testing.T, file string, pattern *regexp.Regexp) []int {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var found []int
	for _, m := range pattern.FindAllStringSubmatch(string(text), -1) {
		n, err := strconv.Atoi(m[1])
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, n)
	}
	slices.Sort(found)
	return slices.Compact(found)
}

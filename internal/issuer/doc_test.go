package issuer

import (
	"cmp"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The numbered list of docs/flow-issue.md and the steps in flow.go are the same, and none is missing.
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
	_, section, _ := strings.Cut(string(doc), "## The issuer")
	section, _, _ = strings.Cut(section, "\n## ")
	listed := numbers(t, `(?m)^(\d+)\. `, section)
	steps := numbers(t, `Step (\d+):`, string(code))
	// The frame of the run, which holds the last step, stands before the part that changes things.
	slices.SortFunc(steps, cmp.Compare[int])
	if len(steps) == 0 || !slices.Equal(listed, steps) {
		t.Errorf("document has steps %v, code %v", listed, steps)
	}
	for i, n := range steps {
		if n != i+1 {
			t.Errorf("step %d is missing", i+1)
		}
	}
}

func numbers(t *testing.T, pattern, text string) (list []int) {
	t.Helper()
	for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
		n, err := strconv.Atoi(m[1])
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, n)
	}
	return list
}

package posp

import (
	"os"
	"regexp"
	"slices"
	"testing"
)

// TestErrorPageNamesEveryCode keeps docs/errors.md and the codes of the code together.
func TestErrorPageNamesEveryCode(t *testing.T) {
	t.Parallel()
	inDoc := found(t, "../../docs/errors.md", regexp.MustCompile(`(?m)^\| ([0-9A-Z]{2}) \|`))
	inCode := found(t, "codes.go", regexp.MustCompile(`(?m)^\tcode\w+\s+= "([0-9A-Z]{2})"`))
	if !slices.Equal(inDoc, inCode) {
		t.Errorf("docs/errors.md has %v, codes.go %v", inDoc, inCode)
	}
}

func found(t *testing.T, file string, pattern *regexp.Regexp) []string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, m := range pattern.FindAllStringSubmatch(string(text), -1) {
		list = append(list, m[1])
	}
	slices.Sort(list)
	return slices.Compact(list)
}

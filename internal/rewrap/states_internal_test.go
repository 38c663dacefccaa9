package rewrap

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestStatesPage: docs/states.md and the table in state.go say the same.
func TestStatesPage(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/states.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(page), "## A move of keys to another LMK domain")
	if !found {
		t.Fatal("docs/states.md has no such section")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	described := map[State][]State{}
	for _, row := range regexp.MustCompile(`(?m)^\| ([a-z]+) \| .+ \| ([a-z, ]*) ?\|$`).FindAllStringSubmatch(section, -1) {
		if row[1] == "state" {
			continue
		}
		moves := []State{}
		for name := range strings.SplitSeq(strings.TrimSpace(row[2]), ", ") {
			if name != "" {
				moves = append(moves, State(name))
			}
		}
		described[State(row[1])] = moves
	}
	if !slices.Equal(slices.Sorted(maps.Keys(described)), slices.Sorted(maps.Keys(legalMoves))) {
		t.Errorf("the page has the states %v", slices.Sorted(maps.Keys(described)))
	}
	for state, moves := range legalMoves {
		if !slices.Equal(described[state], moves) {
			t.Errorf("from %s the page goes to %v, the code to %v", state, described[state], moves)
		}
		for _, to := range moves {
			if err := state.CheckMove(to); err != nil {
				t.Error(err)
			}
		}
		if state.CheckMove(state) == nil {
			t.Errorf("%s can become itself", state)
		}
	}
}

package registry

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestMovesAreDocumented keeps the tables of docs/registry.md equal to the code, and the code equal to its lists of states.
func TestMovesAreDocumented(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/registry.md")
	if err != nil {
		t.Fatal(err)
	}
	for title, want := range map[string]struct {
		moves  map[string][]string
		states []string
	}{"card": {cardMoves, CardStates()}, "terminal": {terminalMoves, TerminalStates()}} {
		_, section, _ := strings.Cut(string(page), "## Moves of a "+title)
		section, _, _ = strings.Cut(section, "\n## ")
		rows := regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| (.*)\\|$").FindAllStringSubmatch(section, -1)
		if len(rows) != len(want.states) || len(want.moves) != len(want.states) {
			t.Errorf("%s: %d rows, %d moves, %d states", title, len(rows), len(want.moves), len(want.states))
		}
		for i, row := range rows {
			to := strings.ReplaceAll(strings.TrimSpace(row[2]), "`", "")
			if row[1] != want.states[i] || to != strings.Join(want.moves[row[1]], ", ") {
				t.Errorf("%s: the page has %s to %q, the code %q", title, row[1], to, want.moves[row[1]])
			}
		}
	}
}

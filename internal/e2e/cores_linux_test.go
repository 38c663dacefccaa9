package e2e

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
)

// noCoreFiles checks that no process of the system, keyward and PostgreSQL included, can write a core file: it would hold keys and
// PIN blocks.
func noCoreFiles(t *testing.T, s *system) {
	family := descendants(t, s.cmd.Process.Pid)
	names := map[string]bool{}
	for pid := range family {
		limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
		if err != nil {
			continue // it has just ended
		}
		name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)) // for the message only
		names[strings.TrimSpace(string(name))] = true
		found := false
		for line := range strings.Lines(string(limits)) {
			if rest, ok := strings.CutPrefix(line, "Max core file size"); ok {
				found = true
				if words := strings.Fields(rest); words[0] != "0" {
					t.Errorf("process %d (%s) may write a core file: %s", pid, strings.TrimSpace(string(name)), rest)
				}
			}
		}
		if !found {
			t.Errorf("process %d: its limits do not tell about core files", pid)
		}
	}
	for _, want := range []string{"keyward", "posp", "posv", "issuer", "postgres"} {
		if !names[want] {
			t.Errorf("%s is not among the processes looked at: %v", want, names)
		}
	}
}

// descendants are a process and all that it and its children started.
func descendants(t *testing.T, root int) map[int]bool {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	parent := map[int]int{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue // it has just ended
		}
		// The name stands in parentheses and may hold anything; state and parent come behind the last one.
		text := string(stat)
		fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
		if len(fields) > 1 {
			parent[pid], _ = strconv.Atoi(fields[1]) // 0 is nobody's
		}
	}
	family := map[int]bool{root: true}
	for grown := true; grown; {
		grown = false
		for pid, of := range parent {
			if family[of] && !family[pid] {
				family[pid], grown = true, true
			}
		}
	}
	return family
}

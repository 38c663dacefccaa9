package hsm

import (
	"fmt"
	"slices"
	"strings"
)

// rule is what a port's list says about one command.
type rule struct {
	types typeSet // Key types and usages of key blocks; nil: the whole command.
}

// permits says whether the rule lets a key type, or the usage of a key block, pass.
func (r rule) permits(name string) bool { return r.types == nil || r.types[name] }

// allowList maps commands to their rule; a command that is missing is refused.
type allowList map[string]rule

// parseAllow reads entries such as "M2", "M2/30B" or, for key blocks, "M2/23" (docs/hsm-sim.md §4).
func parseAllow(entries []string) (allowList, error) {
	list := allowList{}
	for _, entry := range entries {
		name, use, restricted := strings.Cut(entry, "/")
		cmd, known := commands[name]
		if !known {
			return nil, fmt.Errorf("list entry %q: the simulator has no such command", entry)
		}
		old, seen := list[name]
		if !restricted {
			list[name] = rule{}
			continue
		}
		if _, known := placeOf(use); !known && !namedUsages[use] || !cmd.typed {
			return nil, fmt.Errorf("list entry %q: unknown key type or usage, or the command takes none", entry)
		}
		if seen && old.types == nil {
			continue // The whole command is allowed already.
		}
		if !seen {
			old = rule{types: typeSet{}}
		}
		old.types[use] = true
		list[name] = old
	}
	return list, nil
}

// OnlineCommands is the list for ports that serve transactions: no export, no general decryption, no derivation
// (docs/hsm-sim.md §4).
func OnlineCommands() []string {
	return []string{
		"B2", "NC", "NO", "N0", "CR", "JK", "J2", "J4", "BU", "HA", "HC", "A0/30B", "A0/71", "A0/M0", "A0/M1", "A0/M3", "A0/M6", "A0/23",
		"CA", "TI", "CC", "M2/30B", "M2/23", "M4/30B", "M4/23", "M6", "M8", "S0/003", "S0/008", "S0/M0", "S0/M1", "S0/M3", "S0/M6",
	}
}

// IssuingCommands is the list for ports that serve card issuing. It cannot import keys, because who can import a known
// card control key could have a master key exported under it. BW moves keys between the LMKs of the device and exports nothing.
func IssuingCommands() []string {
	return []string{"B2", "NC", "NO", "N0", "CR", "JK", "J2", "J4", "BU", "BW", "KD", "KG", "SH", "KR"}
}

// MigrationCommands is the list for ports that are open while keys move to another LMK or another maker's device: import and export
// under a zone key. Such a port belongs to nobody's daily work.
func MigrationCommands() []string {
	return []string{"B2", "NC", "NO", "BU", "A6", "A8", "BW"}
}

// AllCommands lists every command of the simulator in alphabetical order.
func AllCommands() []string {
	list := make([]string, 0, len(commands))
	for name := range commands {
		list = append(list, name)
	}
	slices.Sort(list)
	return list
}

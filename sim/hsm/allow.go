package hsm

import (
	"fmt"
	"slices"
	"strings"
)

// rule is what a port's list says about one command.
type rule struct {
	types typeSet // nil: the whole command.
}

// permits says whether the rule lets a key type pass.
func (r rule) permits(keyType string) bool { return r.types == nil || r.types[keyType] }

// allowList maps commands to their rule; a command that is missing is refused.
type allowList map[string]rule

// parseAllow reads entries such as "M2" or "M2/30B" (docs/hsm-sim.md §4).
func parseAllow(entries []string) (allowList, error) {
	list := allowList{}
	for _, entry := range entries {
		name, keyType, restricted := strings.Cut(entry, "/")
		cmd, known := commands[name]
		if !known {
			return nil, fmt.Errorf("list entry %q: the simulator has no such command", entry)
		}
		old, seen := list[name]
		if !restricted {
			list[name] = rule{}
			continue
		}
		if _, ok := placeOf(keyType); !ok || !cmd.typed {
			return nil, fmt.Errorf("list entry %q: unknown key type, or the command takes none", entry)
		}
		if seen && old.types == nil {
			continue // The whole command is allowed already.
		}
		if !seen {
			old = rule{types: typeSet{}}
		}
		old.types[keyType] = true
		list[name] = old
	}
	return list, nil
}

// OnlineCommands is the list for ports that serve transactions: no export, no general decryption, no derivation
// (docs/hsm-sim.md §4).
func OnlineCommands() []string {
	return []string{"B2", "NC", "NO", "N0", "BU", "HA", "HC", "A0/30B", "CA", "TI", "CC", "M2/30B", "M4/30B", "M6", "M8", "S0/003", "S0/008"}
}

// IssuingCommands is the list for ports that serve card issuing. It cannot import keys, because who can import a known
// card control key could have a master key exported under it.
func IssuingCommands() []string {
	return []string{"B2", "NC", "NO", "N0", "BU", "KD", "SH", "KR"}
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

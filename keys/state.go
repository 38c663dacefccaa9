package keys

import "fmt"

// State is where a stored key is in its life (G6). The database column keys.state holds the same words.
type State string

// The states. A key is intended before the HSM is asked to make it, so that a crash never leaves a derived key that
// nobody knows of (P2).
const (
	Intended  State = "intended"
	Active    State = "active"
	Suspended State = "suspended"
	Retired   State = "retired"
	Destroyed State = "destroyed"
	Failed    State = "failed"
)

// legalMoves lists, for each state, where a key may go from there. An intended key whose making was interrupted goes to
// active when it is made again (derivation always gives the same key) or to failed when it is given up.
var legalMoves = map[State][]State{
	Intended:  {Active, Failed},
	Failed:    {Intended, Destroyed},
	Active:    {Suspended, Retired, Destroyed},
	Suspended: {Active, Retired, Destroyed},
	Retired:   {Destroyed},
	Destroyed: nil,
}

// CheckMove refuses a move that the life of a key does not allow.
func (s State) CheckMove(to State) error {
	for _, next := range legalMoves[s] {
		if next == to {
			return nil
		}
	}
	return fmt.Errorf("a key in state %q cannot become %q", s, to)
}

// Usable says that the key may do its work.
func (s State) Usable() bool { return s == Active }

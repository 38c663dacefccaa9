package rewrap

import (
	"fmt"
	"slices"
)

// State is where a job is. The column rewrap_jobs.state holds the same words, docs/states.md shows the moves.
type State string

// The states.
const (
	Planned   State = "planned"   // stored, not begun
	Copying   State = "copying"   // twins are being made
	Paused    State = "paused"    // nothing is done until it is resumed
	Copied    State = "copied"    // every key has a twin or is listed as a difference; new keys are caught up with
	Switching State = "switching" // the ordered keys change over
	Switched  State = "switched"  // the ordered keys work in the new domain; both domains serve
	Returning State = "returning" // all keys change back
	Retiring  State = "retiring"  // cryptograms of the old domain are being erased
	Retired   State = "retired"   // end
	Failed    State = "failed"    // the first keys all failed: something is set up wrongly
	// Cancelling: given up before any key worked in the new domain; its twins are being erased.
	Cancelling State = "cancelling"
	Cancelled  State = "cancelled" // end
)

// legalMoves lists where a job may go. Who moves it, and on which condition, is in orders.go (people) and engine.go (the work itself).
var legalMoves = map[State][]State{
	Planned:    {Copying, Cancelling},
	Copying:    {Paused, Copied, Failed, Cancelling},
	Paused:     {Copying, Cancelling},
	Failed:     {Copying, Cancelling},
	Copied:     {Copying, Switching, Cancelling},
	Switching:  {Switched, Returning},
	Switched:   {Switching, Returning, Retiring},
	Returning:  {Copied},
	Retiring:   {Retired},
	Retired:    nil,
	Cancelling: {Cancelled},
	Cancelled:  nil,
}

// CheckMove refuses a move that the life of a job does not allow.
func (s State) CheckMove(to State) error {
	if slices.Contains(legalMoves[s], to) {
		return nil
	}
	return fmt.Errorf("a job that is %s cannot become %s", s, to)
}

// Open says that the job still has keys in its care: its domains are taken.
func (s State) Open() bool { return s != Retired && s != Cancelled }

// copies says that keys without a twin are looked for.
func (s State) copies() bool {
	return s == Copying || s == Copied || s == Switching || s == Switched
}

// works says that the engine has something to do in this state, be it only to look for new keys.
func (s State) works() bool {
	return s == Planned || s.copies() || s == Returning || s == Retiring || s == Cancelling
}

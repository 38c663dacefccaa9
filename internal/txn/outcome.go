package txn

import "fmt"

// Outcome says how sure we are of a host exchange; everything that touches money hangs on this difference.
type Outcome string

// The outcomes.
const (
	Answered Outcome = "answered" // the host answered, and its MAC is right
	NotSent  Outcome = "not_sent" // not a byte of the request left us: nothing to undo
	Unknown  Outcome = "unknown"  // sent, no (trustworthy) answer: must be undone
)

// State is where a transaction is. The last state in the journal is the truth about it.
type State string

// The states, in the order of the purchase flow (docs/flow-purchase.md and docs/states.md). Whether an approved answer was
// handed to the terminal's socket is a separate fact in the journal (event "answered"), because it can become true in every
// state from Approved on.
const (
	Received  State = "received"  // decoded and authentic; need not be durable
	Sending   State = "sending"   // about to be sent to the host; durable before the first byte leaves
	Approved  State = "approved"  // the host approved; durable before the answer is made
	Declined  State = "declined"  // the host, or we, refused
	Failed    State = "failed"    // not sent: nothing happened at the host
	InDoubt   State = "in_doubt"  // unknown outcome; a reversal was queued in the same write
	Reversing State = "reversing" // approved, to be taken back; a reversal was queued in the same write
	Reversed  State = "reversed"  // the host took it back, or a reversal came before the transaction itself
	// Forwarding is an advice of which posp has taken charge: it is sent again until the host answers it.
	Forwarding State = "forwarding"
	// Unresolved is an unknown outcome that no machine settles: it is listed for reconciliation.
	Unresolved State = "unresolved"
)

// legalMoves lists, for each state, the states that may follow.
var legalMoves = map[State][]State{
	"":         {Received, Sending, Declined, Reversed, InDoubt},
	Received:   {Sending, Approved, Declined, Failed}, // Approved at once: a balance inquiry moves no money and is not recorded as sending
	Sending:    {Approved, Declined, Failed, InDoubt, Forwarding, Unresolved},
	Approved:   {Reversing},
	InDoubt:    {Reversed},
	Reversing:  {Reversed},
	Forwarding: {Approved, Declined},
	Declined:   nil,
	Failed:     nil,
	Reversed:   nil,
	Unresolved: nil,
}

// CheckMove refuses a move that no flow makes: a defect in our own code or a journal that was changed by other hands.
func (s State) CheckMove(to State) error {
	for _, next := range legalMoves[s] {
		if next == to {
			return nil
		}
	}
	return fmt.Errorf("a transaction in state %q cannot become %q", s, to)
}

// Owes says that something is owed to the host: a reversal, or an advice once more.
func (s State) Owes() bool { return s.NeedsReversal() || s == Forwarding }

// NeedsReversal says that a reversal is owed to the host.
func (s State) NeedsReversal() bool { return s == InDoubt || s == Reversing }

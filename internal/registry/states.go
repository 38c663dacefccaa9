package registry

import (
	"fmt"
	"slices"
	"strings"
)

// active is the state of a merchant or terminal that may trade.
const active = "active"

// States of a card (row P4).
const (
	cardRegistered   = "registered"
	cardPersonalised = "personalised"
	cardInService    = "in_service"
	cardSuspended    = "suspended"
	cardLost         = "lost"
	cardRetired      = "retired"
	cardDestroyed    = "destroyed"
)

// cardMoves are the legal moves of a card. A card can be lost or be retired at any time of its life; what is lost never serves again,
// because nobody can say who had it.
var cardMoves = map[string][]string{
	cardRegistered:   {cardPersonalised, cardLost, cardRetired},
	cardPersonalised: {cardInService, cardLost, cardRetired},
	cardInService:    {cardSuspended, cardLost, cardRetired},
	cardSuspended:    {cardInService, cardLost, cardRetired},
	cardLost:         {cardRetired, cardDestroyed},
	cardRetired:      {cardDestroyed},
	cardDestroyed:    {},
}

// terminalMoves are the legal moves of a terminal. A terminal that was lost and is found goes through suspended: somebody looks at it
// before it trades.
var terminalMoves = map[string][]string{
	active:      {"suspended", "lost", "retired"},
	"suspended": {active, "lost", "retired"},
	"lost":      {"suspended", "retired"},
	"retired":   {},
}

// TerminalStates lists the states of a terminal in the order of its life.
func TerminalStates() []string { return []string{active, "suspended", "lost", "retired"} }

// CardStates lists the states of a card in the order of its life.
func CardStates() []string {
	return []string{cardRegistered, cardPersonalised, cardInService, cardSuspended, cardLost, cardRetired, cardDestroyed}
}

// checkMove refuses a move that the table does not have.
func checkMove(moves map[string][]string, what, from, to string) error {
	allowed := moves[from]
	if slices.Contains(allowed, to) {
		return nil
	}
	next := "it stays as it is: register another one"
	if len(allowed) > 0 {
		next = "from here it can become: " + strings.Join(allowed, ", ")
	}
	return &Refusal{Kind: Conflict, Detail: fmt.Sprintf("%s is %s and cannot become %s", what, from, to), NextStep: next}
}

// endsBinding says that a card or terminal in this state gives its place up.
func endsBinding(state string) bool {
	return state == cardLost || state == cardRetired || state == cardDestroyed
}

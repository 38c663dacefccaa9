package posptest

import (
	"strings"
	"testing"

	"github.com/keyward/keyward/sim/bank"
)

// TestCompare: agreement is silent, and every kind of contradiction is named.
func TestCompare(t *testing.T) {
	t.Parallel()
	approved := transaction{Terminal: "10000001", Trace: "000001", HostTrace: "111111", RRN: "R", Kind: "purchase", State: "approved", Amount: 5, Answered: true}
	in := func(state string, answered bool) []transaction {
		c := approved
		c.State, c.Answered = state, answered
		return []transaction{c}
	}
	book := func(state string) bank.Book {
		b := bank.Book{
			Balances: []bank.Balance{{Opening: 100, Balance: 100}},
			Bookings: []bank.Booking{{Terminal: "10000001", Trace: "111111", RRN: "R", Kind: "purchase", Amount: 5, State: state}},
		}
		if state == "booked" || state == "voided" {
			b.Balances[0].Balance, b.Bookings[0].Moved = 95, 5
		}
		return b
	}
	of := func(kind, state string, b bank.Book) ([]transaction, bank.Book) {
		c := in(state, kind == "preauth")
		c[0].Kind, b.Bookings[0].Kind = kind, kind
		return c, b
	}
	holding := book("held")
	holding.Balances[0].Held, holding.Bookings[0].Held = 5, 5
	preauth, hold := of("preauth", "approved", holding)
	owed, heard := of("offline_settlement", "forwarding", book("booked"))
	done, _ := of("offline_settlement", "approved", book("booked"))
	lost, _ := of("refund", "unresolved", book("booked"))
	taken := book("reversed")
	taken.Bookings[0].OriginalRRN = "O"
	taken.Bookings = append(taken.Bookings, bank.Booking{RRN: "O", Kind: "balance", State: "reversed"})
	lostHold := book("held")
	lostHold.Bookings[0].Kind, lostHold.Bookings[0].Held = "preauth", 5
	stolen := book("booked")
	stolen.Balances[0].Balance = 90
	view := func(kept bool) []View { return []View{{Terminal: "10000001", Trace: "000001", Kept: kept}} }
	for name, test := range map[string]struct {
		journal []transaction
		book    bank.Book
		views   []View
		want    string
	}{
		"approved":                      {in("approved", true), book("booked"), view(true), ""},
		"reversed":                      {in("reversed", false), book("reversed"), view(false), ""},
		"never sent":                    {in("failed", false), bank.Book{}, view(false), ""},
		"nothing happened":              {nil, bank.Book{}, view(false), ""},
		"approved, not answered":        {in("approved", false), book("booked"), view(false), "no end"},
		"in doubt":                      {in("in_doubt", false), book("booked"), view(false), "no end"},
		"approved, bank has nothing":    {in("approved", true), bank.Book{}, view(true), "the bank has"},
		"approved, bank reversed":       {in("approved", true), book("reversed"), view(true), "the bank has"},
		"reversed, bank booked":         {in("reversed", true), book("booked"), view(false), "booked it"},
		"lost record":                   {nil, book("booked"), view(false), "does not know"},
		"terminal keeps a reversed":     {in("reversed", true), book("reversed"), view(true), "keeps an approval"},
		"terminal knows of no approval": {in("approved", true), book("booked"), view(false), "keeps no approval"},
		"voided later":                  {in("approved", true), book("voided"), view(true), ""},
		"held":                          {preauth, hold, view(true), ""},
		"of another kind":               {in("approved", true), hold, view(true), "the bank has preauth"},
		"advice still owed":             {owed, heard, nil, "no end"},
		"advice delivered":              {done, heard, nil, ""},
		"left to people":                {lost, book("declined"), nil, ""},
		"taken along by its original":   {in("approved", true), taken, view(true), ""},
		"hold without an account":       {preauth, lostHold, view(true), "accounts hold"},
		"money left without a booking":  {in("approved", true), stolen, view(true), "left the accounts"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := compare(test.journal, test.book, test.views)
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
}

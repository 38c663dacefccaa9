package posp_test

import (
	"context"
	"testing"
	"time"

	"github.com/keyward/keyward/internal/posp/posptest"
	"github.com/keyward/keyward/sim/bank"
	"github.com/keyward/keyward/sim/pos"
)

// trades are the commands of a terminal that move money or tell of it: MTI, what must be approved before, and whether posp takes charge of it.
var trades = map[string]struct {
	mti   string
	first []string
	told  bool
}{
	"purchase":       {"0200", nil, false},
	"void":           {"0200", []string{"purchase"}, false},
	"refund":         {"0220", []string{"purchase"}, false},
	"preauth":        {"0100", nil, false},
	"preauth-void":   {"0100", []string{"preauth"}, false},
	"complete":       {"0200", []string{"preauth"}, false},
	"complete-void":  {"0200", []string{"preauth", "complete"}, false},
	"advice":         {"0220", []string{"preauth"}, true},
	"offline":        {"0220", nil, true},
	"adjust":         {"0220", []string{"offline"}, true},
	"tip":            {"0220", []string{"purchase"}, true},
	"offline-chip":   {"0200", nil, true},
	"offline-refund": {"0220", []string{"offline"}, true},
	"script-result":  {"0620", []string{"purchase"}, true},
}

// agree returns when journal and bank agree about everything.
func (s *system) agree() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 30*time.Second)
	defer cancel()
	if err := posptest.Await(ctx, s.admin, s.bank.Book, nil); err != nil {
		s.t.Error(err)
	}
}

// TestEveryKindOfATerminal: the whole table from terminals of two schemes, with their own packing, to the bank's book.
func TestEveryKindOfATerminal(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	s.enrol(4, "tdes", 8)
	for i, scheme := range []string{"003", "004"} {
		term := s.terminal(i+1, func(c *pos.Config) { c.Scheme = scheme })
		other := s.terminal(i+3, func(c *pos.Config) { c.Scheme = scheme })
		want(t, term.SignOn(t.Context()), "00")
		want(t, other.SignOn(t.Context()), "00")
		do := func(command string, sale pos.Sale, code string) pos.Result {
			t.Helper()
			return want(t, term.Trade(t.Context(), command, sale), code)
		}
		card := pos.Sale{AmountFen: 1000, PAN: card1, PIN: pin1}
		do("purchase", card, "00")
		do("void", pos.Sale{}, "00")
		do("void", pos.Sale{OriginalTrace: "000002"}, "25")
		buy := do("purchase", card, "00")
		do("void", pos.Sale{AmountFen: 999}, "64")
		want(t, other.Trade(t.Context(), "void", pos.Sale{AmountFen: 1000, PAN: card1, OriginalRRN: buy.RRN}), "25")
		do("refund", pos.Sale{AmountFen: 400}, "00")
		do("refund", pos.Sale{AmountFen: 601, OriginalTrace: buy.Trace}, "64")
		do("script-result", pos.Sale{OriginalTrace: buy.Trace}, "00")
		do("preauth", card, "00")
		do("preauth-void", pos.Sale{}, "00")
		do("preauth", card, "00")
		do("complete", pos.Sale{AmountFen: 1151}, "64")
		do("complete", pos.Sale{AmountFen: 1150}, "00")
		do("complete-void", pos.Sale{}, "00")
		do("complete", pos.Sale{AmountFen: 900}, "00")
		do("refund", pos.Sale{AmountFen: 100}, "00")
		do("preauth", card, "00")
		do("advice", pos.Sale{AmountFen: 700}, "00")
		hold := do("preauth", card, "00")
		want(t, other.Trade(t.Context(), "complete", pos.Sale{AmountFen: 100, PAN: card1, PIN: pin1, AuthCode: hold.AuthCode}), "00")
		do("offline", pos.Sale{AmountFen: 300, PAN: card1}, "00")
		do("adjust", pos.Sale{AmountFen: 350}, "00")
		do("tip", pos.Sale{AmountFen: 360}, "00")
		do("offline-chip", pos.Sale{AmountFen: 300, PAN: card1}, "00")
		do("offline-refund", pos.Sale{AmountFen: 30}, "00")
		do("load", card, "40")
		want(t, term.SignOff(t.Context()), "00")
	}
	s.agree()
}

// TestEveryKindIsReversed: a terminal takes back each reversible kind, and what it had ended can be used again.
func TestEveryKindIsReversed(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	term := s.terminal(1, nil)
	want(t, term.SignOn(t.Context()), "00")
	for _, command := range []string{"purchase", "void", "preauth", "preauth-void", "complete", "complete-void"} {
		for _, first := range trades[command].first {
			want(t, term.Trade(t.Context(), first, saleFor(first)), "00")
		}
		for range 2 {
			want(t, term.Trade(t.Context(), command, saleFor(command)), "00")
			want(t, term.Reversal(t.Context()), "00")
		}
		want(t, term.Trade(t.Context(), command, saleFor(command)), "00")
	}
	s.agree()
}

// saleFor gives card and amount to a command that has no original to take them from.
func saleFor(command string) pos.Sale {
	if len(trades[command].first) > 0 {
		return pos.Sale{}
	}
	return pos.Sale{AmountFen: 1000, PAN: card1, PIN: pin1}
}

// TestEveryKindInDoubt: whatever the bank does to the answer, what can be undone is undone, what has happened is told until it is answered, and a
// refund is left to people; then the books agree.
func TestEveryKindInDoubt(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]struct {
		kind     bank.FaultKind
		commands []string
	}{
		"wrong MAC": {bank.WrongMAC, []string{
			"purchase", "void", "refund", "preauth", "preauth-void", "complete", "complete-void", "advice", "offline", "adjust", "tip",
			"offline-chip", "offline-refund", "script-result",
		}},
		// Each waits out the host's time-out.
		"lost": {bank.LoseRequest, []string{"void", "refund", "complete", "offline"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSystem(t, nil)
			term := s.terminal(1, nil)
			want(t, term.SignOn(t.Context()), "00")
			for _, command := range fault.commands {
				for _, first := range trades[command].first {
					want(t, term.Trade(t.Context(), first, saleFor(first)), "00")
				}
				s.must(s.bank.SetFaults(bank.Fault{Kind: fault.kind, MTI: trades[command].mti, Next: 1}))
				code := "98"
				if trades[command].told {
					code = "00"
				}
				want(t, term.Trade(t.Context(), command, saleFor(command)), code)
			}
			s.agree()
		})
	}
}

package posp_test

import (
	"testing"

	"github.com/keyward/keyward/sim/pos"
)

const (
	card1 = "6222020000000000018"
	pin1  = "123456"
)

// TestMainPath signs a terminal on and trades, with each form of keys and of card entry.
func TestMainPath(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	for i, scheme := range []string{"003", "004"} {
		t.Run(scheme, func(t *testing.T) {
			term := s.terminal(i+1, func(c *pos.Config) { c.Scheme = scheme })
			want(t, term.SignOn(t.Context()), "00")
			before := s.balance()
			want(t, term.Purchase(t.Context(), pos.Sale{AmountFen: 1234, PAN: card1, PIN: pin1}), "00")
			want(t, term.Purchase(t.Context(), pos.Sale{AmountFen: 100, PAN: card1}), "00")
			want(t, term.Purchase(t.Context(), pos.Sale{AmountFen: 66, PAN: card1, PIN: pin1, Entry: pos.EntryKeyed}), "00")
			if got := before - s.balance(); got != 1400 {
				t.Errorf("the bank booked %d, want 1400", got)
			}
			r := want(t, term.Balance(t.Context(), pos.Sale{PAN: card1, PIN: pin1}), "00")
			if r.BalanceFen == nil || *r.BalanceFen != s.balance() {
				t.Errorf("balance %v, the bank has %d", r.BalanceFen, s.balance())
			}
			want(t, term.Echo(t.Context()), "00")
			want(t, term.SignOff(t.Context()), "00")
		})
	}
}

func want(t *testing.T, r pos.Result, code string) pos.Result {
	t.Helper()
	if r.Code != code {
		t.Fatalf("%s: code %q (%s) %s %v, want %q", r.Command, r.Code, r.Meaning, r.Error, r.Actions, code)
	}
	return r
}

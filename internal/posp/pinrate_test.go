package posp_test

import (
	"testing"

	"github.com/keyward/keyward/internal/posp"
	"github.com/keyward/keyward/sim/hsm"
	"github.com/keyward/keyward/sim/pos"
)

// TestPINRate: the PIN that is one too many for its card is refused by posp itself, from any terminal and also when it is right, and moves no
// money; other cards, and the card without a PIN, go on.
func TestPINRate(t *testing.T) {
	t.Parallel()
	s := newSystem(t, func(c *posp.Config) { c.Flow.PINsPerCard = 3 })
	one, two := s.terminal(1, nil), s.terminal(2, nil)
	want(t, one.SignOn(t.Context()), "00")
	want(t, two.SignOn(t.Context()), "00")
	sale := pos.Sale{AmountFen: 100, PAN: card1, PIN: "000000"}
	for range 3 {
		want(t, one.Purchase(t.Context(), sale), "55")
	}
	before := s.balance()
	sale.PIN = pin1
	want(t, one.Purchase(t.Context(), sale), "65")
	want(t, two.Purchase(t.Context(), sale), "65")
	want(t, two.Balance(t.Context(), pos.Sale{PAN: card1, PIN: pin1}), "65")
	if s.balance() != before {
		t.Error("money was moved")
	}
	sale.PIN = ""
	want(t, one.Purchase(t.Context(), sale), "00")
	want(t, one.Balance(t.Context(), pos.Sale{PAN: card2, PIN: "654321"}), "00")
	if got := s.metric("posp_pins_refused_total"); got != 3 {
		t.Errorf("%v PINs counted as refused, want 3", got)
	}
}

// TestPINRateOfTerminal: a terminal that tries PINs on many cards is stopped, and another one is not.
func TestPINRateOfTerminal(t *testing.T) {
	t.Parallel()
	s := newSystem(t, func(c *posp.Config) { c.Flow.PINsPerTerminal = 2 })
	one, two := s.terminal(1, nil), s.terminal(2, nil)
	want(t, one.SignOn(t.Context()), "00")
	want(t, two.SignOn(t.Context()), "00")
	want(t, one.Balance(t.Context(), pos.Sale{PAN: card1, PIN: pin1}), "00")
	want(t, one.Balance(t.Context(), pos.Sale{PAN: card2, PIN: "654321"}), "00")
	want(t, one.Balance(t.Context(), pos.Sale{PAN: card1, PIN: pin1}), "65")
	want(t, two.Balance(t.Context(), pos.Sale{PAN: card1, PIN: pin1}), "00")
}

// TestPINFaultsAreOne: whatever the HSM finds wrong with a PIN block, the terminal hears the same.
func TestPINFaultsAreOne(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	term := s.terminal(1, nil)
	for _, code := range []string{"20", "21", "22", "23", "24"} {
		want(t, term.SignOn(t.Context()), "00") // 99 has signed it off
		s.must(s.hsm.SetFaults(hsm.Faults{ErrorCodes: map[string]string{"CA": code}}))
		want(t, term.Balance(t.Context(), pos.Sale{PAN: card1, PIN: pin1}), "99")
	}
}

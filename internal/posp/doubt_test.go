package posp_test

import (
	"testing"

	"github.com/keyward/keyward/iso"
	"github.com/keyward/keyward/iso/unionpay"
	"github.com/keyward/keyward/sim/bank"
	"github.com/keyward/keyward/sim/pos"
)

// TestInDoubt: whatever the bank does instead of a good answer, the terminal gets 98, the transaction is reversed until the bank
// answers, and afterwards the bank's book and the journal agree.
func TestInDoubt(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		fault bank.FaultKind
		cause string
	}{
		"booked but silent": {bank.NoAnswer, "98"},
		"request lost":      {bank.LoseRequest, "98"},
		"wrong MAC":         {bank.WrongMAC, "A0"},
		"wrong amount":      {bank.WrongAmount, "98"},
		"wrong trace":       {bank.WrongTrace, "98"},
		"cut":               {bank.CutFrame, "98"},
		"closed":            {bank.CloseInstead, "98"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, w := signedOn(t)
			before := s.balance()
			faults := []bank.Fault{{Kind: test.fault, MTI: "0200", Next: 1}}
			if test.fault == bank.NoAnswer {
				// Reversals are swallowed as well: posp must go on until one is answered. This costs their time-out.
				faults = append(faults, bank.Fault{Kind: bank.NoAnswer, MTI: "0400", Next: 1}, bank.Fault{Kind: bank.WrongMAC, MTI: "0401", Next: 1})
			}
			s.must(s.bank.SetFaults(faults...))
			p := w.sale(300, nil)
			answer := w.ask(w.signed(p))
			wantCode(t, answer, "98")
			if !answer.Message.Has(iso.MAC) || answer.Message.Has(iso.AuthCode) {
				t.Errorf("answer %v", answer.Message)
			}
			s.awaitLong("the reversal", func() bool { return s.state(p) == "reversed" })
			if got := s.balance(); got != before {
				t.Errorf("the bank holds %d, want %d", got, before)
			}
			if got := s.cause(p); got != test.cause {
				t.Errorf("cause %q, want %q", got, test.cause)
			}
			wantCode(t, w.ask(w.signed(p)), "98")
			wantCode(t, w.ask(w.signed(w.undo(p, nil))), "00")
			if totals := s.bank.Book().Totals; totals.Booked != totals.Reversed {
				t.Errorf("bank totals %+v", totals)
			}
		})
	}
}

// cause is why a transaction is reversed.
func (s *system) cause(p *unionpay.Packet) string {
	s.t.Helper()
	var cause string
	s.must(s.admin.QueryRow(s.t.Context(), `SELECT r.cause FROM reversals r JOIN transaction_keys k USING (txn_id)
		WHERE k.terminal_id = $1 AND k.trace = $2`, p.Message.Text(iso.Terminal), p.Message.Text(iso.Trace)).Scan(&cause))
	return cause
}

// TestLateAnswerRevivesNothing: the bank's approval comes after the time-out; the transaction stays reversed.
func TestLateAnswerRevivesNothing(t *testing.T) {
	t.Parallel()
	s, w := signedOn(t)
	before := s.balance()
	s.must(s.bank.SetFaults(bank.Fault{Kind: bank.Hold, MTI: "0200"}))
	p := w.sale(300, nil)
	wantCode(t, w.ask(w.signed(p)), "98")
	if n := s.bank.Release(); n != 1 {
		t.Errorf("%d answers were held", n)
	}
	s.await("the reversal", func() bool { return s.state(p) == "reversed" })
	wantCode(t, w.ask(w.signed(p)), "98")
	if got := s.balance(); got != before {
		t.Errorf("the bank holds %d, want %d", got, before)
	}
}

// TestTerminalAndPOSPBothReverse: a terminal of the simulator runs into a silent bank, reverses on its own, and trades on.
func TestTerminalAndPOSPBothReverse(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	term := s.terminal(1, nil)
	want(t, term.SignOn(t.Context()), "00")
	before := s.balance()
	s.must(s.bank.SetFaults(bank.Fault{Kind: bank.NoAnswer, MTI: "0200", Next: 1}))
	r := term.Purchase(t.Context(), pos.Sale{AmountFen: 500, PAN: card1, PIN: pin1})
	if r.Code != "98" {
		t.Fatalf("%+v", r)
	}
	want(t, term.Purchase(t.Context(), pos.Sale{AmountFen: 200, PAN: card1, PIN: pin1}), "00")
	s.await("the reversal", func() bool { return s.balance() == before-200 })
}

// TestTerminalHangsUp: the terminal is gone before the bank answers. The approval is handed to a dead socket or taken back; a terminal that
// reverses gets 00 in either case, and the money is back.
func TestTerminalHangsUp(t *testing.T) {
	t.Parallel()
	s, w := signedOn(t)
	before := s.balance()
	s.must(s.bank.SetFaults(bank.Fault{Kind: bank.Hold, MTI: "0200", Next: 1}))
	p := w.sale(300, nil)
	w.send(w.signed(p))
	s.must(s.bank.WaitHeld(t.Context(), "0200"))
	w.reset()
	s.bank.Release()
	s.await("the outcome", func() bool { st := s.state(p); return st != "sending" && st != "" })
	wantCode(t, w.ask(w.signed(w.undo(p, nil))), "00")
	s.await("the money back", func() bool { return s.balance() == before })
}

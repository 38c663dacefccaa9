package posp_test

import (
	"fmt"
	"testing"

	"github.com/keyward/keyward/iso"
	"github.com/keyward/keyward/sim/bank"
)

// TestReversals: the terminal's 0400 for every state of its original.
func TestReversals(t *testing.T) {
	t.Parallel()
	s, w := signedOn(t)
	opening := s.balance()
	back := func() {
		t.Helper()
		s.await("the money back", func() bool { return s.balance() == opening })
	}

	// Approved; again; and its late repeat is not an approval any more.
	p := w.sale(100, nil)
	wantCode(t, w.ask(w.signed(p)), "00")
	wantCode(t, w.ask(w.signed(w.undo(p, map[int]string{iso.Amount: "000000000099"}))), "64")
	for _, frame := range [][]byte{w.plain(w.undo(p, nil)), w.plain(w.undo(p, map[int]string{iso.MAC: "00000000"}))} {
		wantCode(t, w.ask(frame), "A0")
	}
	if s.state(p) != "approved" || s.balance() != opening-100 {
		t.Fatal("a refused reversal changed something")
	}
	wantCode(t, w.ask(w.signed(w.undo(p, nil))), "00")
	back()
	wantCode(t, w.ask(w.signed(w.undo(p, nil))), "00")
	wantCode(t, w.ask(w.signed(p)), "98")

	// Declined and not sent: nothing to do.
	p = w.sale(100_000_001_00, nil)
	wantCode(t, w.ask(w.signed(p)), "51")
	wantCode(t, w.ask(w.signed(w.undo(p, nil))), "00")

	// Unknown: a tombstone, also after a restart; the late original is refused and never booked.
	early, late := w.sale(100, nil), w.sale(100, nil)
	wantCode(t, w.ask(w.signed(w.undo(early, nil))), "00")
	wantCode(t, w.ask(w.signed(w.undo(early, nil))), "00")
	wantCode(t, w.ask(w.signed(early)), "25")
	wantCode(t, w.ask(w.signed(w.undo(late, nil))), "00")
	w.hangUp()
	s.restart()
	wantCode(t, w.ask(w.signed(late)), "25")
	wantCode(t, w.ask(w.signed(early)), "25")

	// In flight: the outcome decides, and is taken back.
	s.must(s.bank.SetFaults(bank.Fault{Kind: bank.Hold, MTI: "0200", Next: 1}))
	p = w.sale(100, nil)
	first := w.other()
	first.send(first.signed(p))
	s.must(s.bank.WaitHeld(t.Context(), "0200"))
	w.send(w.signed(w.undo(p, nil)))
	s.bank.Release()
	wantCode(t, w.answer(), "00")
	back()

	// In doubt: the reversal is owed already.
	s.must(s.bank.SetFaults(bank.Fault{Kind: bank.NoAnswer, MTI: "0200", Next: 1}))
	p = w.sale(100, nil)
	wantCode(t, w.ask(w.signed(p)), "98")
	wantCode(t, w.ask(w.signed(w.undo(p, nil))), "00")
	back()

	// The bank is away: owed, answered 00, and done when the bank is back.
	p = w.sale(100, nil)
	wantCode(t, w.ask(w.signed(p)), "00")
	s.must(s.bank.SetFaults(bank.Fault{Kind: bank.Down}))
	wantCode(t, w.ask(w.signed(w.undo(p, nil))), "00")
	s.must(s.bank.SetFaults())
	back()

	// A balance inquiry has nothing to reverse, and its kind of reversal does not exist.
	wantCode(t, w.ask(w.signed(w.undo(p, map[int]string{iso.ProcessingCode: "310000", iso.Private60: "01" + w.batch + "000"}))), "40")
	totals := s.bank.Book().Totals
	if totals.Booked != totals.Reversed || totals.BookedAmount != totals.ReversedAmount {
		t.Errorf("bank totals %+v", totals)
	}
}

// TestReversalOverSignOff: the terminal signs off and on with a purchase in doubt; the reversal names the old batch, under the new keys.
func TestReversalOverSignOff(t *testing.T) {
	t.Parallel()
	s, w := signedOn(t)
	opening := s.balance()
	p := w.sale(100, nil)
	wantCode(t, w.ask(w.signed(p)), "00")
	batch := w.batch
	wantCode(t, w.ask(w.plain(w.packet("0820", map[int]string{iso.Private60: "00" + w.batch + "002"}))), "00")
	wantCode(t, w.ask(w.signed(w.undo(p, nil))), "77")
	w.signOn("003")
	if w.batch == batch {
		t.Errorf("the batch is %s still", batch)
	}
	wantCode(t, w.ask(w.signed(w.undo(p, nil))), "00")
	s.await("the money back", func() bool { return s.balance() == opening })
	wantCode(t, w.ask(w.signed(w.sale(1, nil))), "00")
}

// TestReversalSurvivesRestart: what was owed when posp stopped is paid by its next life.
func TestReversalSurvivesRestart(t *testing.T) {
	t.Parallel()
	s, w := signedOn(t)
	opening := s.balance()
	s.must(s.bank.SetFaults(bank.Fault{Kind: bank.NoAnswer, MTI: "0200", Next: 1}, bank.Fault{Kind: bank.LoseRequest, MTI: "0400"}, bank.Fault{Kind: bank.LoseRequest, MTI: "0401"}))
	p := w.sale(100, nil)
	wantCode(t, w.ask(w.signed(p)), "98")
	w.hangUp()
	s.stopPOSP()
	s.must(s.bank.SetFaults())
	s.startPOSP()
	s.await("the money back", func() bool { return s.balance() == opening && s.state(p) == "reversed" })
}

// TestManyAtOnce: terminals trade and reverse at the same time; what the bank holds is what they were told.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	opening := s.balance()
	sums := make(chan int64, 3)
	for n := 1; n <= 3; n++ {
		w := s.wire(t, n)
		w.signOn(fmt.Sprintf("00%d", 3+n%2))
		go func() {
			sum := int64(0)
			defer func() { sums <- sum }()
			for i := range 30 {
				p := w.sale(1+i, nil)
				if w.ask(w.signed(p)).Message.Text(iso.ResponseCode) == "00" {
					sum += int64(1 + i)
				}
				if i%3 == 0 && w.ask(w.signed(w.undo(p, nil))).Message.Text(iso.ResponseCode) == "00" {
					sum -= int64(1 + i)
				}
			}
		}()
	}
	total := int64(0)
	for range 3 {
		total += <-sums
	}
	s.await("agreement", func() bool { return opening-s.balance() == total })
}

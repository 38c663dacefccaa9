package posp_test

import (
	"testing"
	"time"
)

// TestReplayLater: a recorded purchase takes money once, however late it is played again: the keys that its MAC was made with end before
// the duplicate check forgets it.
func TestReplayLater(t *testing.T) {
	t.Parallel()
	s, w := signedOn(t)
	before := s.balance()
	recorded := w.signed(w.sale(500, nil))
	wantCode(t, w.ask(recorded), "00")
	steps := []struct {
		later time.Duration
		code  string
	}{
		{time.Minute, "00"}, {23 * time.Hour, "00"}, {24*time.Hour + 90*time.Second, "77"}, {30 * time.Hour, "77"}, {30 * 24 * time.Hour, "77"},
	}
	for _, step := range steps {
		s.skew.Store(int64(step.later))
		wantCode(t, w.ask(recorded), step.code)
		if got := before - s.balance(); got != 500 {
			t.Fatalf("%s later the recorded purchase has taken %d fen in all, want 500", step.later, got)
		}
	}
	w.signOn("003") // and the terminal is back after a sign-on
	wantCode(t, w.ask(w.signed(w.sale(1, nil))), "00")
}

// TestLateReversal: a terminal whose line broke on Saturday evening sends its reversal on Monday. The money goes back, or, where what a
// reversal needs is erased already, the terminal hears that it does not; never 00 for money that stays booked.
func TestLateReversal(t *testing.T) {
	t.Parallel()
	s, w := signedOn(t)
	before := s.balance()
	first, second := w.sale(500, nil), w.sale(700, nil)
	wantCode(t, w.ask(w.signed(first)), "00")
	wantCode(t, w.ask(w.signed(second)), "00")
	s.skew.Store(int64(36 * time.Hour))
	w.signOn("003")
	wantCode(t, w.ask(w.signed(w.undo(first, nil))), "00")
	s.await("the reversal", func() bool { return s.balance() == before-700 })
	if _, err := s.admin.Exec(t.Context(), `DELETE FROM transaction_secrets`); err != nil { // as housekeeping does after some days
		t.Fatal(err)
	}
	s.restart()
	w = s.wire(t, 1)
	w.signOn("003")
	wantCode(t, w.ask(w.signed(w.undo(second, nil))), "25")
	if got := s.balance(); got != before-700 {
		t.Errorf("the balance is %d, want %d", got, before-700)
	}
}

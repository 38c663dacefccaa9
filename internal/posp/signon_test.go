package posp_test

import (
	"fmt"
	"testing"

	"github.com/keyward/keyward/iso"
	"github.com/keyward/keyward/sim/hsm"
	"github.com/keyward/keyward/sim/pos"
)

// TestSignOnForms: the registry decides the algorithm, never the message; each form of keys trades.
func TestSignOnForms(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	s.enrol(4, "des", 8)
	s.enrol(5, "tdes", 16)
	s.await("the new terminals", func() bool { return s.status().Terminals == 5 })
	for _, test := range []struct {
		terminal  int
		form      string
		code      string
		mak, tdk  int
		signedOff bool
	}{
		{1, "003", "00", 8, 0, false}, {1, "004", "00", 8, 16, false}, {1, "001", "58", 0, 0, false},
		{4, "001", "00", 8, 0, false}, {4, "003", "58", 0, 0, false}, {4, "004", "58", 0, 0, false},
		{5, "003", "00", 16, 0, false}, {5, "004", "00", 16, 16, false},
		{1, "005", "40", 0, 0, false}, {1, "006", "58", 0, 0, false}, {1, "999", "40", 0, 0, false},
	} {
		t.Run(fmt.Sprintf("%d/%s", test.terminal, test.form), func(t *testing.T) {
			w := s.wire(t, test.terminal)
			answer := w.ask(w.plain(w.signOnPacket(test.form)))
			wantCode(t, answer, test.code)
			if test.code != "00" {
				if answer.Message.Has(iso.Private62) {
					t.Error("a refusal with keys")
				}
				return
			}
			w.adopt(answer)
			if len(w.keys.mak) != test.mak || len(w.keys.tdk) != test.tdk {
				t.Errorf("MAK of %d bytes, TDK of %d", len(w.keys.mak), len(w.keys.tdk))
			}
			w.trace = 100 * test.terminal
			security := "2600000000000000"
			if test.form == "001" {
				security = "2000000000000000"
			}
			c := keyed(card1)
			c[iso.PINCaptureCode], c[iso.PINBlock], c[iso.SecurityControl], c[iso.EntryMode] = "06", w.pinBlock(card1, pin1), security, "011"
			wantCode(t, w.ask(w.signed(w.sale(1, c))), "00")
		})
	}
	if got := s.metric("posp_weaker_requests_total"); got != 4 {
		t.Errorf("%v requests counted as weaker, want 4", got)
	}
	for n, scheme := range map[int]string{4: "001", 5: "004"} {
		term := s.terminal(n, func(c *pos.Config) { c.Scheme = scheme })
		want(t, term.SignOn(t.Context()), "00")
		want(t, term.Balance(t.Context(), pos.Sale{PAN: card1, PIN: pin1}), "00")
	}
}

// TestSameSignOnSameAnswer: the same 0800 gets the same bytes, in flight too, without new keys.
func TestSameSignOnSameAnswer(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	w := s.wire(t, 1)
	frame := w.plain(w.signOnPacket("004"))
	first := w.ask(frame)
	wantCode(t, first, "00")
	same(t, first, w.ask(frame))
	w.adopt(first)
	wantCode(t, w.ask(w.signed(w.sale(1, nil))), "00")
	same(t, first, w.ask(frame))
	w.hangUp()
	s.restart()
	same(t, first, w.ask(frame))

	s.must(s.hsm.SetFaults(hsm.Faults{Hold: []string{"HC", "A0"}}))
	frame = w.plain(w.signOnPacket("004"))
	again := w.other()
	w.send(frame)
	again.send(frame)
	command := "HC"
	s.await("both", func() bool { return s.inFlight() >= 2 })
	_ = command
	s.must(s.hsm.SetFaults(hsm.Faults{}))
	a := w.answer()
	wantCode(t, a, "00")
	same(t, a, again.answer())
	if got := s.sets(1); got != 2 {
		t.Errorf("%d key sets were made, want 2", got)
	}
}

// inFlight is the number of frames being worked on.
func (s *system) inFlight() int { return int(s.metric("keyward_link_server_in_flight")) }

// sets counts the key sets a terminal ever had.
func (s *system) sets(n int) (count int) {
	s.t.Helper()
	s.must(s.admin.QueryRow(s.t.Context(), `SELECT count(*) FROM work_keys WHERE terminal_id = $1`, fmt.Sprintf("1000%04d", n)).Scan(&count))
	return count
}

// TestForgedSignOns: anybody can send a sign-on; the working set serves on, and the newest keys serve as soon as they are used.
func TestForgedSignOns(t *testing.T) {
	t.Parallel()
	s, w := signedOn(t)
	wantCode(t, w.ask(w.signed(w.sale(1, nil))), "00")
	forger := w.other()
	for range 10 {
		forger.trace += 1000
		wantCode(t, forger.ask(forger.plain(forger.signOnPacket("003"))), "00")
		wantCode(t, w.ask(w.signed(w.sale(1, nil))), "00")
	}
	s.await("three pending sets", func() bool { return s.live(1, "pending") == 3 && s.live(1, "active") == 1 })

	old := w.keys
	w.signOn("003")
	wantCode(t, w.ask(w.signed(w.sale(1, nil))), "00") // becomes active; the one before has its grace
	fresh := w.keys
	w.keys = old
	wantCode(t, w.ask(w.signed(w.sale(1, nil))), "00")
	w.keys = fresh
	s.await("active and grace", func() bool { return s.live(1, "active") == 1 && s.live(1, "grace") == 1 && s.live(1, "pending") == 0 })

	// A third set ends the first one's grace.
	w.signOn("003")
	wantCode(t, w.ask(w.signed(w.sale(1, nil))), "00")
	newest := w.keys
	w.keys = old
	p := w.sale(1, nil)
	wantCode(t, w.ask(w.signed(p)), "A0")
	w.keys = newest
	if s.state(p) != "" {
		t.Error("a wrong MAC touched the journal")
	}
	// The number that the wrong MAC used is free still.
	wantCode(t, w.ask(w.signed(p)), "00")
}

func (s *system) live(n int, state string) (count int) {
	s.t.Helper()
	s.must(s.admin.QueryRow(s.t.Context(), `SELECT count(*) FROM work_keys WHERE terminal_id = $1 AND state = $2`, fmt.Sprintf("1000%04d", n), state).Scan(&count))
	return count
}

// TestWrongMACTouchesNothing: a forged message leaves key states and journal as they are, also when its keys are pending.
func TestWrongMACTouchesNothing(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	w := s.wire(t, 1)
	w.signOn("003")
	real := w.keys
	w.keys.mak = unhex("0101010101010101")
	for range 5 {
		wantCode(t, w.ask(w.signed(w.sale(1, nil))), "A0")
	}
	w.trace -= 5
	if s.live(1, "pending") != 1 || s.live(1, "active") != 0 {
		t.Error("a wrong MAC changed the key state")
	}
	w.keys = real
	wantCode(t, w.ask(w.signed(w.sale(1, nil))), "00")
	s.await("active", func() bool { return s.live(1, "active") == 1 })
}

// TestSignOnLimit: a terminal that signs on again and again is slowed down, others are not.
func TestSignOnLimit(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	s.stopPOSP()
	s.cfg.Flow.SignOnsPerMinute = 3
	s.startPOSP()
	w := s.wire(t, 1)
	for range 3 {
		w.signOn("003")
	}
	wantCode(t, w.ask(w.plain(w.signOnPacket("003"))), "96")
	wantCode(t, w.ask(w.signed(w.sale(1, nil))), "00")
	s.wire(t, 2).signOn("003")
}

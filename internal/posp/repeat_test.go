package posp_test

import (
	"testing"

	"github.com/keyward/keyward/iso"
	"github.com/keyward/keyward/iso/unionpay"
	"github.com/keyward/keyward/sim/bank"
)

// TestAnswerFields: the 0210 and the balance answer have exactly the fields that the issue lists.
func TestAnswerFields(t *testing.T) {
	t.Parallel()
	_, w := signedOn(t)
	fields := func(p *unionpay.Packet) []int { return p.Message.Fields() }
	check := func(what string, p *unionpay.Packet, want ...int) {
		t.Helper()
		if got := fields(p); !equalInts(got, want) {
			t.Errorf("%s has the fields %v, want %v", what, got, want)
		}
	}
	check("an approval", w.ask(w.signed(w.sale(1, nil))), 3, 4, 11, 12, 13, 15, 25, 32, 37, 38, 39, 41, 42, 44, 49, 53, 60, 63, 64)
	declined := w.sale(100_000_001_00, nil)
	check("a refusal", w.ask(w.signed(declined)), 3, 4, 11, 12, 13, 15, 25, 32, 37, 39, 41, 42, 44, 49, 53, 60, 64)
	inquiry := w.sale(0, map[int]string{iso.ProcessingCode: "310000", iso.Amount: "-", iso.Private60: "01" + w.batch + "000"})
	answer := w.ask(w.signed(inquiry))
	wantCode(t, answer, "00")
	check("a balance", answer, 3, 11, 12, 13, 15, 25, 32, 37, 39, 41, 42, 44, 49, 53, 54, 60, 63, 64)
	check("a sign-on", w.ask(w.plain(w.signOnPacket("003"))), 11, 12, 13, 32, 37, 39, 41, 42, 60, 62)
	sale := w.sale(12, nil)
	answer = w.ask(w.signed(sale))
	for _, field := range []int{iso.ProcessingCode, iso.Amount, iso.Trace, iso.ConditionCode, iso.Terminal, iso.Merchant, iso.Currency, iso.Private60} {
		if got := answer.Message.Text(field); got != sale.Message.Text(field) {
			t.Errorf("field %d is %q, want %q", field, got, sale.Message.Text(field))
		}
	}
}

func equalInts(a, b []int) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// same holds two answers against each other, their MACs apart.
func same(t testing.TB, a, b *unionpay.Packet) {
	t.Helper()
	x, y := a.Message.Clone(), b.Message.Clone()
	x.Unset(iso.MAC)
	y.Unset(iso.MAC)
	if !x.Equal(y) {
		t.Errorf("answers differ:\n%s\n%s", x.Dump(), y.Dump())
	}
}

// TestRepeats: the same bytes get the same answer, at once, in flight, and after a restart, and are booked once.
func TestRepeats(t *testing.T) {
	t.Parallel()
	s, w := signedOn(t)
	before := s.balance()
	frame := w.signed(w.sale(100, nil))
	first := w.ask(frame)
	wantCode(t, first, "00")
	same(t, first, w.ask(frame))
	declined := w.signed(w.sale(100_000_001_00, nil))
	refused := w.ask(declined)
	wantCode(t, refused, "51")
	same(t, refused, w.ask(declined))

	// In flight: both connections get the one outcome.
	s.must(s.bank.SetFaults(bank.Fault{Kind: bank.Hold, MTI: "0200", Next: 1}))
	held := w.signed(w.sale(10, nil))
	w.send(held)
	s.must(s.bank.WaitHeld(t.Context(), "0200"))
	again := w.other()
	again.send(held)
	s.await("the repeat", func() bool { return s.metric("posp_duplicates_total") >= 3 })
	s.bank.Release()
	a := w.answer()
	wantCode(t, a, "00")
	same(t, a, again.answer())

	// Other content under the same key.
	p := w.sale(1, nil)
	w.trace--
	wantCode(t, w.ask(w.signed(p)), "00")
	q := w.sale(2, nil)
	wantCode(t, w.ask(w.signed(q)), "94")

	w.hangUp()
	s.restart()
	same(t, first, w.ask(frame))
	same(t, refused, w.ask(declined))
	wantCode(t, w.ask(w.signed(q)), "94")
	if got := before - s.balance(); got != 111 {
		t.Errorf("the bank booked %d, want 111", got)
	}
	if got := s.bank.Book().Totals.Duplicates; got != 0 {
		t.Errorf("%d duplicates reached the bank", got)
	}
}

// TestRepeatWhileTheFirstIsLost: the first connection dies while the bank works, and a repeat waits on another. Whoever is told of the
// approval, the money follows: it is booked when the repeat has the approval, and back when nobody has.
func TestRepeatWhileTheFirstIsLost(t *testing.T) {
	t.Parallel()
	s, w := signedOn(t)
	for range 10 {
		before := s.balance()
		s.must(s.bank.SetFaults(bank.Fault{Kind: bank.Hold, MTI: "0200", Next: 1}))
		p := w.sale(10, nil)
		frame := w.signed(p)
		dup := s.metric("posp_duplicates_total")
		first := w.other()
		first.send(frame)
		s.must(s.bank.WaitHeld(t.Context(), "0200"))
		w.send(frame)
		s.await("the repeat", func() bool { return s.metric("posp_duplicates_total") > dup })
		first.reset()
		s.bank.Release()
		raw, err := w.read()
		if err != nil {
			t.Fatal(err)
		}
		answer, err := unionpay.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		want := before - 10
		if answer.Message.Text(iso.ResponseCode) != "00" {
			want = before
		}
		s.await("the money where the answer says", func() bool { return s.balance() == want })
	}
}

// TestRepeatUnderNewKeys: a repeat made with newer keys is answered with the recorded outcome and MACed with the newer keys; with the
// enciphered track, which looks different under another key, too.
func TestRepeatUnderNewKeys(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	w := s.wire(t, 1)
	w.signOn("004")
	sealed := func() map[int]string {
		return map[int]string{iso.Track2: w.sealTrack(track1), iso.SecurityControl: "0610000000000000"}
	}
	p := w.sale(100, sealed())
	first := w.ask(w.signed(p))
	wantCode(t, first, "00")
	old := w.keys
	w.signOn("004")
	set(p, sealed())
	same(t, first, w.ask(w.signed(p)))
	// The set before it still serves for its grace, and the answer is MACed with it.
	w.keys = old
	set(p, sealed())
	same(t, first, w.ask(w.signed(p)))
	if got := s.bank.Book().Totals.Booked; got != 1 {
		t.Errorf("%d bookings", got)
	}
}

// TestTracks: clear and enciphered tracks of every length the dialect allows reach the bank in clear.
func TestTracks(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	w := s.wire(t, 1)
	w.signOn("004")
	long := card1 + "=30122201234501234" // 37
	for _, track := range []string{long[:37], long[:36], long[:35], long[:34]} {
		for _, sealed := range []bool{false, true} {
			change := map[int]string{iso.Track2: track}
			if sealed {
				change = map[int]string{iso.Track2: w.sealTrack(track), iso.SecurityControl: "0610000000000000"}
			}
			change[iso.PINCaptureCode], change[iso.PINBlock] = "06", w.pinBlock(card1, pin1)
			control := "2600000000000000"
			if sealed {
				control = "2610000000000000"
			}
			change[iso.SecurityControl], change[iso.EntryMode] = control, "021"
			answer := w.ask(w.signed(w.sale(1, change)))
			wantCode(t, answer, "00")
			if got := answer.Message.Text(iso.SecurityControl); got != "2600000000000000" {
				t.Errorf("field 53 of the answer is %q", got)
			}
		}
	}
	short := w.sale(1, map[int]string{iso.Track2: "62220200=3012", iso.SecurityControl: "0610000000000000"})
	wantCode(t, w.ask(w.signed(short)), "30")
}

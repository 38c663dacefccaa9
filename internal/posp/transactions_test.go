package posp_test

import (
	"fmt"
	"maps"
	"testing"

	"github.com/keyward/keyward/iso"
	"github.com/keyward/keyward/iso/unionpay"
	"github.com/keyward/keyward/sim/bank"
)

// shape is what tells one transaction from another (facts/unionpay.md §3).
type shape struct{ mti, processing, condition, code string }

var shapes = map[string]shape{
	"purchase":           {"0200", "000000", "00", "22"},
	"purchase void":      {"0200", "200000", "00", "23"},
	"refund":             {"0220", "200000", "00", "25"},
	"preauth":            {"0100", "030000", "06", "10"},
	"preauth void":       {"0100", "200000", "06", "11"},
	"completion":         {"0200", "000000", "06", "20"},
	"completion void":    {"0200", "200000", "06", "21"},
	"completion advice":  {"0220", "000000", "06", "24"},
	"offline settlement": {"0220", "000000", "00", "30"},
	"adjustment":         {"0220", "000000", "00", "32"},
	"tip adjustment":     {"0220", "000000", "00", "34"},
	"offline purchase":   {"0200", "000000", "00", "36"},
	"offline refund":     {"0220", "200000", "00", "27"},
	"load designated":    {"0200", "600000", "91", "45"},
	"load cash":          {"0200", "630000", "91", "46"},
	"load other":         {"0200", "620000", "91", "47"},
	"load void":          {"0200", "170000", "91", "51"},
	"reservation":        {"0200", "000000", "00", "54"},
	"reservation void":   {"0200", "000000", "00", "53"},
	"points balance":     {"0200", "310000", "00", "03"},
}

// trade is a transaction by track 2 without PIN.
func (w *wire) trade(name string, fen int, change map[int]string) *unionpay.Packet {
	s := shapes[name]
	fields := map[int]string{
		iso.ProcessingCode: s.processing, iso.Amount: fmt.Sprintf("%012d", fen), iso.EntryMode: "022", iso.ConditionCode: s.condition,
		iso.Track2: track1, iso.Currency: "156", iso.SecurityControl: "0600000000000000", iso.Private60: s.code + w.batch + "000",
	}
	maps.Copy(fields, change)
	return w.packet(s.mti, fields)
}

// names is how a terminal names an earlier transaction: fields 37, 38 and 61.
func (w *wire) names(of *unionpay.Packet, answer *unionpay.Packet) map[int]string {
	return map[int]string{
		iso.Reference: answer.Message.Text(iso.Reference), iso.AuthCode: answer.Message.Text(iso.AuthCode),
		iso.OriginalMessage: of.Message.Text(iso.Private60)[2:8] + of.Message.Text(iso.Trace) + answer.Message.Text(iso.LocalDate),
	}
}

// do sends a transaction and wants a code.
func (w *wire) do(code, name string, fen int, change map[int]string) (sent, answer *unionpay.Packet) {
	w.t.Helper()
	sent = w.trade(name, fen, change)
	answer = w.ask(w.signed(sent))
	wantCode(w.t, answer, code)
	return sent, answer
}

func with(base map[int]string, field int, value string) map[int]string {
	m := maps.Clone(base)
	m[field] = value
	return m
}

// noneDeclined says that the bank, which has the same rules, was asked nothing that it had to refuse.
func (s *system) noneDeclined() {
	s.t.Helper()
	if n := s.bank.Book().Totals.Declined; n != 0 {
		s.t.Errorf("%d transactions were let through to the bank and refused there", n)
	}
}

// TestPurchaseVoid: what a void needs of its purchase.
func TestPurchaseVoid(t *testing.T) {
	t.Parallel()
	s, w := signedOn(t)
	opening := s.balance()
	p, a := w.do("00", "purchase", 100, nil)
	of := w.names(p, a)

	w.do("30", "purchase void", 100, nil)
	w.do("64", "purchase void", 99, of)
	w.do("25", "purchase void", 100, with(of, iso.Track2, card2+"=30122201234501234"))
	w.do("25", "purchase void", 100, with(of, iso.Reference, "ABCDEFGHIJKL"))
	w.do("25", "purchase void", 100, with(of, iso.AuthCode, "ZZZZZZ"))
	w.do("25", "purchase void", 100, with(of, iso.OriginalMessage, w.batch+"999999"))
	w.do("30", "purchase void", 100, with(of, iso.Amount, "-"))
	other := s.wire(t, 2)
	other.signOn("003")
	other.do("25", "purchase void", 100, of)
	if s.balance() != opening-100 {
		t.Fatal("a refused void changed something")
	}

	void, answer := w.do("00", "purchase void", 100, of)
	if answer.Message.MTI() != "0210" || s.balance() != opening {
		t.Errorf("%s, balance %d, want %d", answer.Message.MTI(), s.balance(), opening)
	}
	same(t, answer, w.ask(w.signed(void))) // The same again is answered from its outcome.
	w.do("25", "purchase void", 100, of)
	w.do("25", "refund", 1, of)

	s.noneDeclined()

	// A declined purchase, one that was reversed, and one of an earlier batch.
	p, a = w.do("51", "purchase", 100_000_001_00, nil)
	w.do("25", "purchase void", 100_000_001_00, with(w.names(p, a), iso.AuthCode, "-"))
	p, a = w.do("00", "purchase", 100, nil)
	wantCode(t, w.ask(w.signed(w.undo(p, nil))), "00")
	w.do("25", "purchase void", 100, w.names(p, a))
	p, a = w.do("00", "purchase", 100, nil)
	wantCode(t, w.ask(w.plain(w.packet("0820", map[int]string{iso.Private60: "00" + w.batch + "002"}))), "00")
	w.signOn("003")
	w.do("25", "purchase void", 100, w.names(p, a))
	w.do("00", "refund", 100, w.names(p, a))
	s.await("the money back", func() bool { return s.balance() == opening })
}

// TestVoidIsReversed: the terminal's 0400 of a void, and a void whose outcome nobody knows; then the purchase can be voided again.
func TestVoidIsReversed(t *testing.T) {
	t.Parallel()
	s, w := signedOn(t)
	opening := s.balance()
	p, a := w.do("00", "purchase", 100, nil)
	of := w.names(p, a)
	void, _ := w.do("00", "purchase void", 100, of)
	wantCode(t, w.ask(w.signed(w.undo(void, nil))), "00")
	s.await("the purchase back", func() bool { return s.balance() == opening-100 })

	s.must(s.bank.SetFaults(bank.Fault{Kind: bank.NoAnswer, MTI: "0200", Next: 1}))
	void, _ = w.do("98", "purchase void", 100, of)
	s.await("the reversal", func() bool { return s.state(void) == "reversed" })
	if s.balance() != opening-100 {
		t.Errorf("balance %d, want %d", s.balance(), opening-100)
	}
	w.hangUp()
	s.restart()
	w.do("00", "purchase void", 100, of)
	if s.balance() != opening {
		t.Errorf("balance %d, want %d", s.balance(), opening)
	}
}

// TestRefunds: together not above the original, also at two terminals at the same time, and found by the reference of another terminal.
func TestRefunds(t *testing.T) {
	t.Parallel()
	s, w := signedOn(t)
	opening := s.balance()
	p, a := w.do("00", "purchase", 100, nil)
	of := w.names(p, a)
	w.do("64", "refund", 101, of)
	_, answer := w.do("00", "refund", 60, of)
	if answer.Message.MTI() != "0230" {
		t.Error(answer.Message.MTI())
	}
	w.do("64", "refund", 41, of)
	w.do("25", "purchase void", 100, of)
	other := s.wire(t, 2)
	other.signOn("003")
	w.hangUp()
	other.hangUp()
	s.restart()
	here, there := w.signed(w.trade("refund", 40, of)), other.signed(other.trade("refund", 40, with(of, iso.OriginalMessage, "-")))
	w.send(here)
	other.send(there)
	codes := w.answer().Message.Text(iso.ResponseCode) + other.answer().Message.Text(iso.ResponseCode)
	if codes != "0064" && codes != "6400" {
		t.Errorf("two refunds of the last 40 were answered %s", codes)
	}
	s.await("the money back", func() bool { return s.balance() == opening })

	// A refund is not reversed: nobody knows what became of it, so it is listed, and what it took stays taken.
	p, a = w.do("00", "purchase", 50, nil)
	of = w.names(p, a)
	s.must(s.bank.SetFaults(bank.Fault{Kind: bank.NoAnswer, MTI: "0220", Next: 1}))
	refund, _ := w.do("98", "refund", 50, of)
	if got := s.state(refund); got != "unresolved" {
		t.Errorf("state %q", got)
	}
	w.hangUp()
	s.restart()
	wantCode(t, w.ask(w.signed(refund)), "98")
	w.do("64", "refund", 1, of)
	listed := 0
	s.must(s.admin.QueryRow(t.Context(), `SELECT count(*) FROM reversals WHERE action = 'reconcile' AND state = 'stopped'`).Scan(&listed))
	if listed != 1 {
		t.Errorf("%d entries are listed for reconciliation", listed)
	}
	wantCode(t, w.ask(w.signed(w.undo(refund, nil))), "40")
	s.noneDeclined()
}

// TestPreAuthorisations: held, voided, completed up to 115 %, the completion voided, and each reversed.
func TestPreAuthorisations(t *testing.T) {
	t.Parallel()
	s, w := signedOn(t)
	opening := s.balance()
	want := func(fen int64) {
		t.Helper()
		s.await(fmt.Sprintf("%d gone", fen), func() bool { return opening-s.balance() == fen })
	}
	p, a := w.do("00", "preauth", 1000, nil)
	if a.Message.MTI() != "0110" || a.Message.Text(iso.AuthCode) == "" {
		t.Errorf("%v", a.Message)
	}
	of := w.names(p, a)
	w.do("64", "preauth void", 999, of)
	w.do("00", "preauth void", 1000, of)
	w.do("25", "completion", 1000, of)
	want(0)

	p, a = w.do("00", "preauth", 1000, nil)
	of = w.names(p, a)
	w.do("64", "completion", 1151, of)
	done, _ := w.do("00", "completion", 1150, of)
	want(1150)
	w.do("25", "completion", 1, of)
	w.do("25", "preauth void", 1000, of)
	wantCode(t, w.ask(w.signed(w.undo(done, nil))), "00")
	want(0)
	done, b := w.do("00", "completion", 1100, of)
	undone, _ := w.do("00", "completion void", 1100, w.names(done, b))
	want(0)
	w.do("25", "completion void", 1100, w.names(done, b))
	wantCode(t, w.ask(w.signed(w.undo(undone, nil))), "00")
	want(1100)
	w.do("00", "completion void", 1100, w.names(done, b))
	want(0)
	w.do("00", "completion", 900, of) // The pre-authorisation is in force again.
	want(900)

	// Another terminal of the merchant names card and authorisation code alone, and a completion is refunded.
	_, a = w.do("00", "preauth", 1000, nil)
	other := s.wire(t, 2)
	other.signOn("003")
	other.do("25", "completion", 1000, map[int]string{iso.AuthCode: "ZZZZZZ"})
	_, b = other.do("00", "completion", 1000, map[int]string{iso.AuthCode: a.Message.Text(iso.AuthCode)})
	want(1900)
	w.do("00", "refund", 1000, map[int]string{iso.Reference: b.Message.Text(iso.Reference)})
	want(900)

	// The 0400 of a pre-authorisation and of its void.
	p, a = w.do("00", "preauth", 1000, nil)
	void, _ := w.do("00", "preauth void", 1000, w.names(p, a))
	wantCode(t, w.ask(w.signed(w.undo(void, nil))), "00")
	s.await("the void taken back", func() bool { return s.state(void) == "reversed" })
	wantCode(t, w.ask(w.signed(w.undo(p, nil))), "00")
	s.await("the hold taken back", func() bool { return s.state(p) == "reversed" })
	w.do("25", "completion", 1000, w.names(p, a))
	want(900)
	s.noneDeclined()
}

// chip is chip data with a track in it, which an advice does not keep.
const chip = "\x9f\x26\x08\x01\x02\x03\x04\x05\x06\x07\x08" + "\x57\x03\x62\x22\x02" + "\x95\x05\x00\x00\x00\x00\x00"

// TestAdvices: each kind reaches the bank once and is answered; one that the bank does not answer is taken charge of, and told until it is heard,
// also by the next life of posp.
func TestAdvices(t *testing.T) {
	t.Parallel()
	s, w := signedOn(t)
	opening := s.balance()
	want := func(fen int64) {
		t.Helper()
		s.await(fmt.Sprintf("%d gone", fen), func() bool { return opening-s.balance() == fen })
	}
	w.do("00", "offline settlement", 100, map[int]string{iso.AuthCode: "123456"})
	w.do("00", "offline purchase", 10, map[int]string{iso.ChipData: chip, iso.Track2: "-", iso.PAN: card1, iso.EntryMode: "052"})
	w.do("30", "offline purchase", 10, nil)
	w.do("00", "offline refund", 5, nil)
	want(105)
	p, a := w.do("00", "purchase", 100, nil)
	w.do("00", "tip adjustment", 120, w.names(p, a))
	want(225)
	w.do("00", "adjustment", 110, w.names(p, a))
	want(215)
	p, a = w.do("00", "preauth", 100, nil)
	w.do("64", "completion advice", 116, w.names(p, a))
	w.do("25", "completion advice", 100, map[int]string{iso.AuthCode: "ZZZZZZ"})
	w.do("00", "completion advice", 115, w.names(p, a))
	want(330)

	for i, fault := range []bank.FaultKind{bank.NoAnswer, bank.LoseRequest} {
		p, a = w.do("00", "preauth", 100, nil)
		s.must(s.bank.SetFaults(bank.Fault{Kind: fault, MTI: "0220"}, bank.Fault{Kind: fault, MTI: "0221"}))
		advice, first := w.do("00", "completion advice", 100, w.names(p, a))
		if got := s.state(advice); got != "forwarding" {
			t.Errorf("state %q", got)
		}
		same(t, first, w.ask(w.signed(advice)))
		w.do("25", "completion", 100, w.names(p, a))
		w.hangUp()
		s.stopPOSP()
		s.must(s.bank.SetFaults())
		s.startPOSP()
		s.await("the advice", func() bool { return s.state(advice) == "approved" })
		want(int64(430 + 100*i))
		same(t, first, w.ask(w.signed(advice)))
	}

	// With nobody to tell, the terminal keeps its advice and sends the very same again.
	s.must(s.bank.SetFaults(bank.Fault{Kind: bank.Down}))
	var advice *unionpay.Packet
	kept := int64(0)
	s.await("the line down", func() bool {
		advice = w.trade("offline settlement", 100, map[int]string{iso.AuthCode: "123456"})
		answer := w.ask(w.signed(advice)).Message.Text(iso.ResponseCode)
		if answer == "00" {
			kept += 100 // sent while the line broke: taken charge of
		}
		return answer == "91"
	})
	s.must(s.bank.SetFaults())
	s.await("the advice taken", func() bool { return w.ask(w.signed(advice)).Message.Text(iso.ResponseCode) == "00" })
	want(630 + kept)
	wantCode(t, w.ask(w.signed(w.undo(advice, nil))), "40")
}

// TestAdjusted: a void and refunds follow what an adjustment made of the amount, one that the bank has not heard of yet included.
func TestAdjusted(t *testing.T) {
	t.Parallel()
	s, w := signedOn(t)
	opening := s.balance()
	p, a := w.do("00", "purchase", 200, nil)
	of := w.names(p, a)
	w.do("00", "tip adjustment", 220, of)
	w.do("64", "purchase void", 200, of)
	w.do("00", "purchase void", 220, of)
	p, a = w.do("00", "purchase", 200, nil)
	of = w.names(p, a)
	s.must(s.bank.SetFaults(bank.Fault{Kind: bank.NoAnswer, MTI: "0220", Next: 1}))
	w.do("00", "adjustment", 150, of)
	w.do("64", "refund", 151, of)
	w.do("00", "refund", 150, of)
	s.await("the money back", func() bool { return s.balance() == opening })
	s.noneDeclined()
}

// TestScriptResult: a notice names its original, is MACed, and moves nothing.
func TestScriptResult(t *testing.T) {
	t.Parallel()
	s, w := signedOn(t)
	p, a := w.do("00", "purchase", 100, nil)
	before := s.balance()
	notice := func(change map[int]string) *unionpay.Packet {
		fields := map[int]string{
			iso.ProcessingCode: "000000", iso.EntryMode: "052", iso.ConditionCode: "00", iso.PAN: card1, iso.Currency: "156",
			iso.ChipData: "\xdf\x31\x05\x00\x00\x00\x00\x00", iso.Private60: "00" + w.batch + "951",
		}
		maps.Copy(fields, w.names(p, a))
		maps.Copy(fields, change)
		return w.packet("0620", fields)
	}
	answer := w.ask(w.signed(notice(nil)))
	wantCode(t, answer, "00")
	if answer.Message.MTI() != "0630" {
		t.Error(answer.Message.MTI())
	}
	wantCode(t, w.ask(w.plain(notice(nil))), "A0")
	wantCode(t, w.ask(w.signed(notice(map[int]string{iso.ChipData: "-"}))), "30")
	wantCode(t, w.ask(w.signed(notice(map[int]string{iso.Reference: "ABCDEFGHIJKL", iso.OriginalMessage: "-"}))), "25")
	s.must(s.bank.SetFaults(bank.Fault{Kind: bank.NoAnswer, MTI: "0620", Next: 1}))
	lost := notice(nil)
	wantCode(t, w.ask(w.signed(lost)), "00")
	s.await("the notice", func() bool { return s.state(lost) == "approved" })
	if s.balance() != before {
		t.Error("a notice moved money")
	}
}

// TestOnDemand: what is built when a host asks for it is authentic or refused, and refused with a MAC.
func TestOnDemand(t *testing.T) {
	t.Parallel()
	_, w := signedOn(t)
	for _, name := range []string{"load designated", "load cash", "load other", "load void", "reservation", "reservation void", "points balance"} {
		p := w.trade(name, 100, nil)
		answer := w.ask(w.signed(p))
		wantCode(t, answer, "40")
		if !answer.Message.Has(iso.MAC) {
			t.Errorf("%s: the refusal has no MAC", name)
		}
		wantCode(t, w.ask(w.plain(p)), "A0")
	}
}

// TestUnknownReversalIsForwarded: the bank hears of a reversal that nobody here knows the original of, for each kind that is reversed.
func TestUnknownReversalIsForwarded(t *testing.T) {
	t.Parallel()
	s, w := signedOn(t)
	for i, name := range []string{"purchase", "purchase void", "preauth", "preauth void", "completion", "completion void"} {
		p := w.trade(name, 100, nil)
		wantCode(t, w.ask(w.signed(w.undo(p, nil))), "00")
		s.await(name+" told", func() bool { return s.bank.Book().Totals.Tombstones == i+1 })
		s.await(name+" done", func() bool { return s.state(p) == "reversed" })
		wantCode(t, w.ask(w.signed(p)), "25")
	}
	// Without a card nobody can be told, and the tombstone stands all the same.
	p := w.trade("purchase", 100, nil)
	wantCode(t, w.ask(w.signed(w.undo(p, map[int]string{iso.Track2: "-", iso.SecurityControl: "-"}))), "00")
	wantCode(t, w.ask(w.signed(p)), "25")
	if got := s.bank.Book().Totals.Tombstones; got != 6 {
		t.Errorf("%d reversals reached the bank", got)
	}
	// The bank is away: owed until it is back.
	s.must(s.bank.SetFaults(bank.Fault{Kind: bank.LoseRequest, MTI: "0400"}, bank.Fault{Kind: bank.LoseRequest, MTI: "0401"}))
	p = w.trade("purchase", 100, nil)
	wantCode(t, w.ask(w.signed(w.undo(p, nil))), "00")
	w.hangUp()
	s.stopPOSP()
	s.must(s.bank.SetFaults())
	s.startPOSP()
	s.await("the reversal told", func() bool { return s.state(p) == "reversed" })
	wantCode(t, w.ask(w.signed(p)), "25")
}

// TestOriginalsNeedTheDatabase: while it is away nobody can say what is left of an original, so the answer is 96, and purchases go on.
func TestOriginalsNeedTheDatabase(t *testing.T) {
	t.Parallel()
	s, w := signedOn(t)
	p, a := w.do("00", "purchase", 100, nil)
	_, err := s.admin.Exec(t.Context(), `ALTER TABLE transaction_uses RENAME TO gone`)
	s.must(err)
	w.do("96", "refund", 100, w.names(p, a))
	_, err = s.admin.Exec(t.Context(), `ALTER TABLE gone RENAME TO transaction_uses`)
	s.must(err)
	w.do("00", "refund", 100, w.names(p, a))
}

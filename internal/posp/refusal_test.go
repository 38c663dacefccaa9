package posp_test

import (
	"fmt"
	"testing"

	"github.com/keyward/keyward/iso"
	"github.com/keyward/keyward/iso/unionpay"
	"github.com/keyward/keyward/sim/bank"
	"github.com/keyward/keyward/sim/hsm"
)

const (
	card2 = "6222020000000000026"
	card3 = "6222020000000000034"
)

// signedOn is a system and a bare terminal that is signed on.
func signedOn(t *testing.T) (*system, *wire) {
	t.Helper()
	s := newSystem(t, nil)
	w := s.wire(t, 1)
	w.signOn("003")
	return s, w
}

// keyed turns a sale by track into one by card number.
func keyed(pan string) map[int]string {
	return map[int]string{iso.Track2: "-", iso.PAN: pan, iso.Expiry: "3012", iso.EntryMode: "012"}
}

// TestRefusals: every refusal has its code, leaves the connection usable, and moves no money.
func TestRefusals(t *testing.T) {
	t.Parallel()
	s, w := signedOn(t)
	with := func(base map[int]string, field int, value string) map[int]string {
		c := map[int]string{}
		for k, v := range base {
			c[k] = v
		}
		c[field] = value
		return c
	}
	pin := func(pan, block string) map[int]string {
		c := keyed(pan)
		c[iso.PINCaptureCode], c[iso.PINBlock], c[iso.SecurityControl], c[iso.EntryMode] = "06", block, "2600000000000000", "011"
		return c
	}
	before := s.balance()
	for name, test := range map[string]struct {
		change map[int]string
		fen    int
		code   string
		wire   func(*unionpay.Packet) []byte
	}{
		"unknown terminal":             {map[int]string{iso.Terminal: "99999999"}, 1, "97", nil},
		"terminal of odd characters":   {map[int]string{iso.Terminal: "'; --  "[:7] + "x"}, 1, "97", nil},
		"other merchant":               {map[int]string{iso.Merchant: "999999999999999"}, 1, "03", nil},
		"other batch":                  {map[int]string{iso.Private60: "22999999000"}, 1, "77", nil},
		"not in the table":             {map[int]string{iso.ProcessingCode: "990000"}, 1, "40", nil},
		"known but not served":         {map[int]string{iso.Private60: "54" + w.batch + "000"}, 1, "40", nil},
		"no MAC":                       {nil, 1, "A0", w.plain},
		"MAC of zeros":                 {map[int]string{iso.MAC: "00000000"}, 1, "A0", w.plain},
		"MAC that is no hex":           {map[int]string{iso.MAC: "GGGGGGGG"}, 1, "A0", w.plain},
		"MAC of bytes":                 {map[int]string{iso.MAC: "\x00\xff\x01\x02\x03\x04\x05\x06"}, 1, "A0", w.plain},
		"amount zero":                  {nil, 0, "13", nil},
		"other currency":               {map[int]string{iso.Currency: "840"}, 1, "30", nil},
		"no card":                      {map[int]string{iso.Track2: "-"}, 1, "30", nil},
		"two cards":                    {map[int]string{iso.PAN: card2}, 1, "30", nil},
		"track without separator":      {map[int]string{iso.Track2: "6222020000000000018"}, 1, "30", nil},
		"track of hex":                 {map[int]string{iso.Track2: card1 + "=3012ABCE"}, 1, "30", nil},
		"track 3 of hex":               {with(keyed(card1), iso.Track3, "6222020000ABCE"), 1, "30", nil},
		"track begins with separator":  {map[int]string{iso.Track2: "=" + card1}, 1, "30", nil},
		"empty track":                  {map[int]string{iso.Track2: ""}, 1, "30", nil},
		"short card number":            {keyed("1234567"), 1, "30", nil},
		"card number of no digits":     {keyed(""), 1, "30", nil},
		"unknown card":                 {keyed("6222020000000009999"), 1, "14", nil},
		"8 digits, unknown card":       {keyed("62220200"), 1, "14", nil},
		"not enough money":             {keyed(card2), 100_000_001, "51", nil},
		"field 53 odd":                 {map[int]string{iso.SecurityControl: "0090000000000000"}, 1, "30", nil},
		"enciphered without track key": {map[int]string{iso.SecurityControl: "0610000000000000"}, 1, "77", nil},
		"PIN block without field 53":   {with(pin(card1, w.pinBlock(card1, pin1)), iso.SecurityControl, "-"), 1, "30", nil},
		"PIN announced, none there":    {with(keyed(card1), iso.SecurityControl, "2600000000000000"), 1, "30", nil},
		"PIN format without PAN":       {with(pin(card1, w.pinBlock(card1, pin1)), iso.SecurityControl, "1600000000000000"), 1, "30", nil},
		"wrong PIN":                    {pin(card2, w.pinBlock(card2, "000000")), 1, "55", nil},
		"PIN block unreadable":         {pin(card1, "\x00\x00\x00\x00\x00\x00\x00\x00"), 1, "99", nil},
		"PIN block of another card":    {pin(card1, w.pinBlock("6222029999999999993", pin1)), 1, "99", nil},
		"field 60 too short":           {map[int]string{iso.Private60: "22"}, 1, "30", nil},
		"no trace":                     {map[int]string{iso.Trace: "-"}, 1, "30", nil},
		"no field 60":                  {map[int]string{iso.Private60: "-"}, 1, "30", nil},
		"no terminal":                  {map[int]string{iso.Terminal: "-"}, 1, "30", nil},
		"no amount":                    {map[int]string{iso.Amount: "-"}, 1, "30", nil},
		"no entry mode":                {map[int]string{iso.EntryMode: "-"}, 1, "30", nil},
	} {
		t.Run(name, func(t *testing.T) {
			w.t = t
			p := w.sale(test.fen, test.change)
			encode := test.wire
			if encode == nil {
				encode = w.signed
			}
			answer := w.ask(encode(p))
			wantCode(t, answer, test.code)
			for _, field := range []int{iso.Trace, iso.Terminal, iso.Merchant} {
				if got := answer.Message.Text(field); got != p.Message.Text(field) {
					t.Errorf("field %d is %q, want %q", field, got, p.Message.Text(field))
				}
			}
			if test.code == "A0" && answer.Message.Has(iso.MAC) {
				t.Error("a refusal for a wrong MAC must not be MACed: it would be an oracle")
			}
			if answer.Message.Has(iso.AuthCode) {
				t.Error("a refusal with an authorisation code")
			}
		})
	}
	w.t = t
	if s.balance() != before {
		t.Errorf("refusals moved %d", before-s.balance())
	}
	wantCode(t, w.ask(w.signed(w.sale(7, nil))), "00")
}

// TestTooManyWrongPINs: ten wrong PINs end in 75, through the bank.
func TestTooManyWrongPINs(t *testing.T) {
	t.Parallel()
	_, w := signedOn(t)
	for i := range 11 {
		c := keyed(card3)
		c[iso.PAN] = card2
		c[iso.PINCaptureCode], c[iso.PINBlock], c[iso.SecurityControl], c[iso.EntryMode] = "06", w.pinBlock(card2, fmt.Sprintf("%06d", i)), "2600000000000000", "011"
		code := "55"
		if i == 10 {
			code = "75"
		}
		if got := w.ask(w.signed(w.sale(1, c))); got.Message.Text(iso.ResponseCode) != code {
			t.Fatalf("try %d: %v", i+1, got.Message)
		}
	}
}

// TestNotSignedOn: a terminal without keys is told so, without MAC, and can sign on at once.
func TestNotSignedOn(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	w := s.wire(t, 2)
	w.keys.mak = make([]byte, 8)
	p := w.sale(1, nil)
	wantCode(t, w.ask(w.signed(p)), "77")
	wantCode(t, w.ask(w.signed(w.undo(p, nil))), "77")
	w.signOn("003")
	wantCode(t, w.ask(w.signed(w.sale(1, nil))), "00")
}

// TestOversizedAmount: the limit of the configuration counts.
func TestOversizedAmount(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	s.stopPOSP()
	s.cfg.Flow.MaxAmount = 1000
	s.startPOSP()
	w := s.wire(t, 1)
	w.signOn("003")
	wantCode(t, w.ask(w.signed(w.sale(1001, nil))), "13")
	wantCode(t, w.ask(w.signed(w.sale(1000, nil))), "00")
}

// TestHSMAway: sign-on and purchase are refused with 96 and nothing reaches the bank; both work again when it is back.
func TestHSMAway(t *testing.T) {
	t.Parallel()
	s, w := signedOn(t)
	wantCode(t, w.ask(w.signed(w.sale(1, nil))), "00")
	seen := s.bank.Book().Totals
	s.must(s.hsm.SetFaults(hsm.Faults{BlackHole: true}))
	wantCode(t, w.ask(w.signed(w.sale(1, nil))), "96")
	wantCode(t, w.ask(w.plain(w.signOnPacket("003"))), "96")
	if got := s.bank.Book().Totals; got != seen {
		t.Errorf("the bank booked %+v, want %+v", got, seen)
	}
	s.must(s.hsm.SetFaults(hsm.Faults{}))
	s.await("the HSM", func() bool { return w.ask(w.signed(w.sale(1, nil))).Message.Text(iso.ResponseCode) == "00" })
}

// TestHSMCannotMACTheAnswer: a refusal goes out without MAC, as 96; an approval is taken back.
func TestHSMCannotMACTheAnswer(t *testing.T) {
	t.Parallel()
	s, w := signedOn(t)
	wantCode(t, w.ask(w.signed(w.sale(1, nil))), "00")
	before := s.balance()
	s.must(s.bank.SetFaults(bank.Fault{Kind: bank.Hold, MTI: "0200"}))
	for _, p := range []*unionpay.Packet{w.sale(100_000_001_00, nil), w.sale(500, nil)} {
		w.send(w.signed(p))
		s.must(s.bank.WaitHeld(t.Context(), "0200"))
		s.must(s.hsm.SetFaults(hsm.Faults{ErrorCodes: map[string]string{"M6": "10"}}))
		s.bank.Release()
		if p.Message.Text(iso.Amount) != "000000000500" {
			wantCode(t, w.answer(), "96")
		} else {
			s.await("the approval to be taken back", func() bool { return s.state(p) == "reversing" })
		}
		s.must(s.hsm.SetFaults(hsm.Faults{}))
	}
	s.await("the reversal", func() bool { return s.balance() == before })

	// A reversal and a balance inquiry are told 96 at once, and may be sent again.
	w.hangUp()
	p := w.sale(5, nil)
	s.must(s.bank.SetFaults())
	wantCode(t, w.ask(w.signed(p)), "00")
	for _, again := range []*unionpay.Packet{
		w.undo(p, nil), w.sale(0, map[int]string{iso.ProcessingCode: "310000", iso.Amount: "-", iso.Private60: "01" + w.batch + "000"}),
	} {
		s.must(s.bank.SetFaults(bank.Fault{Kind: bank.Hold}))
		w.send(w.signed(again))
		s.must(s.bank.WaitHeld(t.Context(), ""))
		s.must(s.hsm.SetFaults(hsm.Faults{ErrorCodes: map[string]string{"M6": "10"}}))
		s.must(s.bank.SetFaults())
		s.bank.Release()
		wantCode(t, w.answer(), "96")
		s.must(s.hsm.SetFaults(hsm.Faults{}))
		wantCode(t, w.ask(w.signed(again)), "00")
	}
	s.await("the reversal", func() bool { return s.balance() == before })
}

// state is the last state of a transaction in the journal.
func (s *system) state(p *unionpay.Packet) string {
	s.t.Helper()
	var state string
	s.must(s.admin.QueryRow(s.t.Context(), `SELECT coalesce((SELECT state FROM transactions WHERE terminal_id = $1 AND trace = $2 AND mti = $3
		ORDER BY business_date DESC, txn_id DESC, seq DESC LIMIT 1), '')`, p.Message.Text(iso.Terminal), p.Message.Text(iso.Trace), p.Message.MTI()).Scan(&state))
	return state
}

// TestHostDown: 91, at once, and nothing is owed.
func TestHostDown(t *testing.T) {
	t.Parallel()
	s, w := signedOn(t)
	s.must(s.bank.SetFaults(bank.Fault{Kind: bank.Down}))
	p := w.sale(1, nil)
	s.await("91", func() bool {
		p = w.sale(1, nil)
		return w.ask(w.signed(p)).Message.Text(iso.ResponseCode) == "91"
	})
	s.await("the journal", func() bool { return s.state(p) == "failed" })
	wantCode(t, w.ask(w.signed(p)), "91")
	s.must(s.bank.SetFaults())
	s.await("the bank", func() bool { return w.ask(w.signed(w.sale(1, nil))).Message.Text(iso.ResponseCode) == "00" })
}

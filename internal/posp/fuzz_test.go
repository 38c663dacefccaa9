package posp_test

import (
	"testing"

	"github.com/keyward/keyward/internal/posp"
	"github.com/keyward/keyward/internal/vectors"
	"github.com/keyward/keyward/iso"
	"github.com/keyward/keyward/iso/unionpay"
)

// FuzzDecide throws frames at the whole listener-side decision of a posp with a signed-on terminal, as somebody without its keys can: no
// panic, an answer that can be read or a closed connection, and never an approval of anything that moves or tells money.
func FuzzDecide(f *testing.F) {
	s := newSystem(f, func(c *posp.Config) { c.Flow.SignOnsPerMinute = 1_000_000_000 })
	w := s.wire(f, 1)
	w.signOn("004")
	wantCode(f, w.ask(w.signed(w.sale(1, nil))), "00")
	sale := w.sale(1, nil)
	seeds := [][]byte{
		w.plain(sale), w.plain(w.undo(sale, nil)), w.plain(w.signOnPacket("004")),
		w.plain(w.packet("0820", map[int]string{iso.Private60: "00" + w.batch + "301"})),
		w.plain(w.packet("0820", map[int]string{iso.Private60: "00" + w.batch + "002"})),
		w.plain(w.packet("0500", map[int]string{iso.Private60: "00" + w.batch + "201"})),
		w.plain(w.sale(1, map[int]string{iso.MAC: "12345678", iso.SecurityControl: "2610000000000000", iso.PINBlock: "12345678"})),
		w.plain(w.undo(sale, map[int]string{iso.MAC: "12345678"})), {}, unhex("6000030000"), unhex("6000030000603100310100"),
	}
	for _, v := range vectors.Load(f, "iso8583.json").Group(f, "unionpay_bad") {
		if text, ok := v.In["message"].(string); ok {
			seeds = append(seeds, unhex(text))
		}
	}
	for _, seed := range seeds {
		f.Add(seed, uint16(0), byte(0))
		f.Add(seed, uint16(17), byte(0xFF))
		f.Add(seed, uint16(len(seed)-1), byte(0x01))
	}
	before := s.bank.Book().Totals
	f.Fuzz(func(t *testing.T, frame []byte, at uint16, flip byte) {
		if len(frame) > unionpay.MaxFrame {
			return
		}
		if w.t = t; s.app.SignedOn(t) == 0 {
			w.signOn("004") // a sign-off of the fuzzer's was good
		}
		if len(frame) > 0 {
			frame = append([]byte(nil), frame...)
			frame[int(at)%len(frame)] ^= flip
		}
		raw, closes := s.app.Decide(t.Context(), frame)
		if closes != (raw == nil) {
			t.Fatalf("closes %v, answer of %d bytes", closes, len(raw))
		}
		if raw == nil {
			return
		}
		answer, err := unionpay.Parse(raw)
		if err != nil {
			t.Fatalf("answer cannot be read: %v", err)
		}
		switch mti := answer.Message.MTI(); mti {
		case "0810", "0830":
		default:
			if code := answer.Message.Text(iso.ResponseCode); code == "00" || len(code) != 2 || answer.Message.Has(iso.AuthCode) {
				t.Fatalf("%s with code %q", mti, code)
			}
		}
		if s.bank.Book().Totals != before {
			t.Fatal("money moved")
		}
		if n := s.app.OpenHandovers(t); n != 0 {
			t.Fatalf("%d transactions left open", n)
		}
	})
}

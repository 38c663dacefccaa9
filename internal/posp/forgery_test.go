package posp_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keyward/keyward/internal/posp"
	"github.com/keyward/keyward/internal/service"
	"github.com/keyward/keyward/iso"
	"github.com/keyward/keyward/iso/unionpay"
	"github.com/keyward/keyward/sim/pos"
)

// retailOf is field 64 of X9.19 over a MAB: single DES in the chain, triple DES at its end (facts/unionpay.md §4).
func retailOf(key, mab []byte) []byte {
	left, right := desCipher(key[:8]), desCipher(key[8:])
	x := make([]byte, 8)
	for at := 0; at < len(mab); at += 8 {
		for i, b := range mab[at:min(at+8, len(mab))] {
			x[i] ^= b
		}
		left.Encrypt(x, x)
	}
	right.Decrypt(x, x)
	left.Encrypt(x, x)
	return x
}

// forge raises the amount of a purchase by one digit and flips the same bits a multiple of eight bytes away, in digits of the track that
// nobody looks at. It gives the altered frame and the new amount in fen.
func forge(t *testing.T, frame []byte) ([]byte, int64) {
	t.Helper()
	const flip = 0x08 // 0 becomes 8, and 8 becomes 0
	amountAt := strings.Index(string(frame), string(unhex("000000000100")))
	trackEnds := strings.Index(string(frame), "1000000") // field 41 follows the track
	if amountAt < 0 || trackEnds < 0 {
		t.Fatal("the frame has another form than this test expects")
	}
	for digit := 4; digit >= 0; digit-- {
		for at := trackEnds - 1; at > trackEnds-6; at-- {
			if (at-amountAt-digit)%8 != 0 || frame[at]&0x0F != 0 || frame[amountAt+digit]&0x0F != 0 {
				continue
			}
			forged := append([]byte(nil), frame...)
			forged[amountAt+digit] ^= flip
			forged[at] ^= flip
			p, err := unionpay.Parse(forged)
			if err != nil {
				t.Fatal(err)
			}
			fen, err := iso.ParseAmount(p.Message.Text(iso.Amount))
			if err != nil || fen <= 100 {
				t.Fatalf("amount %d: %v", fen, err)
			}
			return forged, fen
		}
	}
	t.Fatal("no two bytes fit")
	return nil, 0
}

// TestUnionPayMACIsForgeable shows what docs/security.md says of the UnionPay MAC: whoever can alter the line changes an amount without any
// key, and the MAC of the terminal still fits. The same alteration under X9.19 is refused.
func TestUnionPayMACIsForgeable(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	s.enrolAs(4, "tdes", 16, "unionpay-x919")
	s.await("the new terminal", func() bool { return s.status().Terminals == 4 })
	// The last ten digits of the track are at the issuer's discretion.
	track := map[int]string{iso.Track2: card1 + "=3012220" + strings.Repeat("0", 10), iso.Expiry: "-"}

	w := s.wire(t, 1)
	w.signOn("003")
	before := s.balance()
	forged, fen := forge(t, w.signed(w.sale(100, track)))
	wantCode(t, w.ask(forged), "00")
	if got := before - s.balance(); got != fen || fen == 100 {
		t.Errorf("the bank booked %d, the terminal had signed 100, and %d was forged", got, fen)
	}

	w = s.wire(t, 4)
	w.sign = retailOf
	w.signOn("003")
	before = s.balance()
	frame := w.signed(w.sale(100, track))
	forged, _ = forge(t, frame)
	answer := w.ask(forged)
	wantCode(t, answer, "A0")
	if s.balance() != before {
		t.Error("a forged amount was booked")
	}
	wantCode(t, w.ask(frame), "00")
}

// TestForgeableMACInProduction: in production a terminal with the UnionPay MAC is served where two people declared the line private, and
// nowhere else without TLS; a terminal with another MAC is served on the same line.
func TestForgeableMACInProduction(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	s.enrolAs(4, "tdes", 16, "unionpay-x919")
	s.enrolAs(5, "sm4", 16, "unionpay")
	s.enrolAs(6, "sm4", 16, "unionpay-sm4-cbc")
	s.await("the new terminals", func() bool { return s.status().Terminals == 6 })
	terminals := map[int]*pos.Terminal{
		1: s.terminal(1, nil), 5: s.terminal(5, func(c *pos.Config) { c.Scheme = "006" }),
		4: s.terminal(4, func(c *pos.Config) { c.Model = pos.Model{MAC: "x9.19", MACBinary: true} }),
		6: s.terminal(6, func(c *pos.Config) { c.Scheme, c.Model = "006", pos.Model{MAC: "cbc"} }),
	}
	declare := func(names ...string) {
		s.stopPOSP()
		s.cfg.Profile = service.Production
		s.cfg.Terminals[0].PrivateBy = names
		s.startPOSP()
	}
	trade := func(n int, code string) {
		t.Helper()
		want(t, terminals[n].Balance(t.Context(), pos.Sale{PAN: card1, PIN: pin1}), code)
	}
	declare("li.na", "wang.wei")
	for n, term := range terminals {
		want(t, term.SignOn(t.Context()), "00")
		trade(n, "00")
	}
	for _, names := range [][]string{nil, {"li.na"}, {"li.na", " Li.Na "}} {
		declare(names...)
		for n, code := range map[int]string{1: "58", 5: "58", 4: "00", 6: "00"} {
			trade(n, code) // with keys from before
			want(t, terminals[n].SignOn(t.Context()), code)
		}
	}
}

// TestForgeableMACOverTLS: over TLS the UnionPay MAC is good enough in production, and on the plain line beside it it is not.
func TestForgeableMACOverTLS(t *testing.T) {
	t.Parallel()
	s, a := secure(t)
	a.Issue("10000001", time.Hour)
	s.stopPOSP()
	s.cfg.Profile = service.Production
	s.startPOSP()
	term, tlsCtx := s.overTLS(1, a.CA, a.Dir), pos.OverTLS(t.Context())
	want(t, term.SignOn(tlsCtx), "00")
	sale := pos.Sale{AmountFen: 100, PAN: card1, PIN: pin1}
	want(t, term.Purchase(tlsCtx, sale), "00")
	want(t, term.Purchase(t.Context(), sale), "58")
}

// TestPrivateBy: names that declare nothing are a contradiction.
func TestPrivateBy(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		private bool
		names   []string
		fits    bool
	}{
		{true, nil, true}, {true, []string{"a", "b"}, true}, {true, []string{"a", "b", "c"}, true},
		{false, []string{"a", "b"}, false}, {true, []string{"a"}, false}, {true, []string{"a", "A "}, false}, {true, []string{"", " "}, false},
	} {
		c := posp.DefaultConfig()
		c.Terminals = []posp.TerminalListener{{Addr: "127.0.0.1:0", Private: test.private, PrivateBy: test.names}}
		err := c.Validate()
		if got := strings.Contains(fmt.Sprint(err), "private_by"); got == test.fits {
			t.Errorf("%+v: %v", test, err)
		}
	}
}

package bank

import (
	"fmt"
	"strings"
	"testing"
)

func TestResponseCodes(t *testing.T) {
	t.Parallel()
	p := purchase(1)
	inquiry := p.with(3, "310000", 4, nil)
	for name, tc := range map[string]struct {
		mti  string
		in   fields
		want string
	}{
		"purchase without PIN":            {"0200", p, "00"},
		"purchase with PIN":               {"0200", p.withPIN(t, "123456"), "00"},
		"purchase with track":             {"0200", p.with(35, card1+"=30121010000"), "00"},
		"purchase with chip data":         {"0200", p.with(55, "9F2608AABBCCDDEEFF0011", 23, "001"), "00"},
		"card without PIN":                {"0200", p.with(2, card3), "00"},
		"balance":                         {"0200", inquiry, "00"},
		"balance with PIN":                {"0200", inquiry.withPIN(t, "123456"), "00"},
		"balance with wrong PIN":          {"0200", inquiry.withPIN(t, "123450"), "55"},
		"all the money":                   {"0200", p.with(4, fmt.Sprintf("%012d", opening)), "00"},
		"one fen too much":                {"0200", p.with(4, fmt.Sprintf("%012d", opening+1)), "51"},
		"unknown card":                    {"0200", p.with(2, "6222020000000000042"), "14"},
		"wrong PIN":                       {"0200", p.withPIN(t, "123457"), "55"},
		"shorter PIN":                     {"0200", p.withPIN(t, "12345"), "55"},
		"PIN for a card without one":      {"0200", p.with(2, card3).withPIN(t, "123456"), "55"},
		"PIN block of another card":       {"0200", p.withPIN(t, "123456").with(52, pinBlock(t, "123456", "6222029999999999018")), "96"},
		"PIN block under another key":     {"0200", p.withPIN(t, "123456").with(52, "0011223344556677"), "96"},
		"PIN block without 53":            {"0200", p.withPIN(t, "123456").with(53, nil), "30"},
		"PIN block without 26":            {"0200", p.withPIN(t, "123456").with(26, nil), "30"},
		"PIN block of another form":       {"0200", p.withPIN(t, "123456").with(53, "1600000000000000"), "30"},
		"track of another card":           {"0200", p.with(35, card2+"=30121010000"), "30"},
		"track of a longer card number":   {"0200", p.with(2, card1[:18], 35, card1+"=3012"), "30"},
		"amount zero":                     {"0200", p.with(4, "000000000000"), "30"},
		"other currency":                  {"0200", p.with(49, "840"), "30"},
		"no card number":                  {"0200", p.with(2, nil), "30"},
		"no amount":                       {"0200", p.with(4, nil), "30"},
		"no terminal":                     {"0200", p.with(41, nil), "30"},
		"no RRN":                          {"0200", p.with(37, nil), "30"},
		"undefined field":                 {"0200", p.with(5, "1"), "30"},
		"void without a type":             {"0200", p.with(3, "200000"), "12"},
		"purchase of another type":        {"0200", p.with(60, "45"), "12"},
		"purchase with half a type":       {"0200", p.with(60, "2"), "12"},
		"purchase in another condition":   {"0200", p.with(25, "06"), "12"},
		"pre-authorization as a purchase": {"0200", p.with(3, "030000", 25, "06", 60, "10"), "12"},
		"void without an original":        {"0200", p.with(3, "200000", 60, "23"), "30"},
		"void with half an original":      {"0200", p.with(3, "200000", 60, "23", 61, p[37]), "30"},
		"notice without chip data":        {"0620", p.with(61, p[37], 90, strings.Repeat("0", 42)), "30"},
		"purchase as 0201":                {"0201", p, "12"},
		"other version":                   {"1200", p, "12"},
		"echo":                            {"0800", network("301"), "00"},
		"sign-on again":                   {"0800", network("001"), "00"},
		"unknown network code":            {"0800", network("161"), "12"},
		"network message without 70":      {"0800", network("301").with(70, nil), "30"},
		"reversal without field 90":       {"0400", reversal(p).with(90, nil), "30"},
		"reversal of another trace":       {"0400", reversal(p).with(11, "000002"), "30"},
		"reversal of another acquirer":    {"0400", reversal(p).with(32, "10410001"), "30"},
		"reversal of what never happened": {"0400", reversal(p), "25"},
		"the same as a repeat":            {"0401", reversal(p), "25"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBank(t)
			c := signedOn(t, b)
			got := c.exchange(tc.mti, tc.in)
			want := tc.mti[:2] + string(tc.mti[2]+1) + "0"
			got.want(t, want, tc.want)
			booked := int64(0)
			if name == "all the money" {
				booked = opening
			} else if tc.want == "00" && tc.in[3] == "000000" {
				booked = 100
			}
			if left := b.Book().Totals.BookedAmount; left != booked {
				t.Errorf("booked %d, want %d", left, booked)
			}
			checkBooks(t, b)
			h := b.History(1)[0]
			if h.ResponseCode != tc.want || h.Booked != (booked > 0) || h.MTI != tc.mti {
				t.Errorf("history says %+v", h)
			}
			if (tc.want == "30" || tc.want == "96") && h.Note == "" {
				t.Error("the history does not say why")
			}
		})
	}
}

func TestAnswerOfPurchase(t *testing.T) {
	t.Parallel()
	b := newBank(t)
	c := signedOn(t, b)
	p := purchase(7).withPIN(t, "123456").with(35, card1+"=3012", 48, "x", 60, "22y")
	got := c.exchange("0200", p)
	got.want(t, "0210", "00")
	want := fields{15: "0309", 38: "000001", 39: "00"}
	for _, field := range []int{2, 3, 4, 7, 11, 12, 13, 32, 37, 41, 42, 49} {
		want[field] = p[field]
	}
	delete(got.fields, 128)
	if fmt.Sprint(got.fields) != fmt.Sprint(want) {
		t.Errorf("answer %v\nwant   %v", got.fields, want)
	}
	if left := balanceOf(t, b, card1); left != opening-100 {
		t.Errorf("balance %d", left)
	}
	k := b.Book().Bookings[0]
	if k.Terminal != "10000001" || k.Trace != "000007" || k.RRN != p[37] || k.State != stateBooked || k.Amount != 100 || k.PAN != "622202*********0018" {
		t.Errorf("booking %+v", k)
	}
}

func TestAnswerOfBalance(t *testing.T) {
	t.Parallel()
	b := newBank(t)
	c := signedOn(t, b)
	c.exchange("0200", purchase(1)).want(t, "0210", "00")
	got := c.exchange("0200", purchase(2).with(3, "310000", 4, nil))
	got.want(t, "0210", "00")
	if got.fields[54] != "0002156C000099999900" || got.fields[38] != "" || got.fields[4] != "" {
		t.Errorf("answer %v", got.fields)
	}
	// The repeat is the stored answer, although the balance has changed since.
	c.exchange("0200", purchase(3)).want(t, "0210", "00")
	if again := c.exchange("0200", purchase(2).with(3, "310000", 4, nil)); again.fields[54] != got.fields[54] {
		t.Errorf("repeat says %s", again.fields[54])
	}
}

func TestIssuerField(t *testing.T) {
	t.Parallel()
	c := signedOn(t, newBank(t, func(cfg *Config) { cfg.IssuerCode = "62220000" }))
	if got := c.exchange("0200", purchase(1)); got.fields[44] != "62220000   10410000   " {
		t.Errorf("field 44 is %q", got.fields[44])
	}
	if got := c.exchange("0800", network("301")); got.fields[44] != "" {
		t.Error("an 0810 has field 44")
	}
}

func TestRefusalEchoesWhatWasDecoded(t *testing.T) {
	t.Parallel()
	c := signedOn(t, newBank(t))
	p := purchase(1)
	got := c.exchange("0200", p.with(41, "1000\x010001"))
	got.want(t, "0210", "30")
	for field, want := range map[int]string{2: "", 7: p[7], 11: p[11], 32: p[32], 37: p[37], 41: "", 42: "", 15: "0309"} {
		if got.fields[field] != want {
			t.Errorf("field %d is %q, want %q", field, got.fields[field], want)
		}
	}
	c.write(frame([]byte("0200")))
	c.read().want(t, "0210", "30")
	c.exchange("0200", p).want(t, "0210", "00") // The connection is still good.
}

func TestMACRefusals(t *testing.T) {
	t.Parallel()
	b := newBank(t)
	c := signedOn(t, b)
	wrong := pack(t, "0200", purchase(1))
	if last := &wrong[len(wrong)-1]; *last == '0' {
		*last = '1'
	} else {
		*last = '0'
	}
	c.write(frame(wrong))
	c.read().want(t, "0210", "96")
	changed := pack(t, "0200", purchase(1))
	copy(changed[strings.Index(string(changed), "000000000100"):], "000000000900")
	c.write(frame(changed))
	c.read().want(t, "0210", "96")
	if n := len(b.Book().Bookings); n != 0 {
		t.Errorf("%d records of messages that nobody vouched for", n)
	}

	// A sign-on without a right MAC signs nobody on, also with field 128 left out.
	other := dial(t, b)
	other.write(frame(rawMessage("0800", network("001"))))
	other.read().want(t, "0810", "96")
	other.exchange("0200", purchase(2)).want(t, "0210", "12")
}

func TestSignOnIsPerConnection(t *testing.T) {
	t.Parallel()
	b := newBank(t)
	c, other := signedOn(t, b), dial(t, b)
	for mti, f := range map[string]fields{"0200": purchase(1), "0400": reversal(purchase(1))} {
		other.exchange(mti, f).want(t, mti[:2]+"10", "12")
	}
	other.exchange("0800", network("301")).want(t, "0810", "00")
	c.exchange("0200", purchase(1)).want(t, "0210", "00")
	c.exchange("0800", network("002")).want(t, "0810", "00")
	c.exchange("0200", purchase(2)).want(t, "0210", "12")
	if n := len(b.Book().Bookings); n != 1 {
		t.Errorf("%d bookings", n)
	}
}

func TestPINTries(t *testing.T) {
	t.Parallel()
	b := newBank(t)
	c := signedOn(t, b)
	trace := 0
	try := func(pin, want string) {
		t.Helper()
		trace++
		c.exchange("0200", purchase(trace).withPIN(t, pin)).want(t, "0210", want)
	}
	for range maxWrongPINs - 1 {
		try("999999", "55")
	}
	try("123456", "00") // The count is cleared: again ten.
	for range maxWrongPINs {
		try("999999", "55")
	}
	try("999999", "75")
	try("123456", "75")
	// The repeat of a wrong one is no new try, and a purchase without PIN does not ask.
	c.exchange("0200", purchase(1).withPIN(t, "999999")).want(t, "0210", "55")
	c.exchange("0200", purchase(trace+1)).want(t, "0210", "00")
	// Another card is not touched.
	c.exchange("0200", purchase(trace+2).with(2, card2).withPIN(t, "654321")).want(t, "0210", "00")
	b.Reset()
	try("123456", "00")
	checkBooks(t, b)
}

func TestPINNotCounted(t *testing.T) {
	t.Parallel()
	b := newBank(t)
	c := signedOn(t, b)
	for i := range 2 * maxWrongPINs {
		c.exchange("0200", purchase(i).withPIN(t, "123456").with(52, "0011223344556677")).want(t, "0210", "96")
		c.exchange("0200", purchase(1000+i).with(2, card3).withPIN(t, "123456")).want(t, "0210", "55")
	}
	for _, a := range b.Book().Balances {
		if a.WrongPINs != 0 {
			t.Errorf("%s: %d wrong PINs counted", a.PAN, a.WrongPINs)
		}
	}
}

func TestNotARequestIsIgnored(t *testing.T) {
	t.Parallel()
	b := newBank(t)
	c := signedOn(t, b)
	c.send("0210", purchase(1).with(39, "00"))
	c.write(frame([]byte("02x0")))
	c.write(frame([]byte("1")))
	c.exchange("0200", purchase(1)).want(t, "0210", "00") // The next answer is this one's.
	if h := b.History(0); len(h) != 5 || h[1].Note == "" || h[1].ResponseCode != "" {
		t.Errorf("history %+v", h)
	}
}

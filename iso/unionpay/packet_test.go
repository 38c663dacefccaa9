package unionpay

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/keyward/keyward/iso"
	"github.com/keyward/keyward/iso/unionpay/kind"
)

// purchase is a made-up chip purchase with PIN and track of 269 bytes, without field 64's value being a real MAC.
func purchase() *Packet {
	m := iso.New("0200")
	m.Set(iso.PAN, "6222020000000000018")
	m.Set(iso.ProcessingCode, "000000")
	m.Set(iso.Amount, "000000012345")
	m.Set(iso.Trace, "000123")
	m.Set(iso.LocalTime, "101112")
	m.Set(iso.LocalDate, "1121")
	m.Set(iso.Expiry, "3012")
	m.Set(iso.EntryMode, "051")
	m.Set(iso.CardSequence, "001")
	m.Set(iso.ConditionCode, "00")
	m.Set(iso.PINCaptureCode, "12")
	m.Set(iso.Track2, "6222020000000000018=30122010000012345")
	m.Set(iso.Terminal, "10000001")
	m.Set(iso.Merchant, "104110000000001")
	m.Set(iso.Currency, "156")
	m.SetBytes(iso.PINBlock, []byte{0xC9, 0xB3, 0x84, 0x9C, 0xDA, 0x47, 0x53, 0x68})
	m.Set(iso.SecurityControl, "2600000000000000")
	m.SetBytes(iso.ChipData, bytes.Repeat([]byte{0x9F}, 131))
	m.Set(iso.Private60, "2200000100050")
	m.SetBytes(iso.MAC, []byte("C9CD62BA"))
	return &Packet{TPDU: TPDU{0x60, 0x00, 0x01, 0x00, 0x02}, Header: Header{0x61, 0x31, 0x00, 0x31, 0x00, 0x00}, Message: m}
}

func encoded(tb testing.TB, p *Packet) []byte {
	tb.Helper()
	frame, err := p.Encode()
	if err != nil {
		tb.Fatal(err)
	}
	return frame
}

func TestPurchaseRoundTrip(t *testing.T) {
	t.Parallel()
	p := purchase()
	back, err := Parse(encoded(t, p))
	if err != nil {
		t.Fatal(err)
	}
	if !back.Message.Equal(p.Message) || back.TPDU != p.TPDU || back.Header != p.Header {
		t.Error("the purchase does not come back as it was")
	}
}

func TestOddDigitsPerField(t *testing.T) {
	t.Parallel()
	for field, c := range map[int]struct{ value, want string }{
		iso.EntryMode:    {"021", "0210"},
		iso.CardSequence: {"001", "0001"},
		iso.PAN:          {"123456789", "091234567890"},
		iso.Track2:       {"12345=678", "0912345D6780"},
		iso.Acquirer:     {"12345", "05123450"},
		iso.Private60:    {"22000001000", "0011220000010000"},
	} {
		m := iso.New("0800")
		m.Set(field, c.value)
		b, err := table.Encode(m)
		if err != nil {
			t.Fatal(err)
		}
		if got := hexUpper(b[mtiLen+bitmapLen:]); got != c.want {
			t.Errorf("field %d is written %s, want %s", field, got, c.want)
		}
	}
}

func TestFramingFaults(t *testing.T) {
	t.Parallel()
	good := encoded(t, purchase())
	badHeader := bytes.Clone(good)
	badHeader[7] = 0x3A
	badTPDU := bytes.Clone(good)
	badTPDU[0] = 0x00
	called := withCallerID(good)
	for name, frame := range map[string][]byte{
		"empty": nil, "TPDU only": good[:5], "header cut": good[:10], "header digit": badHeader, "TPDU": badTPDU,
		"caller id not allowed": called, "caller id cut": called[:20], "header after caller id cut": called[:tpduLen+callerIDLen+3],
	} {
		p, err := Parse(frame)
		if !errors.Is(err, ErrFraming) || p != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func withCallerID(frame []byte) []byte {
	out := append(bytes.Clone(frame[:tpduLen]), callerIDMark...)
	out = append(out, bytes.Repeat([]byte{0x12}, 28)...)
	return append(out, frame[tpduLen:]...)
}

func TestCallerID(t *testing.T) {
	t.Parallel()
	good := encoded(t, purchase())
	called := withCallerID(good)
	p, err := Parse(called, AllowCallerID)
	if err != nil {
		t.Fatal(err)
	}
	if len(p.CallerID) != callerIDLen || !p.Message.Equal(purchase().Message) {
		t.Error("the packet behind the caller id is read wrongly")
	}
	a, err1 := MAB(called)
	b, err2 := MAB(good)
	if err1 != nil || err2 != nil || !bytes.Equal(a, b) {
		t.Error("the caller id is not part of the MAB")
	}
}

// TestPartial keeps what an answer with 30 echoes, and says nothing of the content.
func TestPartial(t *testing.T) {
	t.Parallel()
	frame := encoded(t, purchase())
	p, err := Parse(frame[:len(frame)-3])
	var d *iso.DecodeError
	if !errors.As(err, &d) || d.Field != iso.MAC || d.Reason != iso.Short {
		t.Fatalf("%v", err)
	}
	if p == nil || p.Message != d.Partial || p.Message.Text(iso.Trace) != "000123" ||
		p.Message.Text(iso.Terminal) != "10000001" || p.Message.Text(iso.Merchant) != "104110000000001" {
		t.Error("the fields to echo are lost")
	}
	a, err := p.Answer(3)
	if err != nil || a.Message.MTI() != "0210" {
		t.Fatalf("answer: %v", err)
	}
	if strings.Contains(d.Error(), "622202") {
		t.Error("the error shows content")
	}
}

func TestAnswer(t *testing.T) {
	t.Parallel()
	p := purchase()
	a, err := p.Answer(3)
	if err != nil {
		t.Fatal(err)
	}
	if a.TPDU != (TPDU{0x60, 0x00, 0x02, 0x00, 0x01}) {
		t.Errorf("TPDU %X", a.TPDU)
	}
	if a.Header != (Header{0x61, 0x31, 0x03, 0x31, 0x00, 0x00}) || a.Header.Processing() != 3 {
		t.Errorf("header %X", a.Header)
	}
	if a.Header.Class() != "61" || a.Header.Version() != "31" || a.Header.TestState() {
		t.Error("header parts")
	}
	if a.Header.WithProcessing(10).Processing() != 0 {
		t.Error("a processing requirement of two digits gets through")
	}
	if _, err := a.Answer(0); err == nil {
		t.Error("an answer was answered")
	}
}

func TestEncodeRefusals(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*iso.Message)
		field  int
		reason iso.Reason
	}{
		"MTI":            {func(m *iso.Message) { m.SetMTI("02A0") }, 0, iso.BadMTI},
		"letter in PAN":  {func(m *iso.Message) { m.Set(iso.PAN, "6222A2") }, 2, iso.BadDigit},
		"= in PAN":       {func(m *iso.Message) { m.Set(iso.PAN, "6222=2") }, 2, iso.BadDigit},
		"long PAN":       {func(m *iso.Message) { m.Set(iso.PAN, "62220200000000000180") }, 2, iso.LengthOverMax},
		"short amount":   {func(m *iso.Message) { m.Set(iso.Amount, "100") }, 4, iso.Short},
		"undefined":      {func(m *iso.Message) { m.Set(5, "1") }, 5, iso.UndefinedField},
		"second bitmap":  {func(m *iso.Message) { m.Set(iso.NetworkCode, "301") }, 70, iso.UndefinedField},
		"no such number": {func(m *iso.Message) { m.Set(129, "1") }, 129, iso.UndefinedField},
		"terminal":       {func(m *iso.Message) { m.Set(iso.Terminal, "1000000\x01") }, 41, iso.BadChar},
		"track":          {func(m *iso.Message) { m.Set(iso.Track2, "62G") }, 35, iso.BadDigit},
	} {
		p := purchase()
		c.change(p.Message)
		_, err := p.Encode()
		var e *iso.EncodeError
		if !errors.As(err, &e) || e.Field != c.field || e.Reason != c.reason {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestF60(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]F60{
		"07000727":          {Type: "07", Batch: "000727"},
		"070007270":         {Type: "07", Batch: "000727", Network: "0"},
		"00000519003":       {Type: "00", Batch: "000519", Network: "003"},
		"2200660300060":     {Type: "22", Batch: "006603", Network: "000", ReadCap: "6", ICCond: "0"},
		"22006603000601":    {Type: "22", Batch: "006603", Network: "000", ReadCap: "6", ICCond: "0", Partial: "1"},
		"22006603000601048": {Type: "22", Batch: "006603", Network: "000", ReadCap: "6", ICCond: "0", Partial: "1", Accounts: "048"},
	} {
		got, err := ParseF60(in)
		if err != nil || got != want || got.String() != in {
			t.Errorf("%s: %+v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "2200660", "220066030006010480", "2200660A"} {
		if _, err := ParseF60(in); err == nil {
			t.Errorf("%q is accepted", in)
		}
	}
}

func TestF61(t *testing.T) {
	t.Parallel()
	full := "00066000012311210100000012345"
	got, err := ParseF61(full)
	if want := (F61{"000660", "000123", "1121", "01", "00000012345"}); err != nil || got != want || got.String() != full {
		t.Errorf("%+v, %v", got, err)
	}
	for _, short := range []string{"", "000660", "0006600001231121"} {
		if got, err := ParseF61(short); err != nil || got.String() != short {
			t.Errorf("%q: %v", short, err)
		}
	}
	for _, bad := range []string{full + "1", "00066X"} {
		if _, err := ParseF61(bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

func TestClassify(t *testing.T) {
	t.Parallel()
	row, ok := Classify(purchase().Message)
	if !ok || row.Kind != kind.Purchase {
		t.Errorf("purchase is %q", row.Kind)
	}
	for _, e := range examples(t) {
		p, err := Parse(e.frame)
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]kind.Kind{"2": kind.SignOn, "5": kind.Purchase, "7": kind.SignOn, "11": kind.Purchase, "12": kind.Purchase,
			"16": kind.MasterKeyDownload, "18": kind.SignOn}[e.id]
		if row, _ := Classify(p.Message); row.Kind != want {
			t.Errorf("packet %s is %q, want %q", e.id, row.Kind, want)
		}
	}
	if _, ok := Classify(iso.New("0200")); ok {
		t.Error("a message without field 60 has a kind")
	}
}

package core

import (
	"bytes"
	"crypto/des"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/moov-io/iso8583"

	"github.com/keyward/keyward/internal/vectors"
	"github.com/keyward/keyward/iso"
)

// purchase is a made-up 0200 with every kind of field.
func purchase() *iso.Message {
	m := iso.New("0200")
	m.Set(iso.PAN, "6222020000000000018")
	m.Set(iso.ProcessingCode, "000000")
	m.Set(iso.Amount, "000000012345")
	m.Set(iso.TransmissionTime, "1121021112")
	m.Set(iso.Trace, "000123")
	m.Set(iso.LocalTime, "101112")
	m.Set(iso.LocalDate, "1121")
	m.Set(iso.EntryMode, "051")
	m.Set(iso.ConditionCode, "00")
	m.Set(iso.PINCaptureCode, "12")
	m.Set(iso.Acquirer, "10411000")
	m.Set(iso.Track2, "6222020000000000018=30122010000012345")
	m.Set(iso.Reference, "632500000123")
	m.Set(iso.Terminal, "10000001")
	m.Set(iso.Merchant, "104110000000001")
	m.Set(iso.Currency, "156")
	m.SetBytes(iso.PINBlock, []byte{0xC9, 0xB3, 0x84, 0x9C, 0xDA, 0x47, 0x53, 0x68})
	m.Set(iso.SecurityControl, "2600000000000000")
	m.SetBytes(iso.ChipData, []byte{0x9F, 0x26, 0x01, 0x00})
	m.SetBytes(iso.MAC128, []byte{1, 2, 3, 4, 5, 6, 7, 8})
	return m
}

// fieldsOnLine is what follows the bitmaps of purchase, written by hand from docs/dialect-core.md.
var fieldsOnLine = strings.Join([]string{
	"19" + "6222020000000000018", "000000", "000000012345", "1121021112", "000123", "101112", "1121", "051", "00", "12",
	"08" + "10411000", "37" + "6222020000000000018=30122010000012345", "632500000123", "10000001", "104110000000001", "156",
	"C9B3849CDA475368", "2600000000000000", "008" + "9F260100", "0102030405060708",
}, "")

func encoded(tb testing.TB, m *iso.Message) []byte {
	tb.Helper()
	b, err := Codec().Encode(m)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func TestPurchaseOnTheLine(t *testing.T) {
	t.Parallel()
	got := encoded(t, purchase())
	if want := "0200" + bitmapOf(purchase(), 0) + bitmapOf(purchase(), 1) + fieldsOnLine; string(got) != want {
		t.Error("the purchase is written differently")
	}
	back, err := Codec().Decode(got)
	if err != nil || !back.Equal(purchase()) {
		t.Errorf("the purchase does not come back as it was: %v", err)
	}
}

// bitmapOf computes 16 hex characters of a bitmap from the list of fields, independently of the codec.
func bitmapOf(m *iso.Message, word int) string {
	var bits [64]bool
	for _, n := range m.Fields() {
		if n > 64 && word == 0 {
			bits[0] = true
		}
		if (n-1)/64 == word {
			bits[(n-1)%64] = true
		}
	}
	var b strings.Builder
	for i := 0; i < 64; i += 4 {
		v := 0
		for _, bit := range bits[i : i+4] {
			v <<= 1
			if bit {
				v |= 1
			}
		}
		fmt.Fprintf(&b, "%X", v)
	}
	return b.String()
}

func TestMoovAgrees(t *testing.T) {
	t.Parallel()
	ours := encoded(t, purchase())
	theirs := iso8583.NewMessage(Spec())
	if err := theirs.Unpack(ours); err != nil {
		t.Fatal("moov refuses the purchase")
	}
	for _, n := range purchase().Fields() {
		if got, err := theirs.GetString(n); err != nil || got != purchase().Text(n) {
			t.Errorf("field %d: moov reads something else", n)
		}
	}
	if packed, err := theirs.Pack(); err != nil || !bytes.Equal(packed, ours) {
		t.Error("moov packs other bytes")
	}
}

// TestDocument holds the field table of docs/dialect-core.md against Spec.
func TestDocument(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/dialect-core.md")
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile(`(?m)^\| (\d+) \| [^|]+ \| (n|an|ans|z|hex) ?(\.\.)?(\d+)( LLL?)? \|`)
	fields := Spec().Fields
	seen := 2 // MTI and bitmap have no row.
	for _, m := range row.FindAllStringSubmatch(string(text), -1) {
		var n, length int
		if _, err := fmt.Sscan(m[1]+" "+m[4], &n, &length); err != nil {
			t.Fatal(err)
		}
		f := fields[n]
		if f == nil {
			t.Errorf("field %d is in the document only", n)
			continue
		}
		seen++
		s := f.Spec()
		if m[2] == "hex" {
			length /= 2
		}
		enc := map[string]iso.Encoding{"n": iso.Digits, "an": iso.Alphanumeric, "ans": iso.Printable, "z": iso.Track, "hex": iso.Hex}[m[2]]
		wantPrefix := "Keyward.Fixed"
		if m[5] != "" {
			wantPrefix = "Keyward.ASCII." + strings.TrimSpace(m[5])
		}
		if s.Enc != enc || s.Pref.Inspect() != wantPrefix || (m[3] != "") != (m[5] != "") {
			t.Errorf("field %d: type or prefix differs from the document", n)
		}
		if m[2] == "hex" && m[3] == ".." {
			// The table says 510 characters, 255 bytes.
			if s.Pref != lllHex || s.Length != length {
				t.Errorf("field %d: not %d bytes", n, length)
			}
		} else if s.Length != length {
			t.Errorf("field %d has length %d, the document says %d", n, s.Length, length)
		}
	}
	if seen != len(fields) {
		t.Errorf("%d fields in the document, %d in the spec", seen, len(fields))
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	good := string(encoded(t, purchase()))
	start := 4 + 32 // Field 2.
	for name, c := range map[string]struct {
		message string
		field   int
		reason  iso.Reason
	}{
		"empty":               {"", 0, iso.Short},
		"MTI cut":             {"020", 0, iso.Short},
		"MTI letter":          {"02x0" + good[4:], 0, iso.BadMTI},
		"bitmap cut":          {good[:19], 1, iso.Short},
		"second bitmap cut":   {good[:35], 1, iso.Short},
		"bitmap lower case":   {good[:4] + strings.ToLower(good[4:20]) + good[20:], 1, iso.BadBitmap},
		"length cut":          {good[:start+1], 2, iso.ShortLength},
		"length letter":       {good[:start] + "1x" + good[start+2:], 2, iso.BadLength},
		"length sign":         {good[:start] + "-1" + good[start+2:], 2, iso.BadLength},
		"length zero":         {good[:start] + "00" + good[start+2:], 2, iso.BadLength},
		"length over maximum": {good[:start] + "20" + good[start+2:], 2, iso.LengthOverMax},
		"value cut":           {good[:start+5], 2, iso.Short},
		"digit":               {good[:start+2] + "A" + good[start+3:], 2, iso.BadDigit},
		"MAC hex":             {good[:len(good)-1] + "g", 128, iso.BadHex},
		"MAC lower hex":       {good[:len(good)-1] + "a", 128, iso.BadHex},
		"last byte missing":   {good[:len(good)-1], 128, iso.Short},
		"trailing":            {good + " ", 0, iso.Trailing},
		"twice":               {good + good, 0, iso.Trailing},
		"field 5":             {"02000800000000000000", 5, iso.UndefinedField},
		"field 65":            {"0200800000000000000" + "08000000000000000", 65, iso.UndefinedField},
		"chip data odd":       {"02000000000000000200" + "0031234", 55, iso.BadLength},
		"chip data over":      {"02000000000000000200" + "512" + strings.Repeat("0", 512), 55, iso.LengthOverMax},
		"terminal control":    {"02000000000000800000" + "1000000\n", 41, iso.BadChar},
		"code not an":         {"02000000000002000000" + "0-", 39, iso.BadChar},
		"track with D":        {"02000000000020000000" + "05123D4", 35, iso.BadDigit},
	} {
		_, err := Codec().Decode([]byte(c.message))
		var d *iso.DecodeError
		if !errors.As(err, &d) || d.Field != c.field || d.Reason != c.reason || d.Partial == nil {
			t.Errorf("%s: %v, want field %d %s", name, err, c.field, c.reason)
		}
	}
}

// TestVectorsBad takes those refusals of the plain ASCII dialect of 1987 that our profile shares.
func TestVectorsBad(t *testing.T) {
	t.Parallel()
	used := 0
	for _, v := range vectors.Load(t, "iso8583.json").Group(t, "messages_bad") {
		if vectors.Str(v.In, "dialect") != "ascii87" || vectors.Str(v.Out, "field") == "" {
			continue
		}
		// Our variable fields are never empty: a row with an empty field 2 stops there.
		_, err := Codec().Decode(vectors.Hex(t, v.In, "message"))
		var d *iso.DecodeError
		if !errors.As(err, &d) {
			t.Errorf("%s: %v", v.ID, err)
			continue
		}
		used++
		if want := vectors.Str(v.Out, "reject"); string(d.Reason) != want && !(d.Field == iso.PAN && d.Reason == iso.BadLength) {
			t.Errorf("%s: %v, want %s", v.ID, err, want)
		}
	}
	if used == 0 {
		t.Fatal("no row was used")
	}
}

func TestMAB(t *testing.T) {
	t.Parallel()
	full := encoded(t, purchase())
	mab, err := MAB(full)
	if err != nil || string(mab) != string(full[:len(full)-16]) || cap(mab) != len(mab) {
		t.Errorf("MAB with field 128: %v", err)
	}
	short := iso.New("0800")
	short.Set(iso.Trace, "000001")
	short.SetBytes(iso.MAC, make([]byte, 8))
	b := encoded(t, short)
	if mab, err = MAB(b); err != nil || len(mab) != len(b)-16 {
		t.Errorf("MAB with field 64: %v", err)
	}
	short.Set(iso.NetworkCode, "301") // Field 64 is no longer the last one, and there is no field 128.
	none := iso.New("0800")
	none.Set(iso.OriginalData, strings.Repeat("0", 42))
	for name, message := range map[string][]byte{
		"field 64 in the middle": encoded(t, short), "no MAC": encoded(t, none), "empty": nil, "MTI": full[:4], "bitmaps": full[:36],
		"bitmaps and less than a MAC": full[:40],
	} {
		if _, err := MAB(message); !errors.Is(err, ErrNoMAC) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestMACOverTheLine computes X9.19 here in the test, over bytes that the test wrote by hand for a sign-on.
func TestMACOverTheLine(t *testing.T) {
	t.Parallel()
	m := iso.New("0800")
	m.Set(iso.TransmissionTime, "1121021112")
	m.Set(iso.Trace, "000001")
	m.Set(iso.Acquirer, "10411000")
	m.Set(iso.NetworkCode, SignOn)
	message, mab, err := EncodeForMAC(m)
	if err != nil || m.Has(iso.MAC128) {
		t.Fatalf("%v", err)
	}
	const want = "0800" + "8220000100000000" + "0400000000000001" + "1121021112" + "000001" + "0810411000" + "001"
	if string(mab) != want {
		t.Errorf("MAB is %q", mab)
	}
	mac := retailMAC(t, []byte("0123456789ABCDEF"), mab)
	if err := SetMAC(message, mac); err != nil {
		t.Fatal(err)
	}
	if got := string(message); got != want+fmt.Sprintf("%X", mac) {
		t.Errorf("message is %q", got)
	}
	back, err := Codec().Decode(message)
	if got, _ := back.Bytes(iso.MAC128); err != nil || !bytes.Equal(got, mac) {
		t.Errorf("field 128 does not come back: %v", err)
	}
	if SetMAC(message, mac[:4]) == nil || SetMAC(message[:10], mac) == nil {
		t.Error("a wrong SetMAC is accepted")
	}
	m.Set(iso.Trace, "1")
	if _, _, err := EncodeForMAC(m); !errors.Is(err, iso.Short) {
		t.Errorf("short trace: %v", err)
	}
}

// retailMAC is ISO/IEC 9797-1 algorithm 3, padding method 1.
func retailMAC(t *testing.T, key, data []byte) []byte {
	t.Helper()
	left, err1 := des.NewCipher(key[:8])
	right, err2 := des.NewCipher(key[8:])
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	state := make([]byte, 8)
	for i, b := range data {
		state[i%8] ^= b
		if i%8 == 7 || i == len(data)-1 {
			left.Encrypt(state, state)
		}
	}
	right.Decrypt(state, state)
	left.Encrypt(state, state)
	return state
}

// TestRetailMACKnownAnswer guards the test's own MAC by the published vectors.
func TestRetailMACKnownAnswer(t *testing.T) {
	t.Parallel()
	used := 0
	for _, v := range vectors.Load(t, "mac.json").Group(t, "iso9797_1_alg3_des") {
		key, data := vectors.Hex(t, v.In, "key"), vectors.Hex(t, v.In, "msg")
		if vectors.Int(v.In, "pad", 0) != 1 || len(key) != 16 || len(data) == 0 {
			continue
		}
		used++
		if want := vectors.Hex(t, v.Out, "mac"); !bytes.HasPrefix(retailMAC(t, key, data), want) || len(want) == 0 {
			t.Errorf("%s: MAC differs", v.ID)
		}
	}
	if used == 0 {
		t.Fatal("no vector was used")
	}
}

func TestOriginal(t *testing.T) {
	t.Parallel()
	o := OriginalOf(purchase())
	s, err := o.Encode()
	if want := "0200" + "000123" + "1121021112" + "00010411000" + "00000000000"; err != nil || s != want {
		t.Errorf("%s, %v", s, err)
	}
	if back, err := ParseOriginal(s); err != nil || back != o {
		t.Errorf("%+v, %v", back, err)
	}
	for _, bad := range []string{"", s[:41], s + "0", "x" + s[1:]} {
		if _, err := ParseOriginal(bad); err == nil {
			t.Errorf("%d characters are accepted", len(bad))
		}
	}
	for name, o := range map[string]Original{"empty": {}, "letter": {"02x0", "000123", "1121021112", "1"}, "long": {"0200", "000123", "1121021112", "123456789012"}} {
		if _, err := o.Encode(); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

// TestMaxFrame holds the longest possible message against the limit of the document.
func TestMaxFrame(t *testing.T) {
	t.Parallel()
	m := iso.New("0200")
	for n, f := range Spec().Fields {
		if n >= 2 {
			m.Set(n, strings.Repeat("1", f.Spec().Length))
		}
	}
	if got := len(encoded(t, m)); got > MaxFrame {
		t.Errorf("the longest message has %d bytes, MaxFrame is %d", got, MaxFrame)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(encoded(f, purchase()))
	signOn := iso.New("0800")
	signOn.Set(iso.NetworkCode, SignOn)
	signOn.SetBytes(iso.MAC128, make([]byte, 8))
	f.Add(encoded(f, signOn))
	short := iso.New("0810")
	short.SetBytes(iso.MAC, make([]byte, 8))
	f.Add(encoded(f, short))
	f.Add([]byte("0200800000000000000080000000000000000"))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := Codec().Decode(data)
		if err != nil {
			var d *iso.DecodeError
			if !errors.As(err, &d) || d.Partial == nil {
				t.Fatalf("error of no class: %v", err)
			}
			return
		}
		again, err := Codec().Encode(m)
		if err != nil {
			t.Fatalf("what was decoded cannot be encoded: %v", err)
		}
		back, err := Codec().Decode(again)
		if err != nil || !back.Equal(m) {
			t.Fatalf("the round trip changes the message: %v", err)
		}
		if mab, err := MAB(data); err == nil && !m.Has(iso.MAC128) && !m.Has(iso.MAC) {
			t.Fatalf("a MAB of %d bytes without a MAC field", len(mab))
		}
		_ = m.Dump()
	})
}

func BenchmarkDecode(b *testing.B) {
	data := encoded(b, purchase())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Codec().Decode(data); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	m := purchase()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Codec().Encode(m); err != nil {
			b.Fatal(err)
		}
	}
}

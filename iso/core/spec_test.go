package core

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/moov-io/iso8583"

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

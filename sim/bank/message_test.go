package bank

import (
	"bytes"
	"strings"
	"testing"
)

// full is a message with every field of the table that a request may hold.
func full(tb testing.TB) []byte {
	tb.Helper()
	return pack(tb, "0200", purchase(1).withPIN(tb, "123456").with(14, "3012", 18, "5411", 23, "001", 35, card1+"=30121010000", 36, "99"+card1+"=1",
		48, "free text", 55, "9F2608AABBCCDDEEFF0011", 60, "x", 15, "0309", 38, "12 45A", 39, "00", 54, "0002156C000000000001", 70, "001",
		64, "0123456789ABCDEF", 90, strings.Repeat("0", 42)))
}

func TestParseAndPackAgree(t *testing.T) {
	t.Parallel()
	key, err := newMACKey(unhex(t, testZAK))
	if err != nil {
		t.Fatal(err)
	}
	data := full(t)
	var m message
	if err := m.parse(data); err != nil {
		t.Fatal(err)
	}
	if m.get(2) != card1 || m.get(36) != "99"+card1+"=1" || m.get(90) != strings.Repeat("0", 42) || m.has(44) {
		t.Error("fields are not those that were packed")
	}
	out, err := m.pack(nil, key.sum)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(out, frame(data)) {
		t.Error("packing gives other bytes")
	}
}

func TestParseRefusals(t *testing.T) {
	t.Parallel()
	good := purchase(1)
	withMAC := func(f fields) []byte { return rawMessage("0200", f.with(128, "0011223344556677")) }
	for name, tc := range map[string]struct {
		data []byte
		want string
	}{
		"empty":                {nil, "MTI"},
		"MTI of letters":       {[]byte("02A0" + strings.Repeat("0", 40)), "MTI"},
		"short bitmap":         {withMAC(good)[:35], "bitmap"},
		"lower-case bitmap":    {append([]byte("0200c"), withMAC(good)[5:]...), "bitmap is not upper-case"},
		"no secondary bitmap":  {rawMessage("0200", good), "bit 1"},
		"undefined field":      {withMAC(good.with(5, "1")), "field 5 is not defined"},
		"field 44 in request":  {withMAC(good.with(44, "1")), "field 44 is not defined"},
		"trailing":             {append(withMAC(good), '0'), "after the last field"},
		"cut":                  {withMAC(good)[:60], "field"},
		"letter in digits":     {withMAC(good.with(4, "00000000010X")), "field 4"},
		"length over maximum":  {withMAC(good.with(2, strings.Repeat("1", 20))), "field 2: length 20"},
		"length zero":          {withMAC(good.with(32, "")), "field 32: length 0"},
		"length of letters":    {bytes.Replace(withMAC(good), []byte("19622202"), []byte("1x622202"), 1), "field 2: length"},
		"odd hex":              {withMAC(good.with(55, "ABC")), "field 55: length 3"},
		"lower-case hex":       {withMAC(good.with(55, "abcd")), "field 55"},
		"control character":    {withMAC(good.with(60, "a\x01b")), "field 60"},
		"track separator D":    {withMAC(good.with(35, card1+"D3012")), "field 35"},
		"punctuation in an":    {withMAC(good.with(37, "123456789.12")), "field 37"},
		"MAC in lower case":    {rawMessage("0200", good.with(128, "0011223344aabbcc")), "field 128"},
		"MAC cut":              {rawMessage("0200", good.with(128, "00112233")), "field 128"},
		"length past the end":  {[]byte("0200" + "C000000000000000" + "0000000000000000" + "19" + "123"), "field 2"},
		"length itself is cut": {[]byte("0200" + "C000000000000000" + "0000000000000000" + "1"), "field 2"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var m message
			err := m.parse(tc.data)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("error %v, want one with %q", err, tc.want)
			}
			if strings.Contains(err.Error(), "622202") {
				t.Error("the error shows a PAN")
			}
		})
	}
}

func TestPackRefusesWhatDoesNotFit(t *testing.T) {
	t.Parallel()
	for name, set := range map[string]func(*message){
		"too short":   func(m *message) { m.set(39, "0") },
		"bad digits":  func(m *message) { m.set(11, "12345x") },
		"over length": func(m *message) { m.set(2, strings.Repeat("1", 20)) },
		"empty":       func(m *message) { m.set(32, "") },
	} {
		m := message{mti: "0210"}
		set(&m)
		if _, err := m.pack(nil, func([]byte) (b [8]byte) { return b }); err == nil {
			t.Errorf("%s: packed", name)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(full(f))
	f.Add(pack(f, "0200", purchase(1)))
	f.Add(pack(f, "0400", reversal(purchase(1))))
	f.Add(pack(f, "0800", network("001")))
	f.Add(rawMessage("0200", purchase(1)))
	f.Add([]byte("0200"))
	f.Add([]byte(""))
	f.Fuzz(func(t *testing.T, data []byte) {
		var m message
		if err := m.parse(data); err != nil {
			return
		}
		// What is understood has one form only: packing it again gives the same bytes up to the MAC.
		had := m.has(128)
		out, err := m.pack(nil, func([]byte) (b [8]byte) { return b })
		if err != nil {
			t.Fatal(err)
		}
		if !had {
			return // The packed form has another bitmap and one field more.
		}
		if end := len(data) - macSize; len(out) != lengthSize+len(data) || !bytes.Equal(out[lengthSize:lengthSize+end], data[:end]) {
			t.Fatalf("%q packs to %q", data, out)
		}
	})
}

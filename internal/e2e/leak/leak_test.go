package leak

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf16"
)

// Made-up values: none of them is used anywhere else.
const (
	number    = "6229876543210987654"
	evenDigit = "739182645091"
	track     = number + "D30122209876543210"
)

var key = []byte{0x00, 0x1F, 0xA7, 0x7E, 0x80, 0x3C, 0xD2, 0x44, 0x95, 0x6B, 0x0E, 0xF1, 0x22, 0xC8, 0x5A, 0xFF}

// pack is BCD with a filler on the left or on the right where the number of digits is odd.
func pack(t *testing.T, digits string, fillLeft bool) []byte {
	t.Helper()
	if len(digits)%2 != 0 {
		if fillLeft {
			digits = "0" + digits
		} else {
			digits += "F"
		}
	}
	b, err := hex.DecodeString(digits)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func utf16Of(s string, big bool) []byte {
	var b []byte
	for _, u := range utf16.Encode([]rune(s)) {
		if big {
			b = append(b, byte(u>>8), byte(u))
		} else {
			b = append(b, byte(u), byte(u>>8))
		}
	}
	return b
}

// writings are independent of forms.go: they are what programs do with values.
func writings(t *testing.T) map[string]struct {
	secret Secret
	text   []byte
} {
	t.Helper()
	n, k, tr, even := Number("pan", number), Binary("key", key), Track("track", track), Number("pin", evenDigit)
	upper, lower := strings.ToUpper(hex.EncodeToString(key)), hex.EncodeToString(key)
	list, err := json.Marshal([]int{0, 0x1F, 0xA7, 0x7E, 0x80, 0x3C, 0xD2, 0x44, 0x95, 0x6B, 0x0E, 0xF1, 0x22, 0xC8, 0x5A, 0xFF})
	if err != nil {
		t.Fatal(err)
	}
	type w = struct {
		secret Secret
		text   []byte
	}
	return map[string]w{
		"number in decimal":          {n, []byte(number)},
		"number quoted":              {n, fmt.Appendf(nil, "%q", number)},
		"number in hex":              {n, fmt.Appendf(nil, "%x", number)},
		"number packed, filled left": {n, pack(t, number, true)}, "number packed, filled right": {n, pack(t, number, false)},
		"number packed in hex":        {n, fmt.Appendf(nil, "%X", pack(t, number, false))},
		"number packed, list":         {n, fmt.Append(nil, pack(t, number, false))},
		"number packed in base64":     {n, []byte(base64.StdEncoding.EncodeToString(pack(t, number, true)))},
		"number in UTF-16LE":          {n, utf16Of(number, false)},
		"number in UTF-16BE":          {n, utf16Of(number, true)},
		"number, bytes printed":       {n, fmt.Append(nil, []byte(number))},
		"number in groups":            {n, []byte("6229 8765 4321 0987 654")},
		"even number packed":          {even, append(pack(t, evenDigit, true), 1, 2)},
		"even number packed, shifted": {n, pack(t, "1"+number, true)},
		"track":                       {tr, []byte(track)},
		"track with =":                {tr, []byte(strings.Replace(track, "D", "=", 1))},
		"track in lower case":         {tr, []byte(strings.ToLower(track))},
		"track packed":                {tr, pack(t, track, false)},
		"track in hex":                {tr, fmt.Appendf(nil, "%X", track)},
		"track in UTF-16":             {tr, utf16Of(track, false)},
		"key raw":                     {k, key},
		"key in upper hex":            {k, []byte(upper)}, "key in lower hex": {k, []byte(lower)},
		"key in hex of hex":    {k, fmt.Appendf(nil, "%x", upper)},
		"key in UTF-16":        {k, utf16Of(lower, false)},
		"key with colons":      {k, []byte(strings.TrimSuffix(strings.ToUpper(fmt.Sprintf("%x", key[0])+colons(key[1:])), ":"))},
		"key with spaces":      {k, fmt.Appendf(nil, "% x", key)},
		"key printed":          {k, fmt.Append(nil, key)},
		"key as JSON list":     {k, list},
		"key as JSON bytes":    {k, []byte(base64.StdEncoding.EncodeToString(key))},
		"key, hex in base64":   {k, []byte(base64.StdEncoding.EncodeToString([]byte(upper)))},
		"key in URL base64":    {k, []byte(base64.RawURLEncoding.EncodeToString(key))},
		"key in PostgreSQL":    {k, []byte(`\\x` + lower)},
		"key with scheme":      {k, []byte("U" + upper)},
		"key inside a message": {k, append([]byte("0001A0"), append(bytes.Clone(key), "tail"...)...)},
	}
}

// colons is the rest of a fingerprint; the first byte of key is 00, which %x shortens.
func colons(b []byte) string {
	var s strings.Builder
	s.WriteString("0:")
	for _, x := range b {
		fmt.Fprintf(&s, "%02x:", x)
	}
	return s.String()
}

// noise is text and bytes that hold no secret, the same at each run.
func noise(size int) []byte {
	seed := sha256.Sum256([]byte("noise"))
	source := rand.NewChaCha8(seed)
	b := make([]byte, size)
	_, _ = source.Read(b) // never fails
	return b
}

func TestFindsEveryWritingAtEveryOffset(t *testing.T) {
	t.Parallel()
	clean := noise(512)
	for name, w := range writings(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := New(w.secret)
			if err != nil {
				t.Fatal(err)
			}
			if found := s.Bytes("noise", clean); len(found) != 0 {
				t.Fatalf("finds in noise: %v", found)
			}
			for at := 0; at <= 64; at++ {
				b := append(append(bytes.Clone(clean[:at]), w.text...), clean[at:]...)
				if len(s.Bytes("here", b)) == 0 {
					t.Fatalf("not found at %d", at)
				}
				if len(s.Bytes("here", b[:at+len(w.text)])) == 0 {
					t.Fatalf("not found at %d, at the end", at)
				}
			}
		})
	}
}

// TestBase64AtEveryPlace puts the value inside longer texts, so that all three alignments come up with all kinds of neighbours.
func TestBase64AtEveryPlace(t *testing.T) {
	t.Parallel()
	s, err := New(Binary("key", key), Number("pan", number))
	if err != nil {
		t.Fatal(err)
	}
	around := noise(64)
	for before := range 12 {
		for after := range 12 {
			for what, value := range map[string][]byte{"key": key, "pan": []byte(number), "pan packed": pack(t, number, true)} {
				plain := append(append(bytes.Clone(around[:before]), value...), around[32:32+after]...)
				for _, e := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding, base64.RawStdEncoding, base64.RawURLEncoding} {
					if text := e.EncodeToString(plain); len(s.Bytes("here", []byte(text))) == 0 {
						t.Fatalf("%s behind %d and before %d bytes is not found", what, before, after)
					}
				}
			}
		}
	}
}

func TestOneSecretIsNotTakenForAnother(t *testing.T) {
	t.Parallel()
	other := bytes.Clone(key)
	other[7] ^= 1
	s, err := New(Binary("key", key), Number("pan", number))
	if err != nil {
		t.Fatal(err)
	}
	for _, clean := range [][]byte{other, []byte(number[:6] + "*********" + number[15:]), []byte(number[:18] + "0"), fmt.Appendf(nil, "%X", other), key[:15]} {
		if found := s.Bytes("here", clean); len(found) != 0 {
			t.Errorf("found %v", found)
		}
	}
}

func TestShortSecretsAreRefused(t *testing.T) {
	t.Parallel()
	for _, s := range []Secret{Number("a", "123456"), Number("aa", "12345678901"), Number("b", "12345678901a"), Binary("c", key[:7]), Track("d", "12345D"), Track("e", "1234567890X1")} {
		if _, err := New(s); err == nil {
			t.Errorf("%s is accepted", s.name)
		}
	}
	if _, err := New(); err == nil {
		t.Error("a scanner without secrets is accepted")
	}
}

// TestReaderAcrossPieces has secrets lie across the borders of the pieces that a file is read in.
func TestReaderAcrossPieces(t *testing.T) {
	t.Parallel()
	s, err := New(Binary("key", key), Number("pan", number))
	if err != nil {
		t.Fatal(err)
	}
	s.piece = 16 << 10
	b := make([]byte, 3*s.piece)
	var want []int64
	for i := range 40 { // along the second border, and the first byte and the last one
		at := s.piece - s.longest*2 + i*(s.longest/8+len(key))
		copy(b[at:], key)
		want = append(want, int64(at))
	}
	copy(b[len(b)-len(key):], key)
	want = append([]int64{0}, append(want, int64(len(b)-len(key)))...)
	copy(b, key)
	// Each is searched alone, because findings of one form are bounded.
	for _, at := range want {
		one := make([]byte, len(b))
		copy(one[at:], key)
		found, size, err := s.Reader("here", bytes.NewReader(one))
		if err != nil || size != int64(len(one)) || len(found) != 1 || found[0].Offset != at {
			t.Fatalf("at %d: %v, %d bytes, %v", at, found, size, err)
		}
	}
	found, _, err := s.Reader("here", bytes.NewReader(b))
	if err != nil || len(found) != maxPerForm {
		t.Errorf("%d findings of one form are kept, want %d: %v", len(found), maxPerForm, err)
	}
	if found, size, err := s.Reader("empty", strings.NewReader("")); err != nil || len(found) != 0 || size != 0 {
		t.Errorf("empty: %v %d %v", found, size, err)
	}
}

func TestTree(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for path, text := range map[string]string{
		"logs/a.log": "card " + number, "pki/ca.key": number, "state/" + number + ".json": "{}", "clean": "nothing",
	} {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, err := New(Number("pan", number))
	if err != nil {
		t.Fatal(err)
	}
	found, totals, err := s.Tree(root, map[string]string{"pki/*": "secrets by design"})
	if err != nil || len(found) != 2 || totals.Files != 3 || totals.Skipped["pki/*"] != 1 {
		t.Fatalf("%v %+v %v", found, totals, err)
	}
	for _, f := range found {
		if strings.Contains(strings.ReplaceAll(f.String(), f.Where, ""), number) {
			t.Error("the finding shows the secret")
		}
	}
	if _, _, err := s.Tree(root, map[string]string{"[": ""}); err == nil {
		t.Error("a wrong pattern is accepted")
	}
	if _, _, err := s.Tree(filepath.Join(root, "none"), nil); err != nil {
		t.Error("a directory that is gone is an error")
	}
}

func BenchmarkScan(b *testing.B) {
	var secrets []Secret
	for i := range 200 {
		k := sha256.Sum256([]byte{byte(i)})
		secrets = append(secrets, Binary("key", k[:16]))
	}
	s, err := New(secrets...)
	if err != nil {
		b.Fatal(err)
	}
	text := noise(16 << 20)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		s.Bytes("noise", text)
	}
}

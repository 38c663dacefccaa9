package iso_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/keyward/keyward/iso"
)

func TestMessage(t *testing.T) {
	t.Parallel()
	for name, m := range map[string]*iso.Message{"New": iso.New("0200"), "zero value": {}} {
		if m.Has(2) || len(m.Fields()) != 0 || m.Text(2) != "" {
			t.Errorf("%s: not empty at first", name)
		}
		m.Set(iso.MAC128, "x")
		m.Set(iso.PAN, "6222020000000000018")
		m.SetBytes(iso.MAC, []byte{1, 2})
		m.Set(iso.Trace, "")
		m.Set(iso.NetworkCode, "301")
		if got := m.Fields(); !slices.Equal(got, []int{2, 11, 64, 70, 128}) {
			t.Errorf("%s: fields %v", name, got)
		}
		if v, ok := m.Get(iso.Trace); !ok || v != "" {
			t.Errorf("%s: an empty value is not there", name)
		}
		if b, ok := m.Bytes(iso.MAC); !ok || !bytes.Equal(b, []byte{1, 2}) {
			t.Errorf("%s: Bytes", name)
		}
		c := m.Clone()
		m.Unset(iso.MAC128)
		m.Unset(iso.MAC128)
		if m.Has(iso.MAC128) || !c.Has(iso.MAC128) || c.Equal(m) {
			t.Errorf("%s: the clone is not independent", name)
		}
		m.Set(iso.MAC128, "x")
		if !c.Equal(m) || !m.Equal(c) {
			t.Errorf("%s: equal messages differ", name)
		}
		c.SetMTI("0210")
		if c.Equal(m) || c.MTI() != "0210" {
			t.Errorf("%s: the type does not count", name)
		}
		for _, n := range []int{-1, 0, 1, 129, 1 << 30} {
			if m.Has(n) || m.Text(n) != "" || iso.Name(n) != "" {
				t.Errorf("%s: field %d", name, n)
			}
			m.Unset(n)
		}
	}
	a, b := iso.New("0210"), iso.New("0200")
	b.Set(iso.Trace, "000001")
	a.Copy(b, iso.Trace, iso.Terminal)
	if a.Text(iso.Trace) != "000001" || a.Has(iso.Terminal) {
		t.Error("Copy")
	}
	if n, err := a.CardNumber(); err != nil || !n.IsZero() {
		t.Error("no card number is the zero PAN")
	}
	a.Set(iso.PAN, "123")
	if _, err := a.CardNumber(); err == nil || strings.Contains(err.Error(), "123") {
		t.Errorf("short card number: %v", err)
	}
}

// full is a message with something secret in each field; only the allowed ones may be seen.
func full() (*iso.Message, []string) {
	m := iso.New("0200")
	var secrets []string
	for n := 2; n <= iso.MaxField; n++ {
		s := fmt.Sprintf("S3CR3T-%03d-%s", n, strings.Repeat("x", 30))
		m.Set(n, s)
		secrets = append(secrets, fmt.Sprintf("S3CR3T-%03d", n))
	}
	m.Set(iso.PAN, "6222020000000000018")
	m.Set(iso.Track2, "6222020000000000018=30122010000012345")
	m.Set(iso.Expiry, "3012")
	m.Set(iso.PINBlock, "\xC9\xB3\x84\x9C\xDA\x47\x53\x68")
	return m, append(secrets, "6222020000000000018", "30122010000012345", "3012", "\xC9\xB3", "c9b3849c", "0000000000")
}

// holder has messages where fmt cannot call their methods.
type holder struct {
	pointer *iso.Message
	value   iso.Message
}

func TestNothingPrintsASecret(t *testing.T) {
	t.Parallel()
	m, secrets := full()
	h := holder{pointer: m, value: *m}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o", "%c", "%U", "%e", "%p", "%t", "% x", "%60v"} {
		for _, v := range []any{m, *m, h, &h, []*iso.Message{m}, []iso.Message{*m}, map[int]*iso.Message{1: m}, &iso.DecodeError{Field: 2, Reason: iso.Short, Partial: m}} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
	}
	for _, v := range []any{m, *m, h, &iso.DecodeError{Partial: m}} {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(b)
	}
	slog.New(slog.NewJSONHandler(&out, nil)).Info("m", "m", m, "h", h)
	slog.New(slog.NewTextHandler(&out, nil)).Info("m", "m", m, "h", h)
	out.WriteString(m.Dump())
	all := strings.ToLower(out.String())
	for _, s := range secrets {
		for _, form := range []string{s, hex.EncodeToString([]byte(s)), strings.Trim(fmt.Sprint([]byte(s)), "[]")} {
			if strings.Contains(all, strings.ToLower(form)) {
				t.Fatalf("a field was printed in the form %q", form)
			}
		}
	}
	if !strings.Contains(all, "622202*********0018") {
		t.Error("the masked card number is nowhere to be seen")
	}
}

func TestDump(t *testing.T) {
	t.Parallel()
	m := iso.New("0200")
	m.Set(iso.PAN, "6222020000000000018")
	m.Set(iso.Amount, "000000012345")
	m.Set(iso.Expiry, "3012")
	m.Set(iso.Terminal, "10000001")
	m.SetBytes(iso.PINBlock, make([]byte, 8))
	m.Set(iso.SecurityControl, "2600000000000000")
	m.Set(iso.Private60, "22000001000")
	m.Set(99, "1")
	want := strings.Join([]string{
		"MTI 0200",
		"  2 primary account number 622202*********0018",
		"  4 amount                 000000012345",
		" 14 expiry                 ***(4)",
		" 41 terminal               10000001",
		" 52 PIN block              ***(8)",
		" 53 security control       2600000000000000",
		" 60 type, batch, network   22000001000",
		" 99 unknown                ***(1)",
	}, "\n")
	want = strings.Replace(want, "type, batch, network", "private 60          ", 1)
	if got := m.Dump(); got != want {
		t.Errorf("dump is\n%s\nwant\n%s", got, want)
	}
	// Values that do not have their field's shape are hidden, and no line can be forged.
	for n, value := range map[int]string{
		iso.Terminal: "1000\n  2", iso.Trace: "6222020000000000018", iso.Private60: "free text", iso.SecurityControl: "6222020000000018",
		iso.PAN: "12345678901D", iso.OriginalData: strings.Repeat("1", 43),
	} {
		m := iso.New("02\n0")
		m.Set(n, value)
		if got := m.String(); strings.Contains(got, value) || !strings.HasPrefix(got, "???? ") {
			t.Errorf("field %d of a wrong shape shows: %q", n, got)
		}
	}
	var none *iso.Message
	if fmt.Sprint(none) == "" {
		t.Error("nil prints nothing")
	}
}

func TestAmounts(t *testing.T) {
	t.Parallel()
	for fen, want := range map[int64]string{0: "000000000000", 1: "000000000001", 123456: "000000123456", 999999999999: "999999999999"} {
		got, err := iso.FormatAmount(fen)
		if err != nil || got != want {
			t.Errorf("%d: %q, %v", fen, got, err)
		}
		if back, err := iso.ParseAmount(want); err != nil || back != fen {
			t.Errorf("%s: %d, %v", want, back, err)
		}
	}
	for _, fen := range []int64{-1, 1_000_000_000_000} {
		if _, err := iso.FormatAmount(fen); err == nil {
			t.Errorf("%d is accepted", fen)
		}
	}
	for _, s := range []string{"", "1", "0000000000001", "00000000000A", "-00000000001"} {
		if _, err := iso.ParseAmount(s); err == nil {
			t.Errorf("%q is accepted", s)
		}
	}
}

func TestAnswerMTI(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"0200": "0210", "0100": "0110", "0220": "0230", "0400": "0410", "0401": "0410", "0800": "0810", "0820": "0830", "0920": "0930", "0620": "0630"} {
		if got, ok := iso.AnswerMTI(in); !ok || got != want {
			t.Errorf("%s: %s", in, got)
		}
	}
	for _, in := range []string{"", "0210", "0830", "02A0", "02000"} {
		if got, ok := iso.AnswerMTI(in); ok {
			t.Errorf("%q: %s", in, got)
		}
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	err := fmt.Errorf("outer: %w", &iso.DecodeError{Field: 55, Reason: iso.LengthOverMax, Partial: iso.New("")})
	if !errors.Is(err, iso.LengthOverMax) || err.Error() != "outer: decode message: field 55: length-over-max" {
		t.Error(err)
	}
	if got := (&iso.EncodeError{Reason: iso.BadMTI}).Error(); got != "encode message: mti: bad-mti" {
		t.Error(got)
	}
}

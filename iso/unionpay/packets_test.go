package unionpay

import (
	"bytes"
	"testing"

	"github.com/moov-io/iso8583"

	"github.com/keyward/keyward/iso"
)

// TestPublicPackets decodes each public packet to its known fields and encodes it to the same bytes.
func TestPublicPackets(t *testing.T) {
	t.Parallel()
	for _, e := range examples(t) {
		t.Run(e.id, func(t *testing.T) {
			t.Parallel()
			p, err := Parse(e.frame)
			if err != nil {
				t.Fatal(err)
			}
			if p.Message.MTI() != e.mti {
				t.Errorf("MTI %s, want %s", p.Message.MTI(), e.mti)
			}
			if got, want := len(p.Message.Fields()), len(e.fields); got != want || want == 0 {
				t.Errorf("%d fields, want %d", got, want)
			}
			for n, want := range e.fields {
				if got, ok := p.Message.Get(n); !ok || got != want {
					t.Errorf("field %d differs (there: %v, %d bytes, want %d)", n, ok, len(got), len(want))
				}
			}
			again, err := p.Encode()
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(again, e.frame) {
				t.Error("encoding gives other bytes")
			}
		})
	}
}

// TestMoovAgrees runs the same spec through moov's own message: the oracle for our table runner.
func TestMoovAgrees(t *testing.T) {
	t.Parallel()
	spec := Spec()
	if err := spec.Validate(); err != nil { // NewMessage panics on a bad spec.
		t.Fatal(err)
	}
	for _, e := range examples(t) {
		body := e.frame[tpduLen+headerLen:]
		theirs := iso8583.NewMessage(spec)
		if err := theirs.Unpack(bytes.Clone(body)); err != nil {
			t.Fatalf("packet %s: moov refuses it", e.id)
		}
		ours, err := table.Decode(body)
		if err != nil {
			t.Fatal(err)
		}
		for n := range spec.Fields {
			if n < 2 {
				continue
			}
			want, err := theirs.GetString(n)
			if err != nil {
				t.Fatalf("packet %s field %d: moov cannot read it", e.id, n)
			}
			if ours.Text(n) != want || ours.Has(n) != (theirs.GetField(n) != nil) {
				t.Errorf("packet %s field %d: moov reads something else", e.id, n)
			}
		}
		packed, err := theirs.Pack()
		if err != nil {
			t.Fatalf("packet %s: moov cannot pack it", e.id)
		}
		if !bytes.Equal(packed, body) {
			t.Errorf("packet %s: moov packs other bytes", e.id)
		}
	}
}

// TestPadNibble accepts any pad nibble after an odd number of digits and writes 0 (facts/unionpay.md §1).
func TestPadNibble(t *testing.T) {
	t.Parallel()
	e := find(t, "1")
	frame := bytes.Clone(e.frame)
	at := bytes.Index(frame, unhex(t, "0011000005190030"))
	if at < 0 {
		t.Fatal("field 60 not found")
	}
	frame[at+7] |= 0x0F
	p, err := Parse(frame)
	if err != nil {
		t.Fatal(err)
	}
	if got := p.Message.Text(iso.Private60); got != "00000519003" {
		t.Errorf("field 60 is %q", got)
	}
	again, err := p.Encode()
	if err != nil || !bytes.Equal(again, e.frame) {
		t.Errorf("the pad nibble is not written as 0 (%v)", err)
	}
}

// TestDecodeKeepsNothing changes the input after decoding.
func TestDecodeKeepsNothing(t *testing.T) {
	t.Parallel()
	e := find(t, "11")
	frame := bytes.Clone(e.frame)
	p, err := Parse(frame)
	if err != nil {
		t.Fatal(err)
	}
	clear(frame)
	for n, want := range e.fields {
		if p.Message.Text(n) != want {
			t.Errorf("field %d changed with the caller's buffer", n)
		}
	}
}

// TestMaxFrame holds the longest possible message against MaxFrame.
func TestMaxFrame(t *testing.T) {
	t.Parallel()
	m := iso.New("0200")
	for n, f := range Spec().Fields {
		if n < 2 {
			continue
		}
		m.Set(n, string(bytes.Repeat([]byte("1"), f.Spec().Length)))
	}
	frame, err := (&Packet{Message: m}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	if total := len(frame) + callerIDLen; total > MaxFrame || total < MaxFrame/2 {
		t.Errorf("the longest frame has %d bytes, MaxFrame is %d", total, MaxFrame)
	}
}

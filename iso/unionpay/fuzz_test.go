package unionpay

import (
	"bytes"
	"errors"
	"testing"

	"github.com/moov-io/iso8583"

	"github.com/keyward/keyward/iso"
)

// seed adds every public packet and a made-up purchase.
func seed(f *testing.F) {
	for _, e := range examples(f) {
		f.Add(e.frame)
	}
	f.Add(encoded(f, purchase()))
	f.Add(withCallerID(encoded(f, purchase())))
}

// FuzzParse: no panic; every error is of one of the two classes; what parses encodes to an equal message; moov reads the same bytes.
func FuzzParse(f *testing.F) {
	seed(f)
	spec := Spec()
	f.Fuzz(func(t *testing.T, frame []byte) {
		before := bytes.Clone(frame)
		p, err := Parse(frame, AllowCallerID)
		if !bytes.Equal(before, frame) {
			t.Fatal("Parse changed its input")
		}
		if err != nil {
			var d *iso.DecodeError
			switch {
			case errors.Is(err, ErrFraming):
				if p != nil {
					t.Fatal("a framing fault comes with a packet")
				}
			case !errors.As(err, &d) || p == nil || p.Message == nil || d.Partial == nil:
				t.Fatalf("error of no class: %v", err)
			}
			return
		}
		p.CallerID = nil
		again, err := p.Encode()
		if err != nil {
			t.Fatalf("what was parsed cannot be encoded: %v", err)
		}
		back, err := Parse(again)
		if err != nil {
			t.Fatalf("what was encoded cannot be parsed: %v", err)
		}
		if !back.Message.Equal(p.Message) || back.TPDU != p.TPDU || back.Header != p.Header {
			t.Fatal("the round trip changes the packet")
		}
		theirs := iso8583.NewMessage(spec)
		if err := theirs.Unpack(again[tpduLen+headerLen:]); err != nil {
			t.Fatal("moov refuses what we wrote")
		}
		_ = p.Message.Dump()
	})
}

// FuzzMAB: no panic; the result is the frame without front and MAC.
func FuzzMAB(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, frame []byte) {
		mab, err := MAB(frame)
		if err != nil {
			if !errors.Is(err, ErrFraming) && !errors.Is(err, ErrNoMAC) {
				t.Fatalf("error of no class: %v", err)
			}
			return
		}
		if !bytes.HasSuffix(frame[:len(frame)-macLen], mab) || len(mab) < mtiLen+bitmapLen {
			t.Fatal("the MAB is not the part before the MAC")
		}
		if p, err := Parse(frame, AllowCallerID); err == nil && !p.Message.Has(iso.MAC) {
			t.Fatal("a MAB without field 64")
		}
		_, _ = Fold(mab), FoldSM4(mab)
	})
}

func FuzzF60(f *testing.F) {
	for _, e := range examples(f) {
		f.Add(e.fields[iso.Private60])
	}
	f.Add("22006603000601048")
	f.Fuzz(func(t *testing.T, s string) {
		if v, err := ParseF60(s); err == nil && v.String() != s {
			t.Fatal("field 60 changes on the way")
		}
		if v, err := ParseF61(s); err == nil && v.String() != s {
			t.Fatal("field 61 changes on the way")
		}
	})
}

func FuzzKeyBlock(f *testing.F) {
	for _, s := range []string{fixture60, fixtureSM4, fixture60[:80]} {
		f.Add(unhex(f, s))
	}
	f.Add(bytes.Repeat([]byte{7}, block24))
	f.Add([]byte(find(f, "1").fields[iso.Private62]))
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := ParseKeyBlock(data)
		if err != nil {
			if !errors.Is(err, ErrKeyBlock) {
				t.Fatalf("error of no class: %v", err)
			}
			return
		}
		again, err := b.Encode()
		if err != nil || !bytes.Equal(again, data) {
			t.Fatalf("the key block changes on the way (%v)", err)
		}
	})
}

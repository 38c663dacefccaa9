package core

import (
	"errors"
	"testing"

	"github.com/keyward/keyward/iso"
)

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

package unionpay

import (
	"testing"

	"github.com/moov-io/iso8583"

	"github.com/keyward/keyward/iso"
)

// benchFrame is a purchase of exactly the size of facts/platform.md "ISO 8583".
func benchFrame(b *testing.B) []byte {
	frame := encoded(b, purchase())
	if len(frame) != 269 {
		b.Fatalf("the purchase has %d bytes, want 269", len(frame))
	}
	return frame
}

func BenchmarkParse(b *testing.B) {
	frame := benchFrame(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(frame); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	p, err := Parse(benchFrame(b))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.Encode(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkFold(b *testing.B) {
	mab, err := MAB(benchFrame(b))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		_ = Fold(mab)
	}
}

// BenchmarkMoovUnpack is moov's own message with the same spec, for comparison.
func BenchmarkMoovUnpack(b *testing.B) {
	body := benchFrame(b)[tpduLen+headerLen:]
	spec := Spec()
	b.ReportAllocs()
	for b.Loop() {
		m := iso8583.NewMessage(spec)
		if err := m.Unpack(body); err != nil {
			b.Fatal("moov refuses the purchase")
		}
	}
}

func BenchmarkDump(b *testing.B) {
	m := iso.New("0200")
	m.Set(iso.PAN, "6222020000000000018")
	m.Set(iso.Terminal, "10000001")
	b.ReportAllocs()
	for b.Loop() {
		_ = m.String()
	}
}

package posp_test

import (
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyward/keyward/internal/vectors"
	"github.com/keyward/keyward/iso"
	"github.com/keyward/keyward/iso/unionpay"
)

// TestMalformed sends every broken message of the vectors and more: each is answered 30 with fields 11, 41 and 42 as far as they could be
// read, and a good transaction follows on the same connection.
func TestMalformed(t *testing.T) {
	t.Parallel()
	s, w := signedOn(t)
	frames := map[string][]byte{}
	group := vectors.Load(t, "iso8583.json").Group(t, "unionpay_bad")
	for _, v := range group {
		message, err := hex.DecodeString(fmt.Sprint(v.In["message"]))
		if err != nil {
			t.Fatal(err)
		}
		frames[v.ID+" "+v.Source] = message
	}
	good := w.plain(w.sale(1, nil))
	for cut := 11; cut < len(good); cut += 3 {
		frames[fmt.Sprintf("cut at %d", cut)] = good[:cut]
	}
	for _, mti := range []string{"0A00", "FFFF"} {
		frame := append([]byte(nil), good...)
		copy(frame[11:], unhex(mti))
		frames["MTI "+mti] = frame
	}
	frames["longest"] = append(append([]byte(nil), good...), make([]byte, unionpay.MaxFrame-len(good))...)
	count := 0
	for name, frame := range frames {
		t.Run(name, func(t *testing.T) {
			w.t = t
			decoded, err := unionpay.Parse(frame)
			if err == nil || decoded == nil {
				t.Fatalf("this message is no use here: %v", err)
			}
			answer := w.ask(frame)
			wantCode(t, answer, "30")
			for _, field := range []int{iso.Trace, iso.Terminal, iso.Merchant} {
				if got, want := answer.Message.Text(field), decoded.Message.Text(field); got != want {
					t.Errorf("field %d is %q, decoded was %q", field, got, want)
				}
			}
			if answer.TPDU != decoded.TPDU.Swap() {
				t.Errorf("TPDU %x", answer.TPDU)
			}
			if count++; count%8 == 0 {
				wantCode(t, w.ask(w.signed(w.sale(1, nil))), "00")
			}
		})
	}
	w.t = t
	wantCode(t, w.ask(w.signed(w.sale(1, nil))), "00")
	if got := s.metric("posp_malformed_total"); int(got) != len(frames) {
		t.Errorf("%v messages counted as malformed, want %d", got, len(frames))
	}
}

// TestFramingFaultsClose: what leaves no doubt that both ends disagree where messages begin is counted and ends the connection.
func TestFramingFaultsClose(t *testing.T) {
	t.Parallel()
	s, w := signedOn(t)
	good := w.plain(w.sale(1, nil))
	changed := func(at int, b byte) []byte {
		frame := append([]byte(nil), good...)
		frame[at] = b
		return append([]byte{byte(len(frame) >> 8), byte(len(frame))}, frame...)
	}
	answerFrame := append([]byte(nil), good...)
	copy(answerFrame[11:], unhex("0210"))
	i := 0
	for name, raw := range map[string][]byte{
		"length zero":          {0, 0},
		"length 65535":         append([]byte{0xFF, 0xFF}, good...),
		"only a TPDU":          append([]byte{0, 5}, good[:5]...),
		"TPDU of another kind": changed(0, 0x61),
		"header of letters":    changed(5, 0xAB),
		"an answer":            append([]byte{byte(len(good) >> 8), byte(len(good))}, answerFrame...),
		"caller id":            append([]byte{0, 60}, append(append(append([]byte(nil), good[:5]...), "LRI\x00\x1C"...), make([]byte, 50)...)...),
		"HTTP":                 []byte("GET / HTTP/1.1\r\n\r\n" + strings.Repeat("x", 20000)),
	} {
		t.Run(name, func(t *testing.T) {
			w.t = t
			w.hangUp()
			before := s.metric("posp_framing_faults_total")
			w.sendRaw(raw)
			w.wantClosed()
			s.await("the count", func() bool { return s.metric("posp_framing_faults_total") == before+1 })
		})
		i++
	}
	w.t = t
	wantCode(t, w.ask(w.signed(w.sale(1, nil))), "00")
}

// metric is the sum of a metric over its labels.
func (s *system) metric(name string) float64 {
	s.t.Helper()
	return gathered(s.t, s.reg, name)
}

func gathered(t testing.TB, reg prometheus.Gatherer, name string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return sum
}

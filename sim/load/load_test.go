package load

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var master = bytes.Repeat([]byte{0x01, 0x23, 0x45, 0x67, 0x89, 0xAB, 0xCD, 0xEF}, 2)

func newTerminal(t *testing.T) *Terminal {
	t.Helper()
	term, err := NewTerminal(Config{TerminalID: "10000001", MerchantID: "104110000000001", MasterKey: master})
	if err != nil {
		t.Fatal(err)
	}
	return term
}

// answerTo makes a sign-on answer with a double-length PIN key and a single-length MAC key.
func answerTo(t *testing.T, term *Terminal, spoil func(keys []byte)) []byte {
	t.Helper()
	pik := bytes.Repeat([]byte{0x10, 0x20, 0x40, 0x80, 0x01, 0x02, 0x04, 0x08}, 2)
	pik[15] = 0x0B
	mak := []byte{0x08, 0x04, 0x02, 0x01, 0x80, 0x40, 0x20, 0x10}
	seal := func(key []byte) (sealed, kcv []byte) {
		k, err := tripleDES(key)
		if err != nil {
			t.Fatal(err)
		}
		sealed, kcv = make([]byte, len(key)), make([]byte, 8)
		for i := 0; i < len(key); i += 8 {
			term.master.Encrypt(sealed[i:], key[i:])
		}
		k.Encrypt(kcv, kcv)
		return sealed, kcv[:4]
	}
	var keys []byte
	sealed, kcv := seal(pik)
	keys = append(append(keys, sealed...), kcv...)
	sealed, kcv = seal(mak)
	keys = append(append(append(keys, sealed...), make([]byte, 8)...), kcv...)
	if spoil != nil {
		spoil(keys)
	}
	var b builder
	b.start("0810", 11, 39, 41, 60, 62)
	b.digits("000001")
	b.text("00" + term.ID())
	b.counted("00" + "000007" + "003")
	b.bytes(string(keys))
	return b.frame()[lengthSize:]
}

func TestSignOnAndPurchase(t *testing.T) {
	t.Parallel()
	term := newTerminal(t)
	frame := term.SignOn()
	if int(frame[0])<<8|int(frame[1]) != len(frame)-2 {
		t.Error("the length is wrong")
	}
	f, err := parse(frame[2:], "0800")
	if err != nil {
		t.Fatal(err)
	}
	if hex.EncodeToString(f[11]) != "000001" || string(f[41]) != "10000001" || hex.EncodeToString(f[60]) != "000000000030" {
		t.Errorf("sign-on: trace %X, terminal %s, field 60 %X", f[11], f[41], f[60])
	}
	if err := term.SignedOn(answerTo(t, term, nil)); err != nil {
		t.Fatal(err)
	}
	first := bytes.Clone(term.Purchase())
	second := term.Purchase()
	f, err = parse(first[2:], "0200")
	if err != nil {
		t.Fatal(err)
	}
	if hex.EncodeToString(f[60]) != "220000070000" || hex.EncodeToString(f[4]) != amount || len(f[52]) != 8 || hex.EncodeToString(f[22]) != "0210" {
		t.Errorf("purchase: field 60 %X, amount %X", f[60], f[4])
	}
	if !bytes.Equal(term.macOf(first[2+prefixSize:len(first)-8]), f[64]) {
		t.Error("the MAC is not that of the frame")
	}
	if bytes.Equal(first, second) || bytes.Equal(first[len(first)-8:], second[len(second)-8:]) {
		t.Error("two purchases are the same")
	}
}

// TestMAC is the example of facts/unionpay.md §4 in its structure: two encryptions of the hex of the XOR. The zero message makes the XOR
// "0000000000000000", whose MAC can be computed by hand.
func TestMAC(t *testing.T) {
	t.Parallel()
	term := newTerminal(t)
	if err := term.SignedOn(firstAnswer(t, term)); err != nil {
		t.Fatal(err)
	}
	zeros := []byte("00000000")
	var once, twice [8]byte
	term.mac.Encrypt(once[:], zeros)
	for i := range once {
		once[i] ^= zeros[i]
	}
	term.mac.Encrypt(twice[:], once[:])
	if got, want := string(term.macOf(make([]byte, 13))), strings.ToUpper(hex.EncodeToString(twice[:4])); got != want {
		t.Errorf("MAC %s, want %s", got, want)
	}
}

func firstAnswer(t *testing.T, term *Terminal) []byte {
	t.Helper()
	term.SignOn()
	return answerTo(t, term, nil)
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	for _, cfg := range []Config{
		{TerminalID: "1", MerchantID: "104110000000001", MasterKey: master},
		{TerminalID: "10000001", MerchantID: "1", MasterKey: master},
		{TerminalID: "10000001", MerchantID: "104110000000001", MasterKey: master[:8]},
	} {
		if _, err := NewTerminal(cfg); err == nil {
			t.Errorf("%v was accepted", cfg)
		}
	}
	cases := []struct {
		name  string
		spoil func(answer []byte) []byte
		want  string
	}{
		{"check value", nil, "check value"},
		{"short", func(a []byte) []byte { return a[:len(a)-1] }, "too early"},
		{"long", func(a []byte) []byte { return append(a, 0) }, "follow"},
		{"message type", func(a []byte) []byte { a[prefixSize+1] = 0x20; return a }, "want 0810"},
		{"trace", func(a []byte) []byte { a[fieldsAt+2] = 9; return a }, "another trace"},
		{"code", func(a []byte) []byte { a[fieldsAt+4] = '6'; return a }, "response code"},
		{"field", func(a []byte) []byte { a[bitmapAt] |= 0x80; return a }, "not expected"},
		{"nothing", func([]byte) []byte { return nil }, "too early"},
	}
	for _, tc := range cases {
		term := newTerminal(t)
		term.SignOn()
		var answer []byte
		if tc.spoil == nil {
			answer = answerTo(t, term, func(keys []byte) { keys[17] ^= 1 })
		} else {
			answer = tc.spoil(answerTo(t, term, nil))
		}
		if err := term.SignedOn(answer); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error %v, want %q", tc.name, err, tc.want)
		}
	}
}

func TestPaidChecksTheMAC(t *testing.T) {
	t.Parallel()
	term := newTerminal(t)
	if err := term.SignedOn(firstAnswer(t, term)); err != nil {
		t.Fatal(err)
	}
	term.Purchase()
	var b builder
	b.start("0210", 11, 39, 41, 64)
	b.digits("000002")
	b.text("00" + term.ID() + "00000000")
	answer := b.frame()[lengthSize:]
	if err := term.Paid(answer); err == nil || !strings.Contains(err.Error(), "MAC") {
		t.Errorf("error %v", err)
	}
	copy(answer[len(answer)-8:], term.macOf(answer[prefixSize:len(answer)-8]))
	if err := term.Paid(answer); err != nil {
		t.Error(err)
	}
}

func TestKeysStayOutOfPrints(t *testing.T) {
	t.Parallel()
	cfg := Config{TerminalID: "10000001", MasterKey: master}
	if s := cfg.String() + cfg.GoString(); strings.Contains(s, "1 35") || strings.Contains(s, "0x") || !strings.Contains(s, "10000001") {
		t.Error(s)
	}
}

// TestDeadFrontEnd checks that a front end that hangs up ends the run with an error, at once.
func TestDeadFrontEnd(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }() // the test is over
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = io.ReadFull(c, make([]byte, 1)) // the first byte of the first message, then the line ends
		_ = c.Close()
	}()
	f, err := NewFleet(t.Context(), l.Addr().String(), 1, []*Terminal{newTerminal(t)})
	if err != nil {
		t.Fatal(err)
	}
	if r := f.Closed(t.Context(), SignOn, 0, time.Minute); r.Failed == nil || r.Done != 0 {
		t.Errorf("result %+v", r)
	}
	f.Close()
	<-ended
	if _, err := NewFleet(t.Context(), l.Addr().String(), 2, []*Terminal{newTerminal(t)}); err == nil {
		t.Error("more connections than terminals")
	}
}

func TestPercentile(t *testing.T) {
	t.Parallel()
	var r Result
	if r.Percentile(0.5) != 0 {
		t.Error("a percentile of nothing")
	}
	for i := 100; i >= 1; i-- {
		r.Latency = append(r.Latency, time.Duration(i))
	}
	if p := r.Percentile(0.99); p != 100 {
		t.Errorf("p99 %d", p)
	}
	if p := r.Percentile(0.5); p != 51 {
		t.Errorf("p50 %d", p)
	}
	r.Done, r.Took = 10, 2*time.Second
	if r.PerSecond() != 5 {
		t.Error(r.PerSecond())
	}
	rec := &recorder{from: time.Now()}
	rec.add(time.Now(), rec.from.Add(-1), nil)
	rec.add(time.Now(), rec.from.Add(1), errors.New("x"))
	rec.add(time.Now(), rec.from.Add(1), nil)
	if rec.result.Done != 1 || rec.result.Failed == nil {
		t.Errorf("%+v", rec.result)
	}
}

func FuzzParse(f *testing.F) {
	var b builder
	b.start("0210", 2, 11, 39, 41, 44, 60, 63)
	b.track("6222020000000000018")
	b.digits("000002")
	b.text("0010000001")
	b.digits("03")
	b.text("abc")
	b.counted("22000007000")
	b.bytes("CUP")
	f.Add(b.frame()[lengthSize:])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		fields, err := parse(data, "0210")
		if err == nil && len(fields) > 64 {
			t.Error("too many fields")
		}
		_, _ = terminalOf(data) // must not panic
	})
}

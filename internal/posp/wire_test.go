package posp_test

import (
	"crypto/cipher"
	"crypto/des" // The algorithm of the terminals under test.
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/keyward/keyward/iso"
	"github.com/keyward/keyward/iso/unionpay"
)

const (
	patience = 15 * time.Second // reached only when something is broken
	track1   = card1 + "=30122201234501234"
)

// workKeys are a terminal's working keys in clear, as only a card would have them.
type workKeys struct{ pik, mak, tdk []byte }

// wire is a terminal made of bare hands: it holds its keys in clear and can send any bytes over a real socket.
type wire struct {
	t        testing.TB
	addr     string
	terminal string
	master   []byte
	conn     net.Conn
	keys     workKeys
	batch    string
	trace    int
	sign     func(key, mab []byte) []byte // the MAC of the terminal's profile
}

func (s *system) wire(t testing.TB, n int) *wire {
	t.Helper()
	w := &wire{
		t: t, addr: s.cfg.Terminals[0].Addr, terminal: fmt.Sprintf("1000%04d", n),
		master: masterKey(t, fmt.Sprintf("6000000000000000%04d", n)), batch: "000000", sign: macOf,
	}
	t.Cleanup(w.hangUp)
	return w
}

// other is the same terminal on another connection.
func (w *wire) other() *wire {
	c := *w
	c.conn = nil
	w.t.Cleanup(c.hangUp)
	return &c
}

func (w *wire) hangUp() {
	if w.conn != nil {
		_ = w.conn.Close()
		w.conn = nil
	}
}

// reset breaks the connection so that the other side's next write fails at once.
func (w *wire) reset() {
	if tcp, ok := w.conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	w.hangUp()
}

// packet begins a message of the terminal with the next trace number.
func (w *wire) packet(mti string, fields map[int]string) *unionpay.Packet {
	w.trace++
	p := &unionpay.Packet{
		TPDU: unionpay.TPDU(unhex("6000030000")), Header: unionpay.Header(unhex("603100310100")), Message: iso.New(mti),
	}
	p.Message.Set(iso.Trace, fmt.Sprintf("%06d", w.trace))
	p.Message.Set(iso.Terminal, w.terminal)
	p.Message.Set(iso.Merchant, merchantID)
	set(p, fields)
	return p
}

// set changes fields of a packet; the value "-" takes a field away.
func set(p *unionpay.Packet, fields map[int]string) {
	for field, value := range fields {
		if value == "-" {
			p.Message.Unset(field)
		} else {
			p.Message.Set(field, value)
		}
	}
}

// sale is a purchase by track 2 without PIN.
func (w *wire) sale(fen int, change map[int]string) *unionpay.Packet {
	fields := map[int]string{
		iso.ProcessingCode: "000000", iso.Amount: fmt.Sprintf("%012d", fen), iso.EntryMode: "022", iso.ConditionCode: "00",
		iso.Track2: track1, iso.Currency: "156", iso.SecurityControl: "0600000000000000", iso.Private60: "22" + w.batch + "000",
	}
	maps.Copy(fields, change)
	return w.packet("0200", fields)
}

// undo is the reversal of a sale.
func (w *wire) undo(of *unionpay.Packet, change map[int]string) *unionpay.Packet {
	p := w.packet("0400", nil)
	w.trace--
	p.Message.Copy(of.Message, iso.ProcessingCode, iso.Amount, iso.Trace, iso.EntryMode, iso.ConditionCode, iso.Track2, iso.Currency, iso.SecurityControl, iso.Private60)
	p.Message.Set(iso.ResponseCode, "98")
	set(p, change)
	return p
}

func (w *wire) signOnPacket(code string) *unionpay.Packet {
	return w.packet("0800", map[int]string{iso.Private60: "00" + w.batch + code, iso.Private62: "Sequence No1230601000" + w.terminal[4:], iso.Private63: "001"})
}

// signOn fetches keys and takes them into use.
func (w *wire) signOn(code string) *unionpay.Packet {
	w.t.Helper()
	answer := w.ask(w.plain(w.signOnPacket(code)))
	wantCode(w.t, answer, "00")
	w.adopt(answer)
	return answer
}

// adopt deciphers the keys of a 0810 under the master key and checks their check values as a card does.
func (w *wire) adopt(answer *unionpay.Packet) {
	w.t.Helper()
	block, _ := answer.Message.Bytes(iso.Private62)
	size := 16
	if len(block) == 24 {
		size = 8
	}
	var got [][]byte
	for ; len(block) >= size+4; block = block[size+4:] {
		key := make([]byte, size)
		if strings.Trim(string(block[8:size]), "\x00") == "" {
			key = key[:8]
		}
		ecb(w.master, key, block, false)
		check := make([]byte, 8)
		ecb(key, check, check, true)
		if hex.EncodeToString(check[:4]) != hex.EncodeToString(block[size:size+4]) {
			w.t.Fatal("a check value of the sign-on answer is wrong")
		}
		got = append(got, key)
	}
	if len(block) != 0 || len(got) < 2 {
		w.t.Fatalf("%d keys and %d bytes more in field 62", len(got), len(block))
	}
	w.keys = workKeys{pik: got[0], mak: got[1]}
	if len(got) > 2 {
		w.keys.tdk = got[2]
	}
	w.batch = answer.Message.Text(iso.Private60)[2:8]
}

// ecb works on as many whole blocks as dst has.
func ecb(key, dst, src []byte, encipher bool) {
	block := desCipher(key)
	for at := 0; at+8 <= len(dst); at += 8 {
		if encipher {
			block.Encrypt(dst[at:], src[at:])
		} else {
			block.Decrypt(dst[at:], src[at:])
		}
	}
}

func desCipher(key []byte) cipher.Block {
	if len(key) == 8 {
		key = append(append(append([]byte(nil), key...), key...), key...)
	} else {
		key = append(append([]byte(nil), key...), key[:8]...)
	}
	block, err := des.NewTripleDESCipher(key)
	if err != nil {
		panic(err)
	}
	return block
}

// macOf is field 64 over a MAB (facts/unionpay.md §4).
func macOf(key, mab []byte) []byte {
	folded := unionpay.Fold(mab)
	x := make([]byte, 8)
	block := desCipher(key)
	for at := 0; at < 16; at += 8 {
		for i := range x {
			x[i] ^= folded[at+i]
		}
		block.Encrypt(x, x)
	}
	return []byte(strings.ToUpper(hex.EncodeToString(x[:4])))
}

// pinBlock is field 52 for a card and PIN.
func (w *wire) pinBlock(pan, pin string) string {
	block := unhex(fmt.Sprintf("%02d%s%s", len(pin), pin, strings.Repeat("F", 14-len(pin))))
	for i, b := range unhex("0000" + pan[len(pan)-13:len(pan)-1]) {
		block[i] ^= b
	}
	ecb(w.keys.pik, block, block, true)
	return string(block)
}

// sealTrack enciphers the part of a track that facts/unionpay.md §5 names.
func (w *wire) sealTrack(track string) string {
	digits := strings.ReplaceAll(track, "=", "D")
	to := len(digits) - 2 + len(digits)%2
	part := unhex(digits[to-16 : to])
	ecb(w.keys.tdk, part, part, true)
	return strings.ReplaceAll(digits[:to-16]+strings.ToUpper(hex.EncodeToString(part))+digits[to:], "D", "=")
}

// plain is the frame of a packet as it stands.
func (w *wire) plain(p *unionpay.Packet) []byte {
	w.t.Helper()
	frame, err := p.Encode()
	if err != nil {
		w.t.Fatal(err)
	}
	return frame
}

// signed is the frame of a packet with its MAC.
func (w *wire) signed(p *unionpay.Packet) []byte {
	w.t.Helper()
	frame, mab, err := p.EncodeForMAC()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := unionpay.SetMAC(frame, w.sign(w.keys.mak, mab)); err != nil {
		w.t.Fatal(err)
	}
	return frame
}

// send writes one frame.
func (w *wire) send(frame []byte) {
	w.t.Helper()
	w.sendRaw(append([]byte{byte(len(frame) >> 8), byte(len(frame))}, frame...))
}

func (w *wire) sendRaw(b []byte) {
	w.t.Helper()
	if w.conn == nil {
		conn, err := net.Dial("tcp", w.addr)
		if err != nil {
			w.t.Fatal(err)
		}
		w.conn = conn
	}
	_ = w.conn.SetDeadline(time.Now().Add(patience))
	if _, err := w.conn.Write(b); err != nil {
		w.t.Fatal(err)
	}
}

// read takes one frame; io.EOF when the other side has closed the connection.
func (w *wire) read() ([]byte, error) {
	var n [2]byte
	if _, err := io.ReadFull(w.conn, n[:]); err != nil {
		return nil, err
	}
	frame := make([]byte, int(n[0])<<8|int(n[1]))
	_, err := io.ReadFull(w.conn, frame)
	return frame, err
}

// ask sends a frame and decodes the answer to it.
func (w *wire) ask(frame []byte) *unionpay.Packet {
	w.t.Helper()
	w.send(frame)
	return w.answer()
}

// answer takes the next answer, and checks its MAC where it has one.
func (w *wire) answer() *unionpay.Packet {
	w.t.Helper()
	raw, err := w.read()
	if err != nil {
		w.t.Fatalf("no answer: %v", err)
	}
	p, err := unionpay.Parse(raw)
	if err != nil {
		w.t.Fatalf("answer: %v", err)
	}
	if mac, ok := p.Message.Bytes(iso.MAC); ok {
		mab, err := unionpay.MAB(raw)
		if err != nil || string(w.sign(w.keys.mak, mab)) != string(mac) {
			w.t.Fatalf("the MAC of the answer is wrong (%v): %v", err, p.Message)
		}
	} else if p.Message.MTI() != "0810" && p.Message.MTI() != "0830" && p.Message.Text(iso.ResponseCode) == "00" {
		w.t.Fatalf("an approval without MAC: %v", p.Message)
	}
	return p
}

// wantClosed expects that the other side closes the connection without an answer.
func (w *wire) wantClosed() {
	w.t.Helper()
	if got, err := w.read(); err == nil || errors.Is(err, io.ErrUnexpectedEOF) {
		w.t.Fatalf("an answer of %d bytes, want a closed connection", len(got))
	} else if ne, ok := err.(net.Error); ok && ne.Timeout() { //nolint:errorlint // a read error of net is one itself
		w.t.Fatal("the connection stays open")
	}
	w.conn = nil
}

func wantCode(t testing.TB, p *unionpay.Packet, code string) {
	t.Helper()
	if got := p.Message.Text(iso.ResponseCode); got != code {
		t.Fatalf("code %q, want %q: %v", got, code, p.Message)
	}
}

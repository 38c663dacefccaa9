package pos

import (
	"bytes"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyward/keyward/sim/psam"
	"github.com/keyward/keyward/sim/psam/psamtest"
)

const (
	testTerminal = "10000001"
	testMerchant = "104110000000001"
	testPSAM     = "60000000000000000001"
	testPAN      = "6222020000000000018"
	testPIN      = "123456"
)

var (
	testTransport = bytes.Repeat([]byte{0x33}, 16)
	testRoot      = []byte{0x01, 0x23, 0x45, 0x67, 0x89, 0xAB, 0xCD, 0xEF, 0xFE, 0xDC, 0xBA, 0x98, 0x76, 0x54, 0x32, 0x10}
	testPIK       = []byte{0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0A, 0x0B, 0x0C, 0x0D, 0x0E, 0x0F, 0x10}
	testMAK       = []byte{0xA1, 0xA2, 0xA3, 0xA4, 0xA5, 0xA6, 0xA7, 0xA8}
	testTDK       = []byte{0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, 0x19, 0x1A, 0x1B, 0x1C, 0x1D, 0x1E, 0x1F, 0x20}
)

// issuedCard is a personalised card with the terminal master key testRoot.
func issuedCard(tb testing.TB) *psam.Card {
	tb.Helper()
	card, err := psam.NewBlank(testPSAM, testTransport)
	if err != nil {
		tb.Fatal(err)
	}
	psamtest.Issue(tb, card, testTransport, testRoot, nil)
	return card
}

// host is a scripted POSP on a real socket. By default it is honest; script may answer a request otherwise.
type host struct {
	tb       testing.TB
	listener net.Listener
	wg       sync.WaitGroup
	mu       sync.Mutex
	conns    map[net.Conn]bool
	script   func(request packet) (frame []byte, hangUp bool)
	seen     []packet
	batch    string
}

func startHost(tb testing.TB) *host {
	tb.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	h := &host{tb: tb, listener: listener, conns: map[net.Conn]bool{}, batch: "000001"}
	h.wg.Go(h.accept)
	tb.Cleanup(h.stop)
	return h
}

func (h *host) accept() {
	for {
		conn, err := h.listener.Accept()
		if err != nil {
			return
		}
		h.mu.Lock()
		h.conns[conn] = true
		h.mu.Unlock()
		h.wg.Go(func() { h.serve(conn) })
	}
}

func (h *host) stop() {
	_ = h.listener.Close()
	h.mu.Lock()
	for conn := range h.conns {
		_ = conn.Close()
	}
	h.mu.Unlock()
	h.wg.Wait()
}

func (h *host) serve(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	for {
		got, err := readAnswer(conn)
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) && !strings.Contains(err.Error(), "reset") {
				h.tb.Errorf("host: %v", err)
			}
			return
		}
		h.mu.Lock()
		script := h.script
		h.seen = append(h.seen, got.packet)
		h.mu.Unlock()
		if mac, ok := got.packet.fields[64]; ok && mac != hostMAC(h.tb, testMAK, got.mab) {
			h.tb.Errorf("host: MAC of a %s is wrong", got.packet.mti)
		}
		var frame []byte
		hangUp := false
		if script != nil {
			frame, hangUp = script(got.packet)
		} else {
			frame = h.honest(got.packet)
		}
		if _, err := conn.Write(frame); err != nil || hangUp {
			return
		}
	}
}

// on sets how the host answers from now on; nil is honest.
func (h *host) on(script func(packet) ([]byte, bool)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.script = script
}

// requests are the MTIs seen so far, for example "0800 0200 0400".
func (h *host) requests() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var list []string
	for _, p := range h.seen {
		list = append(list, p.mti)
	}
	return strings.Join(list, " ")
}

func (h *host) last() packet {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.seen[len(h.seen)-1]
}

// reply is the answer to a request before its MAC.
func (h *host) reply(request packet, code string) packet {
	p := newPacket(answerMTI(request.mti))
	p.tpdu, p.header = "6000000003", request.header
	for _, n := range []int{3, 4, 11, 25, 41, 42, 49} {
		if v, ok := request.fields[n]; ok {
			p.fields[n] = v
		}
	}
	p.fields[12], p.fields[13], p.fields[32], p.fields[37], p.fields[39] = "101530", "0809", "00085500", "101530000001", code
	p.fields[60] = request.fields[60][:2] + h.batch + request.fields[60][8:]
	switch {
	case request.mti == "0800" && code == "00":
		p.fields[62] = string(signOnKeys(h.tb, request.fields[60][8:11]))
	case request.fields[3] == "310000" && code == "00":
		p.fields[54] = "1001156C000000100000"
	case (request.mti == "0100" || request.mti == "0200" || request.mti == "0220") && code == "00":
		p.fields[38], p.fields[63] = "A12345", "CUP"
	}
	return p
}

func (h *host) honest(request packet) []byte {
	return h.sealed(h.reply(request, "00"), testMAK)
}

// sealed is the frame of an answer, with a MAC where the type carries one.
func (h *host) sealed(p packet, mak []byte) []byte {
	if slices.Contains([]string{"0110", "0210", "0230", "0410", "0630"}, p.mti) {
		mab, err := p.body(true)
		if err != nil {
			h.tb.Error(err)
		}
		p.fields[64] = hostMAC(h.tb, mak, mab)
	}
	return h.frame(p)
}

func (h *host) frame(p packet) []byte {
	frame, err := p.frame()
	if err != nil {
		h.tb.Error(err)
	}
	return frame
}

// signOnKeys is F62 of an answer for a scheme.
func signOnKeys(tb testing.TB, scheme string) []byte {
	record := func(key []byte) []byte { return psamtest.Record(tb, psamtest.TDES, testRoot, key) }
	if scheme == "001" {
		return append(record(testPIK[:8]), record(testMAK)...)
	}
	mak := record(testMAK)
	out := append(record(testPIK), mak[:8]...)
	out = append(append(out, make([]byte, 8)...), mak[8:]...)
	if scheme == "004" {
		out = append(out, record(testTDK)...)
	}
	return out
}

// hostMAC is the ECB MAC of facts/unionpay.md §4 with the test's own arithmetic.
func hostMAC(tb testing.TB, mak, mab []byte) string {
	sum := make([]byte, 8)
	for i, b := range mab {
		sum[i%8] ^= b
	}
	alg := psamtest.TDES
	if len(mak) == 8 {
		alg = psamtest.DES
	}
	characters := hexText(sum)
	e := psamtest.Encipher(tb, alg, mak, []byte(characters[:8]))
	for i := range e {
		e[i] ^= characters[8+i]
	}
	return hexText(psamtest.Encipher(tb, alg, mak, e))[:8]
}

// testConfig is a terminal on the host with a fresh card. Time-outs are short, because the tests that run into them wait
// them out.
func testConfig(tb testing.TB, h *host) Config {
	tb.Helper()
	return Config{
		TerminalID: testTerminal, MerchantID: testMerchant, PSAM: testPSAM, Card: issuedCard(tb),
		POSP: h.listener.Addr().String(), Timeout: 5 * time.Second, DialTimeout: time.Second,
	}
}

func newTerminal(tb testing.TB, cfg Config) *Terminal {
	tb.Helper()
	terminal, err := New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	return terminal
}

// signedOn is a terminal after a sign-on.
func signedOn(tb testing.TB, cfg Config) *Terminal {
	tb.Helper()
	terminal := newTerminal(tb, cfg)
	if r := terminal.SignOn(tb.Context()); r.Outcome != OutcomeApproved || !r.SignedOn {
		tb.Fatalf("sign-on: %s %s", r.Outcome, r.Error)
	}
	tb.Cleanup(func() { terminal.hangUp() })
	return terminal
}

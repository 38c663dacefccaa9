package bank

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The zone keys and the card of the tests.
const (
	testZPK = "0123456789ABCDEFFEDCBA9876543210"
	testZAK = "76850752AD7307ADE554D06D3BA73279"
	card1   = "6222020000000000018" // PIN 123456.
	card2   = "6222020000000000026" // PIN 654321.
	card3   = "6222020000000000034" // No PIN set.

	opening = int64(1_000_000_00)
	patient = 10 * time.Second // Bounds every wait of a test; reached only when something is broken.
)

func unhex(tb testing.TB, s string) []byte {
	tb.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// newBank starts a bank on a free port and stops it at the end of the test.
func newBank(tb testing.TB, change ...func(*Config)) *Bank {
	tb.Helper()
	cfg := Config{
		Addr: "127.0.0.1:0", ZPK: unhex(tb, testZPK), ZAK: unhex(tb, testZAK),
		Now: func() time.Time { return time.Date(2026, 3, 9, 23, 30, 0, 0, time.UTC) },
	}
	for _, c := range change {
		c(&cfg)
	}
	b, err := New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	if err := b.Start(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { stop(tb, b) })
	return b
}

func stop(tb testing.TB, b *Bank) {
	tb.Helper()
	// The test's own context has ended when cleanups run.
	done := make(chan error, 1)
	ctx, cancel := contextFor()
	defer cancel()
	go func() { done <- b.Stop(ctx) }()
	if err := <-done; err != nil {
		tb.Error(err)
	}
}

// fields is a message of the test client: values as text, lengths added when it is packed.
type fields map[int]string

func (f fields) with(changes ...any) fields {
	out := maps.Clone(f)
	for i := 0; i < len(changes); i += 2 {
		field := changes[i].(int)
		if changes[i+1] == nil {
			delete(out, field)
			continue
		}
		out[field] = changes[i+1].(string)
	}
	return out
}

// prefixes are the digits of the length in front of a field, written down from docs/dialect-core.md §3 a second time.
var prefixes = map[int]int{2: 2, 32: 2, 35: 2, 44: 2, 36: 3, 48: 3, 54: 3, 55: 3, 60: 3}

// sizes are the characters of the fixed fields that answers hold.
var sizes = map[int]int{
	3: 6, 4: 12, 7: 10, 11: 6, 12: 6, 13: 4, 15: 4, 37: 12, 38: 6, 39: 2, 41: 8, 42: 15, 49: 3, 70: 3, 128: 16,
}

// rawMessage packs MTI, bitmaps and fields as they are, without a MAC.
func rawMessage(mti string, f fields) []byte {
	var bitmap [16]byte
	var body strings.Builder
	for _, field := range slices.Sorted(maps.Keys(f)) {
		bitmap[(field-1)/8] |= 0x80 >> ((field - 1) % 8)
		if field > 64 {
			bitmap[0] |= 0x80
		}
		if n := prefixes[field]; n > 0 {
			fmt.Fprintf(&body, "%0*d", n, len(f[field]))
		}
		body.WriteString(f[field])
	}
	return []byte(mti + strings.ToUpper(hex.EncodeToString(bitmap[:])) + body.String())
}

// pack makes a message with a right MAC.
func pack(tb testing.TB, mti string, f fields) []byte {
	tb.Helper()
	key, err := newMACKey(unhex(tb, testZAK))
	if err != nil {
		tb.Fatal(err)
	}
	data := rawMessage(mti, f.with(128, ""))
	sum := key.sum(data)
	return append(data, strings.ToUpper(hex.EncodeToString(sum[:]))...)
}

func frame(data []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(data))), data...)
}

// reply is a decoded answer.
type reply struct {
	mti   string
	macOK bool
	fields
}

// client is one connection to the bank.
type client struct {
	tb   testing.TB
	conn net.Conn
	in   *bufio.Reader
}

func dial(tb testing.TB, b *Bank) *client {
	tb.Helper()
	conn, err := net.Dial("tcp", b.Addr())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(6 * patient)); err != nil {
		tb.Fatal(err)
	}
	return &client{tb: tb, conn: conn, in: bufio.NewReader(conn)}
}

// signedOn dials and signs on.
func signedOn(tb testing.TB, b *Bank) *client {
	tb.Helper()
	c := dial(tb, b)
	if got := c.exchange("0800", network("001")); got.mti != "0810" || got.fields[39] != "00" {
		tb.Fatalf("sign-on answered %s %s", got.mti, got.fields[39])
	}
	return c
}

func (c *client) write(data []byte) {
	c.tb.Helper()
	if _, err := c.conn.Write(data); err != nil {
		c.tb.Fatal(err)
	}
}

func (c *client) send(mti string, f fields) {
	c.tb.Helper()
	c.write(frame(pack(c.tb, mti, f)))
}

func (c *client) exchange(mti string, f fields) reply {
	c.tb.Helper()
	c.send(mti, f)
	return c.read()
}

func (c *client) read() reply {
	c.tb.Helper()
	r, err := c.tryRead()
	if err != nil {
		c.tb.Fatal(err)
	}
	return r
}

// tryRead reads one answer and checks its form; an error is the connection's.
func (c *client) tryRead() (reply, error) {
	c.tb.Helper()
	var head [2]byte
	if _, err := io.ReadFull(c.in, head[:]); err != nil {
		return reply{}, err
	}
	data := make([]byte, binary.BigEndian.Uint16(head[:]))
	if _, err := io.ReadFull(c.in, data); err != nil {
		return reply{}, err
	}
	r := reply{mti: string(data[:4]), fields: fields{}}
	bitmap, err := hex.DecodeString(string(data[4:36]))
	if err != nil {
		c.tb.Fatal(err)
	}
	rest := string(data[36:])
	for field := 2; field <= 128; field++ {
		if bitmap[(field-1)/8]&(0x80>>((field-1)%8)) == 0 {
			continue
		}
		size := sizes[field]
		if n := prefixes[field]; n > 0 {
			if size, err = strconv.Atoi(rest[:n]); err != nil {
				c.tb.Fatal(err)
			}
			rest = rest[n:]
		}
		if size == 0 || size > len(rest) {
			c.tb.Fatalf("answer field %d: size %d of %d", field, size, len(rest))
		}
		r.fields[field], rest = rest[:size], rest[size:]
	}
	if rest != "" || bitmap[0]&0x80 == 0 {
		c.tb.Fatalf("answer has %d bytes too many, first bitmap byte %02X", len(rest), bitmap[0])
	}
	key, err := newMACKey(unhex(c.tb, testZAK))
	if err != nil {
		c.tb.Fatal(err)
	}
	sum := key.sum(data[:len(data)-16])
	r.macOK = strings.EqualFold(hex.EncodeToString(sum[:]), r.fields[128])
	return r, nil
}

// network is an 0800.
func network(code string) fields {
	return fields{7: "0309233000", 11: "000001", 32: "10410000", 70: code}
}

// purchase is a 0200 of 1.00 without PIN; trace makes it unique.
func purchase(trace int) fields {
	return fields{
		2: card1, 3: "000000", 4: "000000000100", 7: "0309233000", 11: fmt.Sprintf("%06d", trace), 12: "073000", 13: "0310",
		22: "022", 25: "00", 32: "10410000", 37: fmt.Sprintf("2603%08d", trace), 41: "10000001", 42: "104110000000001", 49: "156",
	}
}

// withPIN adds the PIN block for the card of the message.
func (f fields) withPIN(tb testing.TB, pin string) fields {
	tb.Helper()
	return f.with(22, "021", 26, "06", 52, pinBlock(tb, pin, f[2]), 53, "2600000000000000")
}

func pinBlock(tb testing.TB, pin, pan string) string {
	tb.Helper()
	clearBlock, err := pinFieldISO0(pin, pan)
	if err != nil {
		tb.Fatal(err)
	}
	key, err := newPINKey(unhex(tb, testZPK))
	if err != nil {
		tb.Fatal(err)
	}
	var out [8]byte
	key.Encrypt(out[:], clearBlock[:])
	return strings.ToUpper(hex.EncodeToString(out[:]))
}

// reversal is the 0400 of a 0200.
func reversal(original fields) fields {
	f := original.with(7, "0309233105", 39, "98", 26, nil, 52, nil, 53, nil, 35, nil)
	f[90] = "0200" + original[11] + original[7] + fmt.Sprintf("%011s", original[32]) + strings.Repeat("0", 11)
	return f
}

// want checks response codes in a row of exchanges.
func (r reply) want(tb testing.TB, mti, code string) {
	tb.Helper()
	if r.mti != mti || r.fields[39] != code || !r.macOK {
		tb.Fatalf("answer %s %s, MAC right: %v; want %s %s", r.mti, r.fields[39], r.macOK, mti, code)
	}
}

// balanceOf is what the bank says an account has.
func balanceOf(tb testing.TB, b *Bank, pan string) int64 {
	tb.Helper()
	for _, a := range b.Book().Balances {
		if a.PAN == maskPAN(pan) {
			return a.Balance
		}
	}
	tb.Fatal("no such account")
	return 0
}

// checkBooks is the accountant: what left the accounts and what they hold is what the bookings say, and the totals too.
func checkBooks(tb testing.TB, b *Bank) {
	tb.Helper()
	view := b.Book()
	var gone, held, moved, holds int64
	for _, a := range view.Balances {
		gone += a.Opening - a.Balance
		held += a.Held
	}
	for _, k := range view.Bookings {
		moved += k.Moved
		holds += k.Held
		switch k.State {
		case stateReversed, stateDeclined, stateInquiry, stateTombstone, stateNoted:
			if k.Moved != 0 || k.Held != 0 || k.Refunded != 0 {
				tb.Errorf("a booking moves or holds in the wrong state: %+v", k)
			}
		}
	}
	if t := view.Totals; gone != t.BookedAmount-t.ReversedAmount || t.Forgotten == 0 && (gone != moved || held != holds) {
		tb.Errorf("accounts lost %d and hold %d, bookings say %d and %d, totals %+v", gone, held, moved, holds, t)
	}
}

// contextFor bounds a wait outside of the test's own context.
func contextFor() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), patient)
}

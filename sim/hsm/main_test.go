package hsm

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testWait bounds every wait of a test, so that a mistake fails instead of hanging.
const testWait = 20 * time.Second

// startDevice runs a device with one port "all" on a free port unless the configuration names ports.
func startDevice(tb testing.TB, cfg Config) *Device {
	tb.Helper()
	if cfg.Ports == nil {
		cfg.Ports = []Port{{Name: "all", Addr: "127.0.0.1:0", Allow: AllCommands()}}
	}
	d, err := New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	if err := d.Start(context.Background()); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), testWait)
		defer cancel()
		if err := d.Stop(ctx); err != nil {
			tb.Error(err)
		}
	})
	return d
}

// vectorDevice is what the published vectors assume: type 002 for terminal keys, keys without parity.
func vectorDevice(tb testing.TB) (*Device, *client) {
	tb.Helper()
	d := startDevice(tb, Config{LegacyTypes: true, IgnoreParity: true})
	return d, dial(tb, d, "all")
}

// client is a plain host: it shares no code with the client under development.
type client struct {
	tb   testing.TB
	conn net.Conn
	r    *bufio.Reader
	seq  int
}

func dial(tb testing.TB, d *Device, port string) *client {
	tb.Helper()
	c, err := net.Dial("tcp", d.Addr(port).String())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(testWait))
	return &client{tb: tb, conn: c, r: bufio.NewReader(c)}
}

func frame(header, body string) []byte {
	msg := header + body
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(msg))), msg...)
}

func (c *client) send(header, body string) {
	c.tb.Helper()
	if _, err := c.conn.Write(frame(header, body)); err != nil {
		c.tb.Fatal(err)
	}
}

// receive returns header and body of the next answer.
func (c *client) receive() (header, body string, err error) {
	var n [2]byte
	if _, err := io.ReadFull(c.r, n[:]); err != nil {
		return "", "", err
	}
	msg := make([]byte, binary.BigEndian.Uint16(n[:]))
	if _, err := io.ReadFull(c.r, msg); err != nil {
		return "", "", err
	}
	return string(msg[:4]), string(msg[4:]), nil
}

// readFull reads raw bytes.
func readFull(c *client, into []byte) (int, error) { return io.ReadFull(c.r, into) }

// ask sends a command and returns error code and fields of its answer, after checking header and response code.
func (c *client) ask(body string) (code, rest string) {
	c.tb.Helper()
	c.seq++
	want := fmt.Sprintf("%04d", c.seq%10000)
	c.send(want, body)
	header, answer, err := c.receive()
	if err != nil {
		c.tb.Fatalf("%s: %v", body[:2], err)
	}
	if header != want || len(answer) < 4 || answer[0] != body[0] || answer[1] != body[1]+1 {
		c.tb.Fatalf("%s: answer %q %q, want header %s", body[:2], header, answer, want)
	}
	return answer[2:4], answer[4:]
}

// must asks and fails on any other code than 00.
func (c *client) must(body string) string {
	c.tb.Helper()
	code, rest := c.ask(body)
	if code != "00" {
		c.tb.Fatalf("%s: code %s, want 00", body[:2], code)
	}
	return rest
}

// wantCode asks and compares the error code.
func (c *client) wantCode(body, want string) {
	c.tb.Helper()
	if code, _ := c.ask(body); code != want {
		c.tb.Errorf("%.40q: code %s, want %s", body, code, want)
	}
}

// sealed is the key ceremony with a fixed result.
func sealed(tb testing.TB, d *Device, keyType, scheme, clear string) string {
	tb.Helper()
	s, err := d.EncryptUnderLMK(keyType, scheme, unhex(tb, clear))
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// blockKey is the key ceremony for the key-block LMK.
func blockKey(tb testing.TB, d *Device, attributes, clear string) string {
	tb.Helper()
	s, err := d.EncryptInKeyBlock(attributes, unhex(tb, clear))
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func unhex(tb testing.TB, s string) []byte {
	tb.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func same(tb testing.TB, what, got, want string) {
	tb.Helper()
	if got != want {
		tb.Errorf("%s: got %q, want %q", what, got, want)
	}
}

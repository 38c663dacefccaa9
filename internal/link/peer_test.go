package link_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/keyward/keyward/internal/link"
)

// patience bounds every wait of a test: reaching it is a failure, never part of a passing run.
const patience = 20 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// key4 matches by the first four bytes, as HSM headers do.
func key4(frame []byte) ([4]byte, error) {
	if len(frame) < 4 {
		return [4]byte{}, errors.New("shorter than its header")
	}
	return [4]byte(frame[:4]), nil
}

func k4(n int) (k [4]byte) {
	binary.BigEndian.PutUint32(k[:], uint32(n))
	return k
}

// request is a frame with the key n in front.
func request(n int, text string) []byte {
	k := k4(n)
	return append(k[:], text...)
}

func within(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func startServer(t testing.TB, cfg link.ServerConfig) *link.Server {
	t.Helper()
	if cfg.Name == "" {
		cfg.Name = "server"
	}
	if cfg.Listener == nil && cfg.Addr == "" {
		cfg.Addr = "127.0.0.1:0"
	}
	s, err := link.NewServer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := s.Stop(ctx); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	return s
}

func newClient(t testing.TB, cfg link.ClientConfig[[4]byte]) *link.Client[[4]byte] {
	t.Helper()
	if cfg.Name == "" {
		cfg.Name = "peer"
	}
	if cfg.Key == nil {
		cfg.Key = key4
	}
	if cfg.Backoff.Min == 0 {
		cfg.Backoff = link.Backoff{Min: time.Millisecond, Max: 5 * time.Millisecond}
	}
	c, err := link.NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = c.Stop(ctx) // tests that leave requests in flight on purpose check Stop themselves
	})
	return c
}

func connected(t testing.TB, c *link.Client[[4]byte]) *link.Client[[4]byte] {
	t.Helper()
	if err := c.Wait(within(t)); err != nil {
		t.Fatal(err)
	}
	return c
}

// peer is a hand-driven other end: each accepted connection comes out of conns.
type peer struct {
	addr  string
	conns chan net.Conn
}

func newPeer(t testing.TB) *peer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &peer{addr: l.Addr().String(), conns: make(chan net.Conn, 4096)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.conns <- c
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
		for len(p.conns) > 0 {
			_ = (<-p.conns).Close()
		}
	})
	return p
}

func (p *peer) accept(t testing.TB) net.Conn {
	t.Helper()
	select {
	case c := <-p.conns:
		t.Cleanup(func() { _ = c.Close() })
		return c
	case <-time.After(patience):
		t.Fatal("nobody connected")
		return nil
	}
}

func readFrame(t testing.TB, c net.Conn) []byte {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(patience))
	f, err := tryReadFrame(c)
	if err != nil {
		t.Fatalf("read frame: %v", err)
	}
	return f
}

func tryReadFrame(c net.Conn) ([]byte, error) {
	var l [2]byte
	if _, err := io.ReadFull(c, l[:]); err != nil {
		return nil, err
	}
	f := make([]byte, binary.BigEndian.Uint16(l[:]))
	_, err := io.ReadFull(c, f)
	return f, err
}

func framed(b []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)
}

func writeFrame(t testing.TB, c net.Conn, b []byte) {
	t.Helper()
	if _, err := c.Write(framed(b)); err != nil {
		t.Fatalf("write frame: %v", err)
	}
}

func wantClosed(t testing.TB, c net.Conn) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(patience))
	if n, err := c.Read(make([]byte, 1)); err == nil || n > 0 {
		t.Fatal("connection still open and talking")
	} else if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
		t.Fatal("connection not closed")
	}
}

func wantOutcome(t testing.TB, err error, o link.Outcome, cause error) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want %s", o)
	}
	if _, ok := errors.AsType[*link.Error](err); !ok {
		t.Fatalf("error %v (%T) is no *link.Error", err, err)
	}
	if got := link.OutcomeOf(err); got != o {
		t.Fatalf("outcome %s, want %s: %v", got, o, err)
	}
	if cause != nil && !errors.Is(err, cause) {
		t.Fatalf("error %v, want cause %v", err, cause)
	}
}

func wait(t testing.TB, ch <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-ch:
	case <-time.After(patience):
		t.Fatalf("waited in vain: %s", what)
	}
}

// echo answers every frame with itself.
func echo(ctx context.Context, c *link.Conn, frame []byte) { _ = c.Write(ctx, frame) }

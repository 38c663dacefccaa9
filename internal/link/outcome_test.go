package link_test

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/keyward/keyward/internal/link"
)

// shortConn takes a set number of bytes and then fails, as a socket does whose peer is gone.
type shortConn struct {
	net.Conn
	mu    sync.Mutex
	takes int
}

func (c *shortConn) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(b) <= c.takes {
		c.takes -= len(b)
		return c.Conn.Write(b)
	}
	n, _ := c.Conn.Write(b[:c.takes])
	c.takes = 0
	return n, errors.New("broken pipe")
}

func TestOutcomeOfABrokenWrite(t *testing.T) {
	t.Parallel()
	// One frame is 2 + 4 + 1 = 7 bytes.
	cases := []struct {
		name  string
		takes int
		want  link.Outcome
	}{
		{"no byte taken", 0, link.NotSent},
		{"one byte taken", 1, link.Unknown},
		{"all but one byte taken", 6, link.Unknown},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p := newPeer(t)
			c := connected(t, newClient(t, link.ClientConfig[[4]byte]{Dial: func(ctx context.Context) (net.Conn, error) {
				nc, err := new(net.Dialer).DialContext(ctx, "tcp", p.addr)
				return &shortConn{Conn: nc, takes: tc.takes}, err
			}}))
			p.accept(t)
			_, err := c.Exchange(within(t), k4(1), request(1, "q"))
			wantOutcome(t, err, tc.want, link.ErrConnectionLost)
		})
	}
}

func TestWholeWriteThenHangUpIsUnknownAtOnce(t *testing.T) {
	t.Parallel()
	p := newPeer(t)
	c := connected(t, newClient(t, link.ClientConfig[[4]byte]{Addr: p.addr}))
	nc := p.accept(t)
	const n = 20
	results := make(chan error, n)
	for i := range n {
		go func() {
			_, err := c.Exchange(within(t), k4(i), request(i, "q"))
			results <- err
		}()
	}
	for range n {
		readFrame(t, nc)
	}
	_ = nc.Close()
	for range n {
		wantOutcome(t, <-results, link.Unknown, link.ErrConnectionLost)
	}
}

func TestSlowPeerWriteTimesOut(t *testing.T) {
	t.Parallel()
	near, far := net.Pipe()
	t.Cleanup(func() { _ = far.Close() })
	once := make(chan net.Conn, 1)
	once <- near
	c := connected(t, newClient(t, link.ClientConfig[[4]byte]{
		WriteTimeout: 30 * time.Millisecond,
		Dial: func(context.Context) (net.Conn, error) {
			select {
			case nc := <-once:
				return nc, nil
			default:
				return nil, errors.New("only once")
			}
		},
	}))
	// The pipe takes nothing: not one byte of the first request goes out, and the second waits behind it in vain.
	results := make(chan error, 2)
	for i := range 2 {
		go func() {
			_, err := c.Exchange(within(t), k4(i), request(i, "q"))
			results <- err
		}()
	}
	for range 2 {
		wantOutcome(t, <-results, link.NotSent, nil)
	}
}

// TestHangUpAsTheTimeoutFires is the fault of facts/platform.md, "ISO 8583": a send that never returns when the peer hangs up
// just as the time-out fires. Every exchange must return, with an outcome that fits what the peer has read.
func TestHangUpAsTheTimeoutFires(t *testing.T) {
	t.Parallel()
	p := newPeer(t)
	c := newClient(t, link.ClientConfig[[4]byte]{Addr: p.addr, ConnectWait: patience})
	rounds := 300
	if testing.Short() {
		rounds = 50
	}
	for i := range rounds {
		if err := c.Wait(within(t)); err != nil {
			t.Fatal(err)
		}
		nc := p.accept(t)
		timeout := time.Duration(500+rand.IntN(500)) * time.Microsecond
		read := make(chan int, 1)
		go func() {
			time.AfterFunc(timeout, func() { _ = nc.Close() }) // the same moment as the time-out below, from either side
			n, _ := io.Copy(io.Discard, nc)
			read <- int(n)
		}()
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		returned := make(chan error, 4)
		for k := range 4 {
			go func() {
				_, err := c.Exchange(ctx, k4(4*i+k), request(4*i+k, "q"))
				returned <- err
			}()
		}
		notSent := 0
		for range 4 {
			select {
			case err := <-returned:
				if err == nil {
					t.Fatal("answered by a peer that never writes")
				}
				if link.OutcomeOf(err) == link.NotSent {
					notSent++
				}
			case <-time.After(patience):
				t.Fatal("an exchange never returned")
			}
		}
		cancel()
		if got, most := <-read, (4-notSent)*7; got > most {
			t.Fatalf("round %d: the peer read %d bytes, but only %d can belong to requests that are not NotSent", i, got, most)
		}
		// The connection that was hung up on may be noticed only now.
		for c.Connected() && len(p.conns) == 0 {
			time.Sleep(100 * time.Microsecond) // there is no signal for "noticed" that does not itself wait for the next connection
		}
	}
}

// shortListener hands out connections that take a set number of bytes.
type shortListener struct {
	net.Listener
	takes int
}

func (l shortListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &shortConn{Conn: c, takes: l.takes}, nil
}

func TestOutcomeOfABrokenAnswer(t *testing.T) {
	t.Parallel()
	for takes, want := range map[int]link.Outcome{0: link.NotSent, 1: link.Unknown, 2: link.Unknown} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		results := make(chan error, 3)
		s := startServer(t, link.ServerConfig{Listener: shortListener{l, takes}, MaxFrame: 8, Handler: func(ctx context.Context, c *link.Conn, _ []byte) {
			results <- c.Write(ctx, make([]byte, 9)) // refused before the socket: the connection stays usable
			results <- c.Write(ctx, []byte("a"))
			results <- c.Write(ctx, []byte("b"))
		}})
		c := dial(t, s)
		writeFrame(t, c, []byte("q"))
		wantOutcome(t, <-results, link.NotSent, nil)
		wantOutcome(t, <-results, want, nil)
		wantOutcome(t, <-results, link.NotSent, nil)
		_, _ = io.Copy(io.Discard, c) // whatever came before the end
	}
}

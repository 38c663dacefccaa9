package wire

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/keyward/keyward/hsmclient/driver"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait of a test; only broken code needs it all.
const patience = 20 * time.Second

// normal is the framing of a device with factory settings.
var normal = Config{HeaderLength: 4, Echo: true, Trailer: true, Probe: "NC"}

// device is a fake device: a listener and a function that serves each connection.
type device struct {
	addr   string
	mu     sync.Mutex
	accept int
}

// session is one connection as the fake device sees it.
type session struct {
	net.Conn
	r *bufio.Reader
	n int // of the connection, from 1
}

// next reads one frame without its length, nil at the end.
func (s *session) next() []byte {
	var length [2]byte
	if _, err := io.ReadFull(s.r, length[:]); err != nil {
		return nil
	}
	frame := make([]byte, binary.BigEndian.Uint16(length[:]))
	if _, err := io.ReadFull(s.r, frame); err != nil {
		return nil
	}
	return frame
}

// put writes frames in one write.
func (s *session) put(frames ...[]byte) {
	var out []byte
	for _, f := range frames {
		out = binary.BigEndian.AppendUint16(out, uint16(len(f)))
		out = append(out, f...)
	}
	_, _ = s.Write(out)
}

// echo is the answer of a healthy device with a 4-character header: the request again, with the response code and 00 in front of what
// followed the command.
func echo(request []byte) []byte {
	answer := append([]byte(nil), request[:4]...)
	answer = append(answer, request[4], request[5]+1, '0', '0')
	return append(answer, request[6:]...)
}

// healthy answers until the connection ends.
func (s *session) healthy() {
	for f := s.next(); f != nil; f = s.next() {
		s.put(echo(f))
	}
}

// prove answers the requests of the proof, all at once.
func (s *session) prove() {
	var answers [][]byte
	for range proofRequests {
		if f := s.next(); f != nil {
			answers = append(answers, echo(f))
		}
	}
	s.put(answers...)
}

// listen starts a fake device that serves each connection with serve.
func listen(tb testing.TB, certificate *tls.Config, serve func(*session)) *device {
	tb.Helper()
	l, err := new(net.ListenConfig).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	d := &device{addr: l.Addr().String()}
	var running sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	running.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			if certificate != nil {
				nc = tls.Server(nc, certificate)
			}
			mu.Lock()
			open = append(open, nc)
			mu.Unlock()
			d.mu.Lock()
			d.accept++
			s := &session{Conn: nc, r: bufio.NewReader(nc), n: d.accept}
			d.mu.Unlock()
			running.Go(func() {
				defer func() { _ = nc.Close() }()
				serve(s)
			})
		}
	})
	tb.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for _, nc := range open {
			_ = nc.Close()
		}
		mu.Unlock()
		running.Wait()
	})
	return d
}

// dialTo opens a channel and closes it at the end of the test.
func dialTo(tb testing.TB, d *device, cfg Config, depth int, change ...func(*driver.Target)) *Channel {
	tb.Helper()
	to := driver.Target{Name: "hsm1", Addr: d.addr, Depth: depth, FrameTimeout: patience}
	for _, f := range change {
		f(&to)
	}
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	c, err := Open(ctx, cfg, to)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { c.Close(nil) })
	return c
}

// ended waits for the end of a channel.
func ended(tb testing.TB, c *Channel) {
	tb.Helper()
	select {
	case <-c.Done():
	case <-time.After(patience):
		tb.Fatal("the channel did not end")
	}
}

package link_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/keyward/keyward/internal/link"
)

func dial(t testing.TB, s *link.Server) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// syncBuffer is a log sink for concurrent writers.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func TestServerRefusesBadFrames(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name  string
		bytes []byte
		want  link.Reason
		hang  bool // close the sending side after the bytes
	}{
		{"zero length", []byte{0, 0}, link.ReasonZeroLength, false},
		{"one above the limit", append([]byte{0, 65}, bytes.Repeat([]byte{'x'}, 65)...), link.ReasonTooLong, false},
		{"longest length", []byte{0xFF, 0xFF, 1}, link.ReasonTooLong, false},
		{"cut in the length", []byte{0}, link.ReasonCut, true},
		{"cut in the content", []byte{0, 10, 1, 2, 3}, link.ReasonCut, true},
		{"slow length", []byte{0}, link.ReasonSlow, false},
		{"slow content", []byte{0, 10, 1}, link.ReasonSlow, false},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			reasons := make(chan link.Reason, 2)
			var log syncBuffer
			reg := prometheus.NewRegistry()
			s := startServer(t, link.ServerConfig{
				MaxFrame: 64, FrameTimeout: 30 * time.Millisecond, Registerer: reg,
				Handler: echo, OnBadFrame: func(r link.Reason) { reasons <- r },
				Log: slog.New(slog.NewTextHandler(&log, nil)),
			})
			c := dial(t, s)
			// A good frame first: a connection with a history is refused in the same way.
			writeFrame(t, c, []byte("SECRETCONTENT"))
			readFrame(t, c)
			if _, err := c.Write(tc.bytes); err != nil {
				t.Fatal(err)
			}
			if tc.hang {
				_ = c.(*net.TCPConn).CloseWrite()
			}
			wantClosed(t, c)
			if got := <-reasons; got != tc.want {
				t.Fatalf("reason %s, want %s", got, tc.want)
			}
			if !strings.Contains(log.String(), c.LocalAddr().String()) || strings.Contains(log.String(), "SECRET") {
				t.Fatalf("the log must show the address and no content: %s", log.String())
			}
			if n, err := testutil.GatherAndCount(reg, "keyward_link_server_bad_frames_total"); err != nil || n != 4 {
				t.Fatalf("%d bad frame counters, want one per reason: %v", n, err)
			}
		})
	}
}

func TestServerLimitFrameIsServed(t *testing.T) {
	t.Parallel()
	s := startServer(t, link.ServerConfig{MaxFrame: 64, Handler: echo})
	c := dial(t, s)
	long := bytes.Repeat([]byte{'x'}, 64)
	writeFrame(t, c, long)
	if got := readFrame(t, c); !bytes.Equal(got, long) {
		t.Fatal("the longest frame came back changed")
	}
}

func TestServerAnswersOutOfOrder(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	s := startServer(t, link.ServerConfig{Handler: func(ctx context.Context, c *link.Conn, f []byte) {
		if f[0] == '1' {
			<-release
		}
		echo(ctx, c, f)
		if f[0] == '2' {
			close(release)
		}
	}})
	c := dial(t, s)
	writeFrame(t, c, []byte("1"))
	writeFrame(t, c, []byte("2"))
	if a, b := readFrame(t, c), readFrame(t, c); string(a) != "2" || string(b) != "1" {
		t.Fatalf("answers %s, %s", a, b)
	}
}

func TestServerBoundsHandlersPerConnection(t *testing.T) {
	t.Parallel()
	running := make(chan struct{}, 10)
	release := make(chan struct{})
	s := startServer(t, link.ServerConfig{MaxInFlightPerConn: 2, Handler: func(ctx context.Context, c *link.Conn, f []byte) {
		running <- struct{}{}
		<-release
		echo(ctx, c, f)
	}})
	c, other := dial(t, s), dial(t, s)
	for range 5 {
		writeFrame(t, c, []byte("x"))
	}
	wait(t, running, "first handler")
	wait(t, running, "second handler")
	// Another connection is not held up, and its handler starting is the signal that the third of ours had its chance.
	writeFrame(t, other, []byte("y"))
	wait(t, running, "handler of the other connection")
	if n := len(running); n != 0 {
		t.Fatalf("%d handlers above the limit", n)
	}
	close(release)
	for range 5 {
		readFrame(t, c)
	}
	readFrame(t, other)
}

func TestServerBoundsConnections(t *testing.T) {
	t.Parallel()
	s := startServer(t, link.ServerConfig{MaxConnections: 1, Handler: echo})
	first := dial(t, s)
	writeFrame(t, first, []byte("x"))
	readFrame(t, first)
	wantClosed(t, dial(t, s))
	writeFrame(t, first, []byte("x"))
	readFrame(t, first)
}

func TestServerClosesIdleConnections(t *testing.T) {
	t.Parallel()
	s := startServer(t, link.ServerConfig{IdleTimeout: 20 * time.Millisecond, Handler: echo})
	wantClosed(t, dial(t, s))
}

func TestHangUpDoesNotCancelTheHandler(t *testing.T) {
	t.Parallel()
	running, gone, result := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	s := startServer(t, link.ServerConfig{Handler: func(ctx context.Context, c *link.Conn, _ []byte) {
		close(running)
		<-gone
		select {
		case <-ctx.Done():
			result <- errors.New("the hang-up cancelled the handler")
			return
		case <-time.After(50 * time.Millisecond): // time for a wrong cancellation to arrive
		}
		// The first write may still be taken by the socket of a peer that is gone; after its reset none is.
		var err error
		for deadline := time.Now().Add(patience); err == nil && time.Now().Before(deadline); {
			err = c.Write(ctx, []byte("answer"))
		}
		result <- err
	}})
	c := dial(t, s)
	writeFrame(t, c, []byte("x"))
	<-running
	_ = c.(*net.TCPConn).SetLinger(0)
	_ = c.Close()
	close(gone)
	err := <-result
	if _, ok := errors.AsType[*link.Error](err); !ok {
		t.Fatalf("want a write error, got %v", err)
	}
}

func TestHalfClosedPeerGetsItsAnswer(t *testing.T) {
	t.Parallel()
	s := startServer(t, link.ServerConfig{Handler: echo})
	c := dial(t, s)
	writeFrame(t, c, []byte("x"))
	_ = c.(*net.TCPConn).CloseWrite()
	readFrame(t, c)
	wantClosed(t, c)
}

func TestHandlerPanicClosesOneConnection(t *testing.T) {
	t.Parallel()
	var log syncBuffer
	s := startServer(t, link.ServerConfig{
		Log: slog.New(slog.NewTextHandler(&log, nil)),
		Handler: func(ctx context.Context, c *link.Conn, f []byte) {
			if f[0] == '!' {
				panic("clear key 0123456789ABCDEF")
			}
			echo(ctx, c, f)
		},
	})
	bad, good := dial(t, s), dial(t, s)
	writeFrame(t, bad, []byte("!"))
	wantClosed(t, bad)
	writeFrame(t, good, []byte("x"))
	readFrame(t, good)
	if out := log.String(); !strings.Contains(out, "server_test.go") || strings.Contains(out, "0123456789") {
		t.Fatalf("the log must hold the stack and not the value: %s", out)
	}
}

func TestStopDrains(t *testing.T) {
	t.Parallel()
	running, release := make(chan struct{}), make(chan struct{})
	s := startServer(t, link.ServerConfig{Handler: func(ctx context.Context, c *link.Conn, f []byte) {
		close(running)
		<-release
		echo(ctx, c, f)
	}})
	busy, idle := dial(t, s), dial(t, s)
	writeFrame(t, busy, []byte("x"))
	<-running
	stopped := make(chan error, 1)
	go func() { stopped <- s.Stop(within(t)) }()
	wantClosed(t, idle)
	if _, err := net.Dial("tcp", s.Addr().String()); err == nil {
		t.Fatal("still accepting while stopping")
	}
	close(release)
	readFrame(t, busy)
	wantClosed(t, busy)
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
}

func TestHardStopCancelsHandlers(t *testing.T) {
	t.Parallel()
	running, cancelled := make(chan struct{}), make(chan struct{})
	s, err := link.NewServer(link.ServerConfig{Name: "s", Addr: "127.0.0.1:0", Handler: func(ctx context.Context, _ *link.Conn, _ []byte) {
		close(running)
		<-ctx.Done()
		close(cancelled)
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(within(t)); err != nil {
		t.Fatal(err)
	}
	c := dial(t, s)
	writeFrame(t, c, []byte("x"))
	<-running
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Stop(ctx); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "1 connections") {
		t.Fatalf("stop: %v", err)
	}
	wait(t, cancelled, "the handler's context")
	wantClosed(t, c)
}

func TestServerLifecycle(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	cfg := link.ServerConfig{Name: "s", Addr: "127.0.0.1:0", Handler: echo, Registerer: reg}
	s, err := link.NewServer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := link.NewServer(cfg); err == nil {
		t.Fatal("two servers with one name on one registerer")
	}
	if err := s.Start(within(t)); err != nil {
		t.Fatal(err)
	}
	if err := s.Start(within(t)); err == nil {
		t.Fatal("started twice")
	}
	taken, err := link.NewServer(link.ServerConfig{Name: "t", Addr: s.Addr().String(), Handler: echo})
	if err != nil {
		t.Fatal(err)
	}
	if err := taken.Start(within(t)); err == nil || !strings.Contains(err.Error(), "address already in use; stop the other program or choose another port with --port-offset") {
		t.Fatalf("port in use: %v", err)
	}
	for range 2 {
		if err := s.Stop(within(t)); err != nil {
			t.Fatal(err)
		}
	}
	again, err := link.NewServer(cfg) // the names were given back
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Stop(within(t)); err != nil { // before Start
		t.Fatal(err)
	}
	if err := again.Start(within(t)); !errors.Is(err, link.ErrStopped) {
		t.Fatalf("start after stop: %v", err)
	}
	for _, bad := range []link.ServerConfig{
		{Addr: "x", Handler: echo}, {Name: "n", Addr: "x"}, {Name: "n", Handler: echo}, {Name: "n", Addr: "x", Handler: echo, MaxFrame: 65536},
	} {
		if _, err := link.NewServer(bad); err == nil {
			t.Errorf("accepted %+v", bad.Name)
		}
	}
}

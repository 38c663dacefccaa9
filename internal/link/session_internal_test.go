package link

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"
)

// pipeSession is a session over an in-memory pipe, which takes bytes only when the far end reads them.
func pipeSession(t *testing.T, onStray func([]byte)) (*Session[byte], net.Conn) {
	t.Helper()
	c, err := NewClient(ClientConfig[byte]{Name: "pipe", Addr: "unused", OnStray: onStray, Key: func(f []byte) (byte, error) { return f[0], nil }})
	if err != nil {
		t.Fatal(err)
	}
	near, far := net.Pipe()
	s := newSession(&c.cfg, c.metrics, &c.frames, near, nil)
	t.Cleanup(func() {
		_ = far.Close()
		s.close(ErrStopped)
		s.routines.Wait()
	})
	return s, far
}

// until polls a condition under the session's lock: being queued gives no signal to the outside.
func until(t *testing.T, s *Session[byte], what string, ok func() bool) {
	t.Helper()
	for range 10000 {
		s.mu.Lock()
		done := ok()
		s.mu.Unlock()
		if done {
			return
		}
		time.Sleep(time.Millisecond) // see above
	}
	t.Fatal("never happened: " + what)
}

func TestForgedAnswerToAQueuedRequest(t *testing.T) {
	t.Parallel()
	strays := make(chan struct{}, 1)
	s, far := pipeSession(t, func([]byte) { strays <- struct{}{} })
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	results := make(chan error, 2)
	go func() {
		_, err := s.Exchange(ctx, 1, []byte{1})
		results <- err
	}()
	until(t, s, "the first request is in the writer's hands", func() bool { c := s.pending[1]; return c != nil && c.stage == writing })
	inner, giveUp := context.WithCancel(ctx)
	go func() {
		_, err := s.Exchange(inner, 2, []byte{2})
		results <- err
	}()
	until(t, s, "the second request waits", func() bool { return len(s.queue) == 1 })
	if _, err := far.Write([]byte{0, 1, 2}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-strays:
	case <-ctx.Done():
		t.Fatal("an answer was taken for a request that has not gone out")
	}
	giveUp()
	if err := <-results; OutcomeOf(err) != NotSent {
		t.Fatalf("a queued request that was given up: %v", err)
	}
	// The connection ends while the first request is in the writer's hands, and no byte was taken.
	_ = far.Close()
	if err := <-results; OutcomeOf(err) != NotSent {
		t.Fatalf("no byte was taken: %v", err)
	}
}

func TestWrittenOnAnEndedSession(t *testing.T) {
	t.Parallel()
	s, _ := pipeSession(t, nil)
	s.close(ErrConnectionLost)
	// The write went through, but the reader found the end of the connection meanwhile.
	c := &call[byte]{key: 1, stage: writing, done: make(chan struct{})}
	s.written([]*call[byte]{c}, []int{3}, 3, nil)
	if c.stage != ended || OutcomeOf(c.err) != Unknown || !errors.Is(c.err, ErrConnectionLost) {
		t.Fatalf("stage %d, %v", c.stage, c.err)
	}
}

func TestWrittenInABatch(t *testing.T) {
	t.Parallel()
	s, _ := pipeSession(t, nil)
	broken := errors.New("broken pipe")
	for n, want := range map[int][3]Outcome{
		0: {NotSent, NotSent, NotSent}, 1: {Unknown, NotSent, NotSent}, 3: {Unknown, NotSent, NotSent},
		4: {Unknown, Unknown, NotSent}, 6: {Unknown, Unknown, NotSent}, 8: {Unknown, Unknown, Unknown},
	} {
		batch := make([]*call[byte], 3)
		for i := range batch {
			batch[i] = &call[byte]{key: byte(i), stage: writing, done: make(chan struct{})}
		}
		s.written(batch, []int{3, 6, 9}, n, broken)
		for i, c := range batch {
			if c.stage != ended || OutcomeOf(c.err) != want[i] || !errors.Is(c.err, broken) {
				t.Errorf("%d bytes out, frame %d: %v", n, i, c.err)
			}
		}
	}
}

// sealed stands for a TLS connection: it reports 0 although the socket below took some bytes.
type sealed struct {
	net.Conn
	takes int
}

func (c *sealed) Write([]byte) (int, error) {
	if c.takes > 0 {
		_, _ = c.Conn.Write(make([]byte, c.takes))
	}
	return 0, errors.New("broken pipe")
}

// sink takes everything.
type sink struct{ net.Conn }

func (sink) Write(b []byte) (int, error) { return len(b), nil }

func TestWriteCountedUnderTLS(t *testing.T) {
	t.Parallel()
	for takes, want := range map[int]int{0: 0, 1: 7, 30: 7} {
		under := &countingConn{Conn: sink{}}
		if n, err := writeCounted(&sealed{under, takes}, under, make([]byte, 7)); err == nil || n != want {
			t.Errorf("the socket took %d: %d, want %d", takes, n, want)
		}
	}
}

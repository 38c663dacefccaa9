package link

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"syscall"
	"time"
)

// Conn is one accepted connection. It lives until its peer hangs up and its last handler has returned.
type Conn struct {
	server *Server
	raw    net.Conn // the socket
	nc     net.Conn // raw, or TLS over it
	sent   *countingConn
	from   netip.Addr // what it counts for in Server.perAddr; zero where it does not

	length   [lengthSize]byte // read buffer of the length: all that an idle connection needs
	places   chan struct{}    // one token per running handler
	writing  chan struct{}    // holds a token while somebody writes; a channel, because waiting for it must end with ctx
	handlers sync.WaitGroup
}

// newConn prepares a connection; serve runs it.
func newConn(s *Server, raw net.Conn, from netip.Addr) *Conn {
	c := &Conn{
		server: s, raw: raw, nc: raw, from: from,
		places:  make(chan struct{}, s.cfg.MaxInFlightPerConn),
		writing: make(chan struct{}, 1),
	}
	if s.cfg.TLS != nil {
		c.sent = &countingConn{Conn: raw}
		c.nc = tls.Server(c.sent, s.cfg.TLS)
	}
	return c
}

// RemoteAddr is the peer's address.
func (c *Conn) RemoteAddr() net.Addr { return c.raw.RemoteAddr() }

// TLS returns the state of a TLS connection (peer certificates among it); false for a plain one.
func (c *Conn) TLS() (tls.ConnectionState, bool) {
	t, ok := c.nc.(*tls.Conn)
	if !ok {
		return tls.ConnectionState{}, false
	}
	return t.ConnectionState(), true
}

// Close closes the socket at once. Handlers that are running go on; their writes fail.
func (c *Conn) Close() {
	_ = c.raw.Close() // the only possible error is that it is closed already
}

// Write sends one whole frame and is safe for concurrent use. nil means that every byte was handed to the socket, not that the
// peer received it. An *Error says whether none (NotSent) or some (Unknown) were; after a failed write the connection is
// closed, because a frame may have been cut. ctx bounds the wait for other writers, WriteTimeout the write itself.
func (c *Conn) Write(ctx context.Context, frame []byte) error {
	if err := checkLength(len(frame), c.server.cfg.MaxFrame); err != nil {
		return c.fail(NotSent, err)
	}
	if err := ctx.Err(); err != nil {
		return c.fail(NotSent, err)
	}
	select {
	case c.writing <- struct{}{}:
	case <-ctx.Done():
		return c.fail(NotSent, ctx.Err())
	}
	defer func() { <-c.writing }()
	p := c.server.frames.get(lengthSize + c.server.cfg.MaxFrame)
	defer c.server.frames.put(p)
	*p = appendFrame(*p, frame)
	_ = c.nc.SetWriteDeadline(time.Now().Add(c.server.cfg.WriteTimeout)) // fails only on a closed socket: Write tells
	if sent, err := writeCounted(c.nc, c.sent, *p); err != nil {
		c.Close()
		c.server.metrics.writeErrors.Inc()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			c.server.metrics.ended[endedSlowReader].Inc()
		}
		if sent == 0 {
			return c.fail(NotSent, err)
		}
		return c.fail(Unknown, err)
	}
	return nil
}

func (c *Conn) fail(o Outcome, err error) error {
	return &Error{Outcome: o, Link: c.server.cfg.Name, Err: err}
}

// serve reads frames until the peer hangs up, something is wrong or the server drains; then it waits for the handlers. A peer
// that has only closed its sending side still gets its answers.
func (c *Conn) serve() {
	s := c.server
	defer s.forget(c)
	defer func() { _ = c.nc.Close() }() // tells a TLS peer goodbye; an error here means that the socket is gone already
	defer c.handlers.Wait()
	if err := c.handshake(); err != nil {
		fault := classifyHandshake(err)
		s.metrics.handshakeErrors[fault.side].Inc()
		s.cfg.Log.Warn("TLS handshake failed, connection closed", "remote", c.RemoteAddr().String(), "side", string(fault.side), "error", fault)
		return
	}
	for {
		err := c.next()
		if err == nil {
			continue
		}
		if bad, ok := errors.AsType[*frameError](err); ok {
			s.metrics.badFrames[bad.reason].Inc()
			s.cfg.Log.Warn("bad frame, connection closed", "remote", c.RemoteAddr().String(), "reason", string(bad.reason), "length", bad.length)
			if s.cfg.OnBadFrame != nil {
				s.cfg.OnBadFrame(bad.reason)
			}
			c.Close()
		}
		c.ended(err)
		return
	}
}

// ended counts the end of a connection that was silent or lost.
func (c *Conn) ended(err error) {
	switch {
	case errors.Is(err, errIdle) && !c.server.draining.Load():
		c.server.metrics.ended[endedIdle].Inc()
	case errors.Is(err, syscall.ETIMEDOUT): // what a read says after unanswered keep-alive probes
		c.server.metrics.ended[endedLost].Inc()
	}
}

var (
	// errDraining ends the read loop of a server that stops.
	errDraining = errors.New("draining")
	// errIdle ends the read loop of a connection without a frame for IdleTimeout.
	errIdle = errors.New("idle")
)

// next reads one frame and starts its handler.
func (c *Conn) next() error {
	s := c.server
	n, err := c.readLength()
	if err != nil {
		return err
	}
	if err := checkLength(n, s.cfg.MaxFrame); err != nil {
		return err
	}
	if err := c.deadline(s.cfg.FrameTimeout); err != nil {
		return err
	}
	p := s.frames.get(lengthSize + s.cfg.MaxFrame)
	*p = (*p)[:n]
	if _, err := io.ReadFull(c.nc, *p); err != nil {
		s.frames.put(p)
		if s.draining.Load() {
			return errDraining
		}
		return cutReason(err)
	}
	// The place is taken after reading, so that a connection at its limit holds one frame and the rest waits in the socket.
	select {
	case c.places <- struct{}{}:
	case <-s.drain:
		s.frames.put(p)
		return errDraining
	}
	s.metrics.frames.Inc()
	c.handlers.Add(1)
	go c.handle(p)
	return nil
}

// readLength waits for the two length bytes: for the first as long as a connection may be idle, for the second as for any
// part of a frame.
func (c *Conn) readLength() (int, error) {
	if err := c.deadline(c.server.cfg.IdleTimeout); err != nil {
		return 0, err
	}
	got, err := c.nc.Read(c.length[:])
	if err != nil && got == 0 {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return 0, errIdle
		}
		return 0, fmt.Errorf("between frames: %w", err)
	}
	if got < lengthSize {
		if err := c.deadline(c.server.cfg.FrameTimeout); err != nil {
			return 0, err
		}
		if _, err := io.ReadFull(c.nc, c.length[got:]); err != nil {
			if c.server.draining.Load() {
				return 0, errDraining
			}
			return 0, cutReason(err)
		}
	}
	return int(binary.BigEndian.Uint16(c.length[:])), nil
}

// deadline sets the read deadline. Stop sets draining before it sets its own past deadline, so looking at draining after
// setting ours never loses a stop.
func (c *Conn) deadline(d time.Duration) error {
	_ = c.nc.SetReadDeadline(time.Now().Add(d)) // fails only on a closed socket: the read tells
	if c.server.draining.Load() {
		return errDraining
	}
	return nil
}

// handle runs the handler for the frame in p.
func (c *Conn) handle(p *[]byte) {
	s := c.server
	s.metrics.inFlight.Inc()
	defer func() {
		s.metrics.inFlight.Dec()
		if v := recover(); v != nil {
			s.metrics.panics.Inc()
			s.cfg.Log.Error("handler panicked, connection closed", "remote", c.RemoteAddr().String(), "panic", panicText(v), "stack", string(debug.Stack()))
			c.Close()
		} else {
			s.frames.put(p)
		}
		<-c.places
		c.handlers.Done()
	}()
	s.cfg.Handler(s.hard, c, *p)
}

// panicText describes a panic. Only the texts of the runtime are known to carry no content of a message; of anything else
// the type is shown.
func panicText(v any) string {
	if e, ok := v.(runtime.Error); ok {
		return e.Error()
	}
	return fmt.Sprintf("value of type %T", v)
}

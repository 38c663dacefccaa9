package bank

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// outQueue is how many answers wait for the line of one connection. When the peer does not read, the queue fills, and then the
	// bank stops reading from it.
	outQueue = 1024
	// bufferSize lets many small frames go in one system call.
	bufferSize = 64 * 1024
	// frameTimeout bounds a frame that has begun; between frames a connection may be silent for ever.
	frameTimeout = 10 * time.Second
	// writeTimeout gives up on a peer that does not read.
	writeTimeout = 10 * time.Second
)

// outgoing is one answer on its way to the line.
type outgoing struct {
	frame []byte
	twice bool // Send the frame two times.
	close bool // Close the connection after it.
}

// session is one connection. The reading goroutine works on the messages too: a message costs microseconds and waits for
// nothing. Late and held answers go round it, so answers may overtake each other.
type session struct {
	bank     *Bank
	conn     net.Conn
	name     string
	out      chan outgoing
	done     chan struct{}
	closing  sync.Once
	signedOn atomic.Bool // Written by the reading goroutine, read by the control API.

	request, answer message // The reading goroutine's own.
}

func newSession(b *Bank, conn net.Conn, id uint64) *session {
	return &session{
		bank: b, conn: conn, name: fmt.Sprintf("%d %s", id, conn.RemoteAddr()),
		out: make(chan outgoing, outQueue), done: make(chan struct{}),
	}
}

// close ends both goroutines of the session; it may be called by anybody and often.
func (s *session) close() {
	s.closing.Do(func() {
		close(s.done)
		_ = s.conn.Close() // The peer sees the end either way.
	})
}

func (s *session) log() *slog.Logger { return s.bank.log.With(slog.String("connection", s.name)) }

// push hands an answer to the writing goroutine, or drops it when the connection has gone.
func (s *session) push(o outgoing) {
	select {
	case s.out <- o:
	case <-s.done:
	}
}

func (s *session) readLoop() {
	defer s.close()
	s.log().Debug("bank simulator: connection opened")
	in := bufio.NewReaderSize(s.conn, bufferSize)
	var body [maxMessage]byte
	for {
		data, err := s.readFrame(in, body[:])
		if err != nil {
			switch {
			case errors.Is(err, io.EOF):
				// The peer has said all it had to say and may still read: what is queued goes out first.
				s.push(outgoing{close: true})
				<-s.done
				s.log().Debug("bank simulator: connection closed")
			case errors.Is(err, net.ErrClosed):
				s.log().Debug("bank simulator: connection closed")
			default:
				s.log().Warn("bank simulator: connection lost", slog.Any("error", err))
			}
			return
		}
		s.handle(data)
	}
}

// readFrame reads one message into body. A length outside the bounds ends the connection: nothing after it can be trusted.
func (s *session) readFrame(in *bufio.Reader, body []byte) ([]byte, error) {
	if _, err := in.Peek(1); err != nil { // May wait for ever: the peer has nothing to say.
		return nil, err
	}
	if err := s.await(in, lengthSize); err != nil {
		return nil, err
	}
	var head [lengthSize]byte
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return nil, fmt.Errorf("frame length: %w", unexpected(err))
	}
	size := int(binary.BigEndian.Uint16(head[:]))
	if size == 0 || size > len(body) {
		return nil, fmt.Errorf("frame length %d, allowed 1 to %d", size, len(body))
	}
	if err := s.await(in, size); err != nil {
		return nil, err
	}
	if _, err := io.ReadFull(in, body[:size]); err != nil {
		return nil, fmt.Errorf("frame of %d bytes: %w", size, unexpected(err))
	}
	return body[:size], nil
}

// await sets the deadline of a frame that has begun, or none when its bytes are here already.
func (s *session) await(in *bufio.Reader, size int) error {
	if in.Buffered() >= size {
		return nil
	}
	if err := s.conn.SetReadDeadline(time.Now().Add(frameTimeout)); err != nil {
		return fmt.Errorf("set read deadline: %w", err)
	}
	if _, err := in.Peek(size); err != nil {
		return fmt.Errorf("rest of a frame: %w", unexpected(err))
	}
	if err := s.conn.SetReadDeadline(time.Time{}); err != nil {
		return fmt.Errorf("clear read deadline: %w", err)
	}
	return nil
}

// unexpected tells an end inside a frame from an end between frames.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func (s *session) writeLoop() {
	defer s.close()
	w := bufio.NewWriterSize(s.conn, bufferSize)
	for {
		select {
		case o := <-s.out:
			if err := s.write(w, o); err != nil {
				s.log().Warn("bank simulator: answer not sent", slog.Any("error", err))
				return
			}
			if o.close {
				return
			}
		case <-s.done:
			return
		}
	}
}

// write puts a frame into the buffer and sends the buffer when nothing else waits.
func (s *session) write(w *bufio.Writer, o outgoing) error {
	if err := s.conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return fmt.Errorf("set write deadline: %w", err)
	}
	times := 1
	if o.twice {
		times = 2
	}
	for range times {
		if _, err := w.Write(o.frame); err != nil {
			return err
		}
	}
	if len(s.out) == 0 || o.close {
		return w.Flush()
	}
	return nil
}

// deliver sends an answer the way the faults say. It reports false when there were too many waiting answers already.
func (s *session) deliver(mti string, frame []byte, bad *misdeeds) bool {
	o := outgoing{frame: frame, twice: bad.has(DoubleAnswer)}
	switch {
	case bad.has(NoAnswer):
		return true
	case bad.has(CloseInstead):
		o = outgoing{close: true}
	case bad.has(CutFrame):
		o = outgoing{frame: frame[:len(frame)/2], close: true}
	}
	held := s.bank.held
	switch {
	case bad.has(Hold):
		if !held.reserve() {
			return false
		}
		held.add(heldAnswer{session: s, out: o, mti: mti})
	case bad.late > 0:
		if !held.reserve() {
			return false
		}
		time.AfterFunc(bad.late, func() {
			held.free()
			s.push(o)
		})
	default:
		s.push(o)
	}
	return true
}

package link

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Limits of one client connection.
const (
	// maxBatch is how many bytes one write may join: enough for hundreds of requests, and still one socket buffer.
	maxBatch = 64 << 10
	// maxLate bounds the memory for keys whose late answers may still come: above it the oldest is forgotten.
	maxLate = 65536
)

// stage says how far a call has come. It changes only under session.mu.
type stage uint8

const (
	queued  stage = iota // nothing was written
	writing              // the writer has it: only the writer knows what went out
	sent                 // all of it was handed to the socket
	ended                // answered or failed: result and err are final
)

// call is one request on its way. A new one is made for every exchange: one that was reused could receive the answer of
// another.
type call[K comparable] struct {
	key    K
	oneWay bool          // Send: ends when it is written
	frame  *[]byte       // length and content, until the writer has taken it
	stage  stage         //
	done   chan struct{} // closed when stage becomes ended by somebody else than the waiter
	answer []byte
	err    error
}

// Session is one connection of a Client: what OnConnect and KeepAlive work on. It ends with its connection.
type Session[K comparable] struct {
	cfg     *ClientConfig[K]
	metrics *clientMetrics
	frames  *buffers
	nc      net.Conn
	under   *countingConn

	mu        sync.Mutex // never held while waiting for anything
	cause     error      // why the session ended; nil while it lives
	queue     []*call[K] // stage queued, in order
	pending   map[K]*call[K]
	late      map[K]time.Time // keys of requests that were given up, and when
	lateOrder []lateKey[K]    // the same, oldest first

	wake     chan struct{} // tells the writer that the queue is not empty
	closed   chan struct{} // closed when the session ends
	heard    atomic.Int64  // when the last frame came, UnixNano
	routines sync.WaitGroup
}

// lateKey is one entry in the order of giving up.
type lateKey[K comparable] struct {
	key K
	at  time.Time
}

// newSession starts reader and writer.
func newSession[K comparable](cfg *ClientConfig[K], m *clientMetrics, frames *buffers, nc net.Conn, under *countingConn) *Session[K] {
	s := &Session[K]{
		cfg: cfg, metrics: m, frames: frames, nc: nc, under: under,
		pending: map[K]*call[K]{}, late: map[K]time.Time{},
		wake: make(chan struct{}, 1), closed: make(chan struct{}),
	}
	s.heard.Store(time.Now().UnixNano())
	s.routines.Add(2)
	go s.read()
	go s.write()
	return s
}

// RemoteAddr is the peer's address.
func (s *Session[K]) RemoteAddr() net.Addr { return s.nc.RemoteAddr() }

// Exchange is Client.Exchange on this very connection; in OnConnect it works before the connection is usable for others.
func (s *Session[K]) Exchange(ctx context.Context, key K, frame []byte) ([]byte, error) {
	return s.count(s.run(ctx, &call[K]{key: key}, frame))
}

// Send is Client.Send on this very connection.
func (s *Session[K]) Send(ctx context.Context, frame []byte) error {
	_, err := s.count(s.run(ctx, &call[K]{oneWay: true}, frame))
	return err
}

// count keeps the metrics.
func (s *Session[K]) count(answer []byte, err error) ([]byte, error) {
	if err == nil {
		s.metrics.answered.Inc()
	} else {
		s.metrics.failed[OutcomeOf(err)].Inc()
	}
	return answer, err
}

// run queues the call and waits until it ends or ctx does.
func (s *Session[K]) run(ctx context.Context, c *call[K], frame []byte) ([]byte, error) {
	if err := checkLength(len(frame), s.cfg.MaxFrame); err != nil {
		return nil, s.fail(NotSent, err)
	}
	if err := ctx.Err(); err != nil {
		return nil, s.fail(NotSent, err)
	}
	c.done = make(chan struct{})
	c.frame = s.frames.get(lengthSize + s.cfg.MaxFrame)
	*c.frame = appendFrame(*c.frame, frame)
	if err := s.enqueue(c); err != nil {
		s.frames.put(c.frame)
		return nil, s.fail(NotSent, err)
	}
	select {
	case s.wake <- struct{}{}:
	default: // the writer has been told already
	}
	select {
	case <-c.done:
		return c.answer, c.err
	case <-ctx.Done():
		return s.giveUp(c, ctx.Err())
	}
}

// enqueue makes the call pending, unless the session has ended or the key is taken.
func (s *Session[K]) enqueue(c *call[K]) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cause != nil {
		return s.cause
	}
	if !c.oneWay {
		if _, ok := s.pending[c.key]; ok {
			return ErrKeyInUse
		}
		if at, ok := s.late[c.key]; ok && !s.cfg.RepeatKeys {
			if time.Since(at) < s.cfg.LateWindow {
				return fmt.Errorf("%w: the answer to an earlier request with it may still come", ErrKeyInUse)
			}
			delete(s.late, c.key)
		}
		s.pending[c.key] = c
	}
	s.queue = append(s.queue, c)
	return nil
}

// giveUp ends a call whose context has ended. An answer that came at the same moment is still taken.
func (s *Session[K]) giveUp(c *call[K], cause error) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch c.stage {
	case ended:
		return c.answer, c.err
	case queued:
		for i, q := range s.queue {
			if q == c {
				s.queue = append(s.queue[:i], s.queue[i+1:]...)
				break
			}
		}
		s.frames.put(c.frame)
		s.forget(c)
		c.stage = ended
		return nil, s.fail(NotSent, cause)
	default:
		s.forget(c)
		if !c.oneWay {
			s.remember(c.key)
		}
		c.stage = ended
		return nil, s.fail(Unknown, cause)
	}
}

// forget takes a call out of pending. The caller holds mu.
func (s *Session[K]) forget(c *call[K]) {
	if !c.oneWay && s.pending[c.key] == c {
		delete(s.pending, c.key)
	}
}

// remember notes the key of a request that was given up: its answer is late, not stray. The caller holds mu.
func (s *Session[K]) remember(key K) {
	now := time.Now()
	s.late[key] = now
	s.lateOrder = append(s.lateOrder, lateKey[K]{key, now})
	for len(s.lateOrder) > 0 {
		oldest := s.lateOrder[0]
		if len(s.lateOrder) <= maxLate && now.Sub(oldest.at) < s.cfg.LateWindow {
			break
		}
		if at, ok := s.late[oldest.key]; ok && at.Equal(oldest.at) {
			delete(s.late, oldest.key)
		}
		s.lateOrder = s.lateOrder[1:]
	}
}

// end makes a result final and wakes the waiter. The caller holds mu; a call that has ended stays as it is.
func (s *Session[K]) end(c *call[K], answer []byte, err error) {
	if c.stage == ended {
		return
	}
	s.forget(c)
	c.stage, c.answer, c.err = ended, answer, err
	close(c.done)
}

// close ends the session: every call that is not in the writer's hands ends at once, and the writer, whose write now fails, ends
// the others with what it knows. Only the first cause counts.
func (s *Session[K]) close(cause error) {
	s.mu.Lock()
	if s.cause != nil {
		s.mu.Unlock()
		return
	}
	s.cause = cause
	for _, c := range s.queue {
		s.frames.put(c.frame)
		s.end(c, nil, s.fail(NotSent, cause))
	}
	s.queue = nil
	for _, c := range s.pending {
		if c.stage == sent {
			s.end(c, nil, s.fail(Unknown, cause))
		}
	}
	s.mu.Unlock()
	close(s.closed)
	_ = s.nc.Close() // the socket is given up, whatever it says
}

// err is why the session ended, nil while it lives.
func (s *Session[K]) err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cause
}

func (s *Session[K]) fail(o Outcome, err error) error {
	return &Error{Outcome: o, Link: s.cfg.Name, Err: err}
}

// write sends what is queued, many frames in one write where they have gathered, until the session ends.
func (s *Session[K]) write() {
	defer s.routines.Done()
	buf := make([]byte, 0, maxBatch)
	var batch []*call[K]
	var ends []int // where each frame of the batch ends in buf
	for {
		select {
		case <-s.wake:
		case <-s.closed:
			return
		}
		for {
			buf, batch, ends = s.take(buf, batch[:0], ends[:0])
			if len(batch) == 0 {
				break
			}
			_ = s.nc.SetWriteDeadline(time.Now().Add(s.cfg.WriteTimeout)) // fails only on a closed socket: the write tells
			n, err := writeCounted(s.nc, s.under, buf)
			s.written(batch, ends, n, err)
			clear(buf)
			clear(batch)
			if err != nil {
				s.close(fmt.Errorf("%w: write: %w", ErrConnectionLost, err))
				return
			}
		}
	}
}

// take moves queued calls into the writer's hands.
func (s *Session[K]) take(buf []byte, batch []*call[K], ends []int) ([]byte, []*call[K], []int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	buf = buf[:0]
	taken := 0
	for _, c := range s.queue {
		if len(buf) > 0 && len(buf)+len(*c.frame) > maxBatch {
			break
		}
		buf = append(buf, *c.frame...)
		s.frames.put(c.frame)
		c.frame, c.stage = nil, writing
		batch, ends = append(batch, c), append(ends, len(buf))
		taken++
	}
	rest := copy(s.queue, s.queue[taken:])
	clear(s.queue[rest:])
	s.queue = s.queue[:rest]
	return buf, batch, ends
}

// written notes what became of a batch of which n bytes went out.
func (s *Session[K]) written(batch []*call[K], ends []int, n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	start := 0
	for i, c := range batch {
		switch {
		case c.stage == ended:
		case err != nil && n <= start:
			s.end(c, nil, s.fail(NotSent, fmt.Errorf("%w: write: %w", ErrConnectionLost, err)))
		case err != nil: // cut, or whole but on a connection that is closed before an answer can come
			s.end(c, nil, s.fail(Unknown, fmt.Errorf("%w: write: %w", ErrConnectionLost, err)))
		case c.oneWay:
			s.end(c, nil, nil)
		case s.cause != nil: // ended while we were writing: nobody will read an answer
			s.end(c, nil, s.fail(Unknown, s.cause))
		default:
			c.stage = sent
		}
		start = ends[i]
	}
}

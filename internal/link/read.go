package link

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"
)

// readBuffer saves system calls when many short answers come together.
const readBuffer = 16 << 10

// read takes answers until the connection ends.
func (s *Session[K]) read() {
	defer s.routines.Done()
	err := s.readAll()
	if !errors.Is(err, ErrConnectionLost) {
		err = fmt.Errorf("%w: %w", ErrConnectionLost, err)
	}
	s.close(err)
}

func (s *Session[K]) readAll() (err error) {
	defer func() {
		// Key and OnStray are the caller's and see hostile bytes: a panic there must cost one connection, not the process.
		if v := recover(); v != nil {
			s.metrics.strays.Inc()
			s.cfg.Log.Error("panic on an answer, connection closed", "panic", panicText(v))
			err = fmt.Errorf("panic on an answer: %s", panicText(v))
		}
	}()
	r := bufio.NewReaderSize(s.nc, readBuffer)
	var length [lengthSize]byte
	bounded := false // whether a read deadline is set: only while the rest of a frame is awaited
	need := func(n int) {
		if r.Buffered() < n && !bounded {
			_ = s.nc.SetReadDeadline(time.Now().Add(s.cfg.FrameTimeout)) // fails only on a closed socket: the read tells
			bounded = true
		}
	}
	for {
		if bounded {
			_ = s.nc.SetReadDeadline(time.Time{}) // silence is watched by KeepAlive and by the contexts of the calls
			bounded = false
		}
		if _, err := r.Peek(1); err != nil {
			return err
		}
		need(lengthSize)
		if _, err := io.ReadFull(r, length[:]); err != nil {
			return cutReason(err)
		}
		n := int(binary.BigEndian.Uint16(length[:]))
		if err := checkLength(n, s.cfg.MaxFrame); err != nil {
			s.metrics.strays.Inc()
			return err
		}
		need(n)
		answer := make([]byte, n)
		if _, err := io.ReadFull(r, answer); err != nil {
			return cutReason(err)
		}
		s.heard.Store(time.Now().UnixNano())
		if err := s.deliver(answer); err != nil {
			return err
		}
	}
}

// deliver gives an answer to the one call it belongs to. Only a call whose bytes have begun to go out can be answered.
func (s *Session[K]) deliver(answer []byte) error {
	key, err := s.cfg.Key(answer)
	if err != nil {
		return s.stray(answer, fmt.Errorf("answer without a readable key: %w", err))
	}
	s.mu.Lock()
	if c, ok := s.pending[key]; ok && c.stage != queued {
		s.end(c, answer, nil)
		s.mu.Unlock()
		return nil
	}
	_, late := s.late[key]
	delete(s.late, key)
	s.mu.Unlock()
	if late {
		s.metrics.late.Inc()
		if s.cfg.OnStray != nil {
			s.cfg.OnStray(answer)
		}
		return nil
	}
	return s.stray(answer, errors.New("answer that belongs to no request"))
}

// stray handles a frame that belongs to no request: with Poison it ends the connection.
func (s *Session[K]) stray(frame []byte, cause error) error {
	s.metrics.strays.Inc()
	if s.cfg.Poison {
		s.cfg.Log.Error("stray answer, connection closed", "cause", cause)
		return cause
	}
	if s.cfg.OnStray != nil {
		s.cfg.OnStray(frame)
	}
	return nil
}

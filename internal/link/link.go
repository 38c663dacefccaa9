// Package link carries length-framed messages over TCP and TLS: a server for many peers and a client that keeps one
// pipelined connection open.
//
// A frame is a 2-byte big-endian length, which does not count itself, and that many bytes. A length of zero or above
// MaxFrame is never read further: it is counted, and the connection is closed, because nothing after it can be trusted.
//
// The client's errors decide about money, so they are exact. Every failed Exchange or Send is an *Error whose Outcome says
// NotSent (no byte of the request was handed to the socket: the peer cannot have acted) or Unknown (some or all bytes were
// handed over and no answer came: the peer may have acted). No wait in this package is without an end: each one is
// bounded by a context, by a configured time or by the closing of the connection, and no lock is held while waiting
// (facts/platform.md, "ISO 8583", tells of a library where that went wrong).
package link

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// Limits that are used where a configuration leaves a field zero.
const (
	// DefaultMaxFrame is the longest frame accepted or sent, in bytes. POS messages stay under 1 KiB and HSM host commands under
	// 2 KiB; 4 KiB leaves room for both and keeps a hostile length from reserving memory.
	DefaultMaxFrame = 4096

	// maxFrameLimit is what the 2-byte length can say.
	maxFrameLimit = 65535

	// lengthSize is the size of the length in front of a frame: 2 bytes, big-endian.
	lengthSize = 2

	// defaultWriteTimeout bounds one write to a socket: a peer that does not read for this long is gone.
	defaultWriteTimeout = 10 * time.Second

	// defaultFrameTimeout bounds the rest of a frame whose first byte has come: a frame fits in a few packets, so a peer that
	// needs longer is broken or hostile.
	defaultFrameTimeout = 10 * time.Second
)

// Outcome says what a failure means for the request. It is also the metric label.
type Outcome uint8

// The two kinds of failure. The zero value is Unknown, so that a forgotten outcome is the careful one.
const (
	// Unknown means that some or all bytes of the request were handed to the socket: the peer may have acted on it.
	Unknown Outcome = iota
	// NotSent means that no byte of the request was handed to the socket: the peer cannot have acted on it.
	NotSent
)

// String returns "unknown" or "not_sent".
func (o Outcome) String() string {
	if o == NotSent {
		return "not_sent"
	}
	return "unknown"
}

// Error is every error of Exchange, Send and Conn.Write.
type Error struct {
	// Outcome says whether the peer can have seen the frame.
	Outcome Outcome
	// Link is the configured name of the connection.
	Link string
	// Err is the cause, for example context.DeadlineExceeded.
	Err error
}

// Error names the connection, what is known about the request, and the cause.
func (e *Error) Error() string {
	if e.Outcome == NotSent {
		return fmt.Sprintf("%s: request not sent: %v", e.Link, e.Err)
	}
	return fmt.Sprintf("%s: request sent, no answer: %v", e.Link, e.Err)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// OutcomeOf tells what err means for the request. An error that does not come from this package counts as Unknown.
func OutcomeOf(err error) Outcome {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Outcome
	}
	return Unknown
}

// Causes that a caller may want to tell apart with errors.Is.
var (
	// ErrNotConnected means that there is no usable connection at the moment; the client goes on trying in the background.
	ErrNotConnected = errors.New("not connected")
	// ErrStopped means that Stop was called.
	ErrStopped = errors.New("stopped")
	// ErrConnectionLost means that the connection ended while the request was under way.
	ErrConnectionLost = errors.New("connection lost")
	// ErrKeyInUse means that the key belongs to a request which is in flight or whose late answer may still come.
	ErrKeyInUse = errors.New("key already in use on this connection")
)

// Reason says what was wrong with a frame. It is also the metric label.
type Reason string

// Reasons for closing a connection because of what it carried.
const (
	ReasonZeroLength Reason = "zero_length" // the length is 0
	ReasonTooLong    Reason = "too_long"    // the length is above MaxFrame
	ReasonCut        Reason = "cut"         // the connection ended inside a frame
	ReasonSlow       Reason = "slow"        // the rest of a frame did not come in time
)

// reasons lists all of them, so that every counter starts at zero.
var reasons = []Reason{ReasonZeroLength, ReasonTooLong, ReasonCut, ReasonSlow}

// frameError is a bad frame as an error.
type frameError struct {
	reason Reason
	length int
}

func (e *frameError) Error() string {
	switch e.reason {
	case ReasonZeroLength, ReasonTooLong:
		return fmt.Sprintf("frame length %d is not allowed (%s)", e.length, e.reason)
	default:
		return "frame not complete (" + string(e.reason) + ")"
	}
}

// checkLength refuses a length that must not be read or written.
func checkLength(n, limit int) error {
	if n == 0 {
		return &frameError{reason: ReasonZeroLength}
	}
	if n > limit {
		return &frameError{reason: ReasonTooLong, length: n}
	}
	return nil
}

// appendFrame adds length and content to dst. The caller has checked the length.
func appendFrame(dst, frame []byte) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(frame)))
	return append(dst, frame...)
}

// cutReason turns an error in the middle of a frame into a frameError.
func cutReason(err error) error {
	if isTimeout(err) {
		return &frameError{reason: ReasonSlow}
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return &frameError{reason: ReasonCut}
	}
	return fmt.Errorf("%w: %w", &frameError{reason: ReasonCut}, err)
}

// isTimeout tells a deadline from other errors.
func isTimeout(err error) bool {
	t, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](err)
	return ok && t.Timeout()
}

// buffers lends byte slices for frames. A slice is wiped before it goes back, because frames carry PIN blocks.
type buffers struct{ pool sync.Pool }

// get lends a slice of length 0 that holds at least size bytes.
func (b *buffers) get(size int) *[]byte {
	if p, ok := b.pool.Get().(*[]byte); ok && cap(*p) >= size {
		return p
	}
	s := make([]byte, 0, size)
	return &s
}

// put takes a slice back.
func (b *buffers) put(p *[]byte) {
	clear(*p)
	*p = (*p)[:0]
	b.pool.Put(p)
}

// orDefault returns v, or def where v is not above zero.
func orDefault[T int | time.Duration](v, def T) T {
	if v <= 0 {
		return def
	}
	return v
}

package pos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// maxStray bounds how many answers to other messages the terminal throws away while it waits for its own: with a
// connection kept open a late answer to an earlier message may come first.
const maxStray = 8

// notSentError says that nothing of a message left the terminal, so that nothing is in doubt.
type notSentError struct{ cause error }

func (e *notSentError) Error() string {
	var refused *certificateError
	if errors.As(e.cause, &refused) {
		return fmt.Sprintf("not sent: %v", e.cause)
	}
	return fmt.Sprintf("not sent: %v; is posp running (make dev), and on this address?", e.cause)
}

func (e *notSentError) Unwrap() error { return e.cause }

// errNoAnswer says that a message was sent and no usable answer came.
var errNoAnswer = errors.New("no answer")

// received is an answer with what its MAC covers.
type received struct {
	packet packet
	mab    []byte
}

// exchange sends a request and waits for the answer with its trace. An error is a notSentError, or the message may have
// arrived.
func (t *Terminal) exchange(ctx context.Context, request packet) (received, error) {
	frame, err := request.frame()
	if err != nil {
		return received{}, &notSentError{err}
	}
	if err := t.dial(ctx); err != nil {
		return received{}, &notSentError{err}
	}
	conn := t.conn
	if err := conn.SetDeadline(time.Now().Add(t.cfg.Timeout)); err != nil {
		t.hangUp()
		return received{}, &notSentError{err}
	}
	// A deadline in the past wakes the read when the caller gives up.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := conn.Write(frame); err != nil {
		t.hangUp()
		return received{}, fmt.Errorf("%w: send: %w", errNoAnswer, err)
	}
	for range maxStray {
		answer, err := readAnswer(conn)
		if err != nil {
			t.hangUp()
			if refused := refusedBy(err); refused != err { //nolint:errorlint // The very same error comes back when it is another.
				return received{}, &notSentError{refused}
			}
			return received{}, fmt.Errorf("%w: %w", errNoAnswer, err)
		}
		if answer.packet.fields[11] == request.fields[11] {
			return answer, nil
		}
	}
	t.hangUp()
	return received{}, fmt.Errorf("%w: only answers to other messages", errNoAnswer)
}

// readAnswer reads one frame and decodes it. A frame that cannot be decoded is an error: there is no telling whose it is.
func readAnswer(r io.Reader) (received, error) {
	var length [2]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return received{}, fmt.Errorf("read answer: %w", err)
	}
	n := int(length[0])<<8 | int(length[1])
	if n > maxPacket {
		return received{}, fmt.Errorf("read answer: length %d is over %d", n, maxPacket)
	}
	raw := make([]byte, n)
	if _, err := io.ReadFull(r, raw); err != nil {
		return received{}, fmt.Errorf("read answer: cut off: %w", err)
	}
	p, mab, err := parsePacket(raw)
	if err != nil {
		return received{}, fmt.Errorf("%w: %w", errBadAnswer, err)
	}
	return received{packet: p, mab: mab}, nil
}

// errBadAnswer says that an answer came which is none of this dialect.
var errBadAnswer = errors.New("the answer cannot be read")

// probeWait is how long a kept connection is listened to before it is used again. Long enough to notice that the host has
// hung up in the meantime, short beside any answer.
const probeWait = 200 * time.Microsecond

// dial makes sure of a connection. A kept one is used again only when it is quiet: a host that hung up while the terminal
// was idle must not put a purchase in doubt, and a late answer must not meet the next request.
func (t *Terminal) dial(ctx context.Context) error {
	if t.conn != nil && !t.sameLine(ctx) {
		t.hangUp()
	}
	if t.conn != nil {
		var one [1]byte
		err := t.conn.SetReadDeadline(time.Now().Add(probeWait))
		if err == nil {
			_, err = t.conn.Read(one[:])
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		t.hangUp()
	}
	conn, err := t.connect(ctx)
	if err != nil {
		return err
	}
	t.conn = conn
	return nil
}

// hangUp closes the connection if there is one. Its error says nothing that matters: the exchange is over.
func (t *Terminal) hangUp() {
	if t.conn != nil {
		_ = t.conn.Close()
		t.conn = nil
	}
}

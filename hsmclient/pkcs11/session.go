//go:build cgo

package pkcs11

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	p11 "github.com/miekg/pkcs11"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/driver"
)

var (
	errGivenUp = errors.New("the session was given up")
	errClosed  = errors.New("closed")
)

// session is one session with a token. It implements driver.Channel.
type session struct {
	lib    *library
	stuck  *atomic.Int32 // calls for this token that hang
	handle p11.SessionHandle
	slot   uint
	lmk    p11.ObjectHandle // as found at opening; only for who has the turn
	cfg    settings
	onLate func(driver.Late)

	temporary []p11.ObjectHandle // opened or made in the session and not yet destroyed; only for who has the turn

	turn  chan struct{} // holds one element while an operation is under way
	done  chan struct{}
	heard atomic.Int64 // Unix time in ns

	mu       sync.Mutex // never held while waiting
	cause    error      // why the session ended; nil while it lives
	poisoned bool
}

var _ driver.Channel = (*session)(nil)

// Depth implements driver.Channel: PKCS#11 knows one operation at a time in a session.
func (s *session) Depth() int { return 1 }

// Exchange implements driver.Channel. A token is not asked by bytes.
func (s *session) Exchange(_ context.Context, _ []byte) ([]byte, error) {
	return nil, &command.Error{Class: command.NoLicence, Err: fmt.Errorf("%w: a PKCS#11 token takes no host commands", driver.ErrNotSent)}
}

// Done implements driver.Channel.
func (s *session) Done() <-chan struct{} { return s.done }

// Cause implements driver.Channel.
func (s *session) Cause() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cause
}

// Poisoned implements driver.Channel.
func (s *session) Poisoned() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.poisoned
}

// Heard implements driver.Channel. Every call that came back counts.
func (s *session) Heard() time.Time { return time.Unix(0, s.heard.Load()) }

// Close implements driver.Channel.
func (s *session) Close(cause error) {
	if cause == nil {
		cause = errClosed
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cause != nil {
		return
	}
	s.cause, s.poisoned = cause, errors.Is(cause, driver.ErrMalformed)
	close(s.done)
	go s.retire()
}

// retire closes the session when the call under way has come back, and keeps its turn for good. With the session go the keys that
// were unwrapped in it.
func (s *session) retire() {
	defer s.lib.release()
	s.turn <- struct{}{}
	_ = s.lib.ctx.CloseSession(s.handle) // a session that is gone already is as good
}

// lost is the error of a request that found the session ended.
func (s *session) lost(code string, sent bool) *command.Error {
	cause := fmt.Errorf("%w: %w", driver.ErrLost, s.Cause())
	if !sent {
		cause = fmt.Errorf("%w: %w", driver.ErrNotSent, cause)
	}
	return &command.Error{Class: command.MemberFault, Command: code, Err: cause}
}

// unanswered is the error of a request that brought no result.
func unanswered(code string, sent bool, cause error) *command.Error {
	class := command.MemberFault
	switch {
	case errors.Is(cause, context.Canceled), !sent && errors.Is(cause, context.DeadlineExceeded):
		class = command.Unavailable
	}
	if !sent {
		cause = fmt.Errorf("%w: %w", driver.ErrNotSent, cause)
	}
	return &command.Error{Class: class, Command: code, Err: cause}
}

// call does one operation in the session; code and sent are for the report of one that comes back late. A result that is a fault of
// the member ends the session, and so does giving up an operation.
func call[T any](ctx context.Context, s *session, code string, sent int, work func() (T, error)) (T, error) {
	var none T
	if err := ctx.Err(); err != nil {
		return none, unanswered(code, false, err)
	}
	select {
	case s.turn <- struct{}{}:
	case <-s.done:
		return none, s.lost(code, false)
	case <-ctx.Done():
		return none, unanswered(code, false, fmt.Errorf("the session is busy: %w", ctx.Err()))
	}
	select {
	case <-s.done:
		<-s.turn
		return none, s.lost(code, false)
	default:
	}
	if s.stuck.Load() >= maxStuck {
		<-s.turn
		return none, unanswered(code, false, errStuck)
	}
	begun := time.Now()
	v, returned, err := run(ctx, s.lib, s.stuck, s.done, work, func(v T, _ error, late bool) {
		<-s.turn
		s.heard.Store(time.Now().UnixNano())
		if late {
			s.throwAway(code, sent, begun, v)
		}
	})
	switch {
	case !returned && errors.Is(err, errGivenUp):
		return none, s.lost(code, true)
	case !returned:
		s.Close(fmt.Errorf("%s was given up without an answer: %w", code, err))
		return none, unanswered(code, true, err)
	case err == nil:
		return v, nil
	}
	e := asCommandError(code, err)
	if e.Class == command.MemberFault {
		cause := *e // the caller may write the member's name into its own
		s.Close(&cause)
	}
	return none, e
}

// throwAway reports a result that nobody waits for any more, and wipes it: it may be a clear data key.
func (s *session) throwAway(code string, sent int, begun time.Time, v any) {
	b, _ := v.([]byte)
	if s.onLate != nil {
		s.onLate(driver.Late{Command: code, Sent: sent, Received: len(b), At: begun, Took: time.Since(begun)})
	}
	clear(b)
}

// asCommandError classes what an operation returned.
func asCommandError(code string, err error) *command.Error {
	var e *command.Error
	if errors.As(err, &e) {
		return e
	}
	var r p11.Error
	if errors.As(err, &r) {
		return result(r).refused(code)
	}
	return &command.Error{Class: command.MemberFault, Command: code, Err: err}
}

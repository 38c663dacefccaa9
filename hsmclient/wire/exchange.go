package wire

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/driver"
)

// call is one request on its way. It is in pending from the moment that it is queued until its result is put into done.
type call struct {
	label  uint32
	serial uint64
	start  uint64 // where its frame begins in the stream of all that was ever queued
	size   int    // of the frame
	sent   int    // bytes of the request
	code   [2]byte
	at     time.Time
	answer []byte
	err    error
	done   chan struct{} // of one place: putting the result never waits
}

// calls are used again. That is safe because a call is out of pending before its result is put, and only pending leads to it.
var calls = sync.Pool{New: func() any { return &call{done: make(chan struct{}, 1)} }}

// late is a request that was given up and may still be answered.
type late struct {
	label  uint32
	serial uint64
	size   int
	sent   int
	code   [2]byte
	at     time.Time // when it was handed to the channel
}

// Exchange implements driver.Channel.
func (c *Channel) Exchange(ctx context.Context, request []byte) ([]byte, error) {
	code := codeOf(request)
	if n := len(request); n < len(code) || n > maxRequest {
		return nil, &command.Error{Class: command.CallerFault, Command: string(code[:]), Err: fmt.Errorf("the request has %d bytes, a device takes 2 to %d", n, maxRequest)}
	}
	if err := ctx.Err(); err != nil {
		return nil, c.failure(code, false, err)
	}
	if err := c.place(ctx, code); err != nil {
		return nil, err
	}
	defer func() { <-c.places }()

	own, _ := calls.Get().(*call)
	batch, err := c.enqueue(own, code, request)
	if err != nil {
		calls.Put(own)
		return nil, err
	}
	if batch != nil {
		c.send(batch)
	}
	select {
	case <-own.done:
	case <-ctx.Done():
		c.giveUp(own, ctx.Err())
		<-own.done // giveUp puts a result, or an answer came at the same moment and is as good
	}
	answer, err := own.answer, own.err
	own.answer, own.err = nil, nil
	calls.Put(own)
	return answer, err
}

// place waits for one of the places.
func (c *Channel) place(ctx context.Context, code [2]byte) error {
	select {
	case c.places <- struct{}{}:
		return nil
	default:
	}
	select {
	case c.places <- struct{}{}:
		return nil
	case <-c.done:
		return c.failure(code, false, c.lost())
	case <-ctx.Done():
		return c.failure(code, false, fmt.Errorf("no place on the channel: %w", ctx.Err()))
	}
}

// enqueue makes the call pending and queues its frame. What it returns, if not nil, the caller has to send.
func (c *Channel) enqueue(own *call, code [2]byte, request []byte) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause != nil {
		return nil, c.failure(code, false, lost(c.cause))
	}
	c.queue(own, code, request)
	if c.writing {
		return nil, nil // the one who writes will see it
	}
	c.writing = true
	if len(c.pending) > 1 || c.unanswered > directBytes {
		c.wake <- struct{}{} // never waits: only who has just got the right to write wakes
		return nil, nil
	}
	return c.takeBatch(), nil
}

// queue makes the call pending and writes its frame to out. The caller holds mu.
func (c *Channel) queue(own *call, code [2]byte, request []byte) {
	c.serial++
	own.label = 0
	if c.labelled {
		own.label = c.header.of(c.serial)
		for c.reserved(own.label) { // depth and maxLate leave more than half of the labels free
			c.serial++
			own.label = c.header.of(c.serial)
		}
	}
	own.serial, own.start, own.sent, own.code, own.at = c.serial, c.queued, len(request), code, time.Now()
	before := len(c.out)
	c.out = c.appendFrame(c.out, own.serial, request)
	own.size = len(c.out) - before
	c.queued += uint64(own.size)
	c.unanswered += own.size
	c.pending[own.label] = own
}

func (c *Channel) reserved(label uint32) bool {
	if _, ok := c.pending[label]; ok {
		return true
	}
	_, ok := c.lates[label]
	return ok
}

// giveUp ends a call whose context has ended, unless its result is there already.
func (c *Channel) giveUp(own *call, cause error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pending[own.label] != own {
		return
	}
	delete(c.pending, own.label)
	if own.start >= c.taken {
		c.unqueue(own)
		own.put(nil, c.failure(own.code, false, cause))
		return
	}
	own.put(nil, c.failure(own.code, true, cause))
	if !c.labelled {
		c.end(errGivenUp, false, c.taken)
		return
	}
	c.remember(late{label: own.label, serial: own.serial, size: own.size, sent: own.sent, code: own.code, at: own.at})
}

// unqueue takes the frame of a call out of out. The caller holds mu.
func (c *Channel) unqueue(own *call) {
	at := int(own.start - c.taken)
	tail := copy(c.out[at:], c.out[at+own.size:])
	clear(c.out[at+tail:])
	c.out = c.out[:at+tail]
	c.queued -= uint64(own.size)
	c.unanswered -= own.size
	for _, other := range c.pending {
		if other.start > own.start {
			other.start -= uint64(own.size)
		}
	}
}

// remember notes a request whose answer is late. The caller holds mu.
func (c *Channel) remember(l late) {
	c.lates[l.label] = l
	c.lateOrder = append(c.lateOrder, l)
	now := time.Now()
	for len(c.lateOrder) > 0 && now.Sub(c.lateOrder[0].at) > lateWindow {
		if old := c.lateOrder[0]; c.lates[old.label].serial == old.serial {
			delete(c.lates, old.label)
			c.unanswered -= old.size
		}
		c.lateOrder = c.lateOrder[1:]
	}
	if len(c.lates) > min(maxLate, c.header.labels()/4) {
		c.end(errTooLate, false, c.taken)
	}
}

// put makes a result final. The call is out of pending, so that it happens once.
func (own *call) put(answer []byte, err error) {
	own.answer, own.err = answer, err
	own.done <- struct{}{}
}

// failure classes what happened to a request: everything on the line is the member's fault, but nobody can help a caller who hung
// up, or whose time was over before anything was sent.
func (c *Channel) failure(code [2]byte, sent bool, cause error) error {
	class := command.MemberFault
	if errors.Is(cause, context.Canceled) || !sent && errors.Is(cause, context.DeadlineExceeded) {
		class = command.Unavailable
	}
	if sent {
		cause = fmt.Errorf("request sent, no answer: %w", cause)
	} else {
		cause = fmt.Errorf("%w: %w", driver.ErrNotSent, cause)
	}
	return &command.Error{Class: class, Command: string(code[:]), Member: c.name, Err: cause}
}

// codeOf is the two letters of a command.
func codeOf(request []byte) (code [2]byte) {
	copy(code[:], request)
	return code
}

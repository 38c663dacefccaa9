package hsmclient

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/driver"
)

// Bounds of repeating one command.
const (
	// maxSent is how often a command may be sent: once, and once more on another member (facts/hsm.md §6, point 7).
	maxSent = 2
	// maxTries also counts tries that failed before a byte was sent, or on members without the licence.
	maxTries = 8
)

// try is one request of a caller, from try to try. It is the context and the conversation of its driver at the same time, so that a
// command costs no timer and no goroutine: the sweeper ends what is overdue.
type try struct {
	parent context.Context //nolint:containedctx // It is a context itself: that of one try, made from the caller's.
	pool   *pool
	op     operation
	class  command.Priority

	// guarded by pool.mu while waiting or under way
	before, after *try
	lane          *lane
	node          *node
	left          int             // number of members left out
	leaveOut      [maxTries]*node // asked already
	elsewhere     bool            // must not come back to them: they have answered
	first         bool            // no try before
	last          bool            // may not be repeated, so that it gets all the time
	counted       bool            // among pool.running
	queued        time.Time
	began         time.Time // of this try
	deadline      time.Time // of this try
	given         chan struct{}
	waitErr       error // why there is no place

	// of this try, written by the caller's goroutine
	sent      bool // some byte may have gone out
	exchanges int
	ended     time.Time // of the last exchange, zero before
	took      time.Duration
	out, in   int // bytes

	// of the whole request, for those who watch
	repeated              bool
	firstAsked, lastAsked string

	done   chan struct{}
	ending atomic.Pointer[error]
}

var (
	_ context.Context     = (*try)(nil)
	_ driver.Conversation = (*try)(nil)
)

// Deadline implements context.Context.
func (t *try) Deadline() (time.Time, bool) { return t.deadline, true }

// Done implements context.Context.
func (t *try) Done() <-chan struct{} { return t.done }

// Err implements context.Context.
func (t *try) Err() error {
	if p := t.ending.Load(); p != nil {
		return *p
	}
	return nil
}

// Value implements context.Context.
func (t *try) Value(key any) any { return t.parent.Value(key) }

// end ends the context of the try. The caller holds pool.mu, so that a try ends once.
func (t *try) end(cause error) {
	if t.ending.Load() == nil {
		t.ending.Store(&cause)
		close(t.done)
	}
}

// share is when this try must have its answer: half of the remaining time while another member could still be asked. The caller holds
// pool.mu.
func (t *try) share(now time.Time) time.Time {
	end := now.Add(t.pool.c.cfg.Timeout)
	whole, ok := t.parent.Deadline()
	if !ok {
		return end
	}
	if !t.last && t.pool.serving > 1 {
		whole = now.Add(whole.Sub(now) / 2)
	}
	if whole.Before(end) {
		return whole
	}
	return end
}

// leavesOut says that the member was asked before.
func (t *try) leavesOut(n *node) bool {
	for _, o := range t.leaveOut[:t.left] {
		if o == n {
			return true
		}
	}
	return false
}

// again prepares the next try; skip leaves the member of this one out.
func (t *try) again(skip bool) {
	if skip && t.left < maxTries {
		t.leaveOut[t.left] = t.node
		t.left++
	}
	t.lane, t.node, t.first = nil, nil, false
	t.sent, t.exchanges, t.took, t.out, t.in, t.ended = false, 0, 0, 0, 0, time.Time{}
	if t.ending.Load() != nil {
		t.done = make(chan struct{})
		t.ending.Store(nil)
	}
	t.began = time.Now()
}

// Exchange implements driver.Conversation.
func (t *try) Exchange(ctx context.Context, request []byte) ([]byte, error) {
	began := t.start()
	answer, err := t.lane.exchange(ctx, request)
	t.finish(began, len(request), len(answer), err)
	if j := t.pool.c.journal(); j != nil {
		t.lane.record(j, t.op.String(), codeOf(request), began, t.ended, len(request), len(answer), t.lane.result(answer, err))
	}
	return answer, err
}

// Do implements driver.Conversation.
func (t *try) Do(ctx context.Context, code string, sent int, work func(context.Context, driver.Channel) (int, string, error)) error {
	began := t.start()
	received, result, err := t.lane.do(ctx, code, work)
	t.finish(began, sent, received, err)
	if j := t.pool.c.journal(); j != nil {
		if result == "" {
			result = t.lane.result(nil, err)
		}
		t.lane.record(j, t.op.String(), code, began, t.ended, sent, received, result)
	}
	return err
}

// start gives when an exchange begins; the first of a try began with it.
func (t *try) start() time.Time {
	if t.ended.IsZero() {
		return t.began
	}
	return time.Now()
}

func (t *try) finish(began time.Time, out, in int, err error) {
	t.ended = time.Now()
	t.exchanges++
	t.took += t.ended.Sub(began)
	t.in += in
	if err == nil || !driver.NotSent(err) {
		t.sent = true
		t.out += out
	}
}

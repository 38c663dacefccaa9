package hsmclient

import (
	"context"
	"sync"
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

// try is one request of a caller, from try to try.
type try struct {
	parent context.Context //nolint:containedctx // The caller's, for the time of the request.
	pool   *pool
	op     operation
	class  command.Priority
	talk   *talk // of this try

	// guarded by pool.mu while waiting or under way
	before, after *try
	lane          *lane
	node          *node
	left          int             // number of members left out
	leaveOut      [maxTries]*node // asked already
	elsewhere     bool            // must not come back to them: they have answered
	first         bool            // no try before
	last          bool            // may not be repeated, so that it gets all the time
	doubted       *node           // said that a key is none under its LMK; nil again when another said so too
	doubtedFor    string          // its words
	match         bool            // the verification of a MAC was successful
	counted       bool            // among pool.running
	queued        time.Time
	given         chan struct{}
	waitErr       error // why there is no place

	// of the whole request, for those who watch
	repeated              bool
	firstAsked, lastAsked string
}

// talk is one try on one channel. It is the context and the conversation of the driver at the same time, so that a command costs no
// timer and no goroutine: the sweeper ends what is overdue.
type talk struct {
	parent   context.Context //nolint:containedctx // It is a context itself, made from the caller's.
	op       operation
	lane     *lane
	began    time.Time
	deadline time.Time
	done     chan struct{}
	ending   atomic.Pointer[error]

	// written by the caller's goroutine alone
	sent      bool // some byte may have gone out
	exchanges int
	ended     time.Time // of the last exchange, zero before
	took      time.Duration
	out, in   int // bytes
}

var (
	_ context.Context     = (*talk)(nil)
	_ driver.Conversation = (*talk)(nil)
)

// Deadline implements context.Context.
func (v *talk) Deadline() (time.Time, bool) { return v.deadline, true }

// Done implements context.Context.
func (v *talk) Done() <-chan struct{} { return v.done }

// Err implements context.Context.
func (v *talk) Err() error {
	if p := v.ending.Load(); p != nil {
		return *p
	}
	return nil
}

// Value implements context.Context.
func (v *talk) Value(key any) any { return v.parent.Value(key) }

// end ends the context. The caller holds pool.mu, so that it ends once.
func (v *talk) end(cause error) {
	if v.ending.Load() == nil {
		v.ending.Store(&cause)
		close(v.done)
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

// again prepares the next try, which leaves the member of this one out.
func (t *try) again() {
	t.leaveOut[t.left] = t.node
	t.left++
	t.lane, t.node, t.first = nil, nil, false
	t.talk.giveBack()
	t.talk = newTalk(t.parent, t.op)
	t.talk.began = time.Now()
}

// talks lends conversations. One whose context has ended is not lent again: its driver may have left something behind that still
// looks at it.
var talks = sync.Pool{New: func() any { return &talk{done: make(chan struct{})} }}

func newTalk(parent context.Context, op operation) *talk {
	v, _ := talks.Get().(*talk)
	v.parent, v.op = parent, op
	return v
}

func (v *talk) giveBack() {
	if v.ending.Load() == nil {
		v.parent, v.lane = nil, nil
		v.sent, v.exchanges, v.ended, v.took, v.out, v.in = false, 0, time.Time{}, 0, 0, 0
		talks.Put(v)
	}
}

// Exchange implements driver.Conversation.
func (v *talk) Exchange(ctx context.Context, request []byte) ([]byte, error) {
	began := v.start()
	answer, err := v.lane.exchange(ctx, request)
	v.finish(began, len(request), len(answer), err)
	if j := v.lane.node.pool.c.journal(); j != nil {
		v.lane.record(j, v.op.String(), codeOf(request), began, v.ended, len(request), len(answer), v.lane.result(answer, err))
	}
	return answer, err
}

// Do implements driver.Conversation.
func (v *talk) Do(ctx context.Context, code string, sent int, work func(context.Context, driver.Channel) (int, string, error)) error {
	began := v.start()
	received, result, err := v.lane.do(ctx, code, work)
	v.finish(began, sent, received, err)
	if j := v.lane.node.pool.c.journal(); j != nil {
		if result == "" {
			result = v.lane.result(nil, err)
		}
		v.lane.record(j, v.op.String(), code, began, v.ended, sent, received, result)
	}
	return err
}

// start gives when an exchange begins; the first of a try began with it.
func (v *talk) start() time.Time {
	if v.ended.IsZero() {
		return v.began
	}
	return time.Now()
}

func (v *talk) finish(began time.Time, out, in int, err error) {
	v.ended = time.Now()
	v.exchanges++
	v.took += v.ended.Sub(began)
	v.in += in
	if err == nil || !driver.NotSent(err) {
		v.sent = true
		v.out += out
	}
}

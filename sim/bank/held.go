package bank

import (
	"context"
	"fmt"
	"sync"
)

// heldAnswers are answers that wait for Release.
type heldAnswers struct {
	mu      sync.Mutex
	list    []heldAnswer
	waiting int           // Held and late answers, bounded by maxWaiting.
	changed chan struct{} // Closed and replaced when an answer is added.
}

type heldAnswer struct {
	session *session
	out     outgoing
	mti     string // Of the request.
}

func newHeldAnswers() *heldAnswers { return &heldAnswers{changed: make(chan struct{})} }

// reserve takes one place for a late or held answer.
func (h *heldAnswers) reserve() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.waiting >= maxWaiting {
		return false
	}
	h.waiting++
	return true
}

func (h *heldAnswers) free() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.waiting--
}

// add keeps an answer whose place is reserved.
func (h *heldAnswers) add(a heldAnswer) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.list = append(h.list, a)
	close(h.changed)
	h.changed = make(chan struct{})
}

// drop empties the list and gives it to the caller.
func (h *heldAnswers) drop() []heldAnswer {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := h.list
	h.list = nil
	h.waiting -= len(out)
	return out
}

func (h *heldAnswers) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.list)
}

// find tells whether an answer to mti is held; changed signals the next addition.
func (h *heldAnswers) find(mti string) (found bool, changed <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, a := range h.list {
		if mti == "" || a.mti == mti {
			return true, nil
		}
	}
	return false, h.changed
}

// WaitHeld returns when an answer to a request of this MTI is held (see Hold); "" means any. The error is that of ctx.
func (b *Bank) WaitHeld(ctx context.Context, mti string) error {
	for {
		found, changed := b.held.find(mti)
		if found {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("bank: wait for a held answer to %q: %w", mti, context.Cause(ctx))
		}
	}
}

// Release sends all held answers in the order of their requests and returns how many. Later answers are held on while the rule
// is in force. An answer whose connection has gone is dropped.
func (b *Bank) Release() int {
	list := b.held.drop()
	for _, a := range list {
		a.session.push(a.out)
	}
	return len(list)
}

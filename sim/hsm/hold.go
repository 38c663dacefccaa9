package hsm

import (
	"context"
	"slices"
	"sync"
)

// holder withholds answers until somebody releases them. What it holds is bounded by the in-flight limit of the
// connections.
type holder struct {
	mu      sync.Mutex
	waiting map[string][]chan struct{} // Per command, one channel per withheld answer, closed on release.
	changed chan struct{}              // Closed and replaced whenever an answer is newly withheld.
}

func newHolder() *holder {
	return &holder{waiting: map[string][]chan struct{}{}, changed: make(chan struct{})}
}

// hold waits until the command is released or the connection ends; it reports whether the answer may be sent. still is
// asked under the lock, so that a hold which was lifted meanwhile does not catch this answer.
func (h *holder) hold(ctx context.Context, name string, still func() bool) bool {
	h.mu.Lock()
	if !still() {
		h.mu.Unlock()
		return true
	}
	free := make(chan struct{})
	h.waiting[name] = append(h.waiting[name], free)
	close(h.changed)
	h.changed = make(chan struct{})
	h.mu.Unlock()
	select {
	case <-free:
		return true
	case <-ctx.Done():
		h.mu.Lock()
		h.waiting[name] = slices.DeleteFunc(h.waiting[name], func(c chan struct{}) bool { return c == free })
		h.mu.Unlock()
		return false
	}
}

// release lets all withheld answers of a command go and returns how many there were.
func (h *holder) release(name string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := h.waiting[name]
	delete(h.waiting, name)
	for _, free := range list {
		close(free)
	}
	return len(list)
}

// releaseOthers lets all commands go that are not in the list.
func (h *holder) releaseOthers(keep []string) {
	h.mu.Lock()
	var names []string
	for name := range h.waiting {
		if !slices.Contains(keep, name) {
			names = append(names, name)
		}
	}
	h.mu.Unlock()
	for _, name := range names {
		h.release(name)
	}
}

// wait returns when an answer of the command is withheld, or with the error of ctx.
func (h *holder) wait(ctx context.Context, name string) error {
	for {
		h.mu.Lock()
		held, changed := len(h.waiting[name]) > 0, h.changed
		h.mu.Unlock()
		if held {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// count is the number of withheld answers.
func (h *holder) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for _, list := range h.waiting {
		n += len(list)
	}
	return n
}

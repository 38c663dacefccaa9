package hsmclient

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// noMemberWait is how long a command waits when no member is connected: a link that was dropped once is back within its
// first pause of at most 100 ms. After it the caller hears Unavailable and can answer its terminal.
const noMemberWait = 150 * time.Millisecond

// waiter is a caller without a place.
type waiter struct {
	not *member       // must not get this one again, may be nil
	got chan *channel // receives the channel, or is closed by Stop
}

// acquire takes a place on the least busy usable channel, not on member not. It waits while all are full, until ctx ends or the
// time-out of a command is over, and only noMemberWait when no member is there.
func (c *Client) acquire(ctx context.Context, not *member) (*channel, error) {
	c.mu.Lock()
	if c.stopped {
		c.mu.Unlock()
		return nil, errStopped
	}
	if ch := c.pick(not); ch != nil {
		c.mu.Unlock()
		return ch, nil
	}
	connected := c.usableBut(not)
	if len(c.waiting) >= c.cfg.MaxWaiting || !connected && not != nil {
		c.mu.Unlock()
		if !connected {
			return nil, c.noMember()
		}
		return nil, fmt.Errorf("%d commands wait for a free place already", c.cfg.MaxWaiting)
	}
	w := &waiter{not: not, got: make(chan *channel, 1)}
	c.waiting = append(c.waiting, w)
	c.metrics.waiting.Inc()
	c.mu.Unlock()
	defer c.metrics.waiting.Dec()

	since := time.Now()
	look := time.NewTimer(noMemberWait)
	defer look.Stop()
	for {
		select {
		case ch, ok := <-w.got:
			if !ok {
				return nil, errStopped
			}
			return ch, nil
		case <-look.C:
			// All members may have gone since, or the places never come free: neither may hold a caller without a deadline.
			overdue := time.Since(since) >= c.cfg.Timeout
			if left, connected := c.leaveQueue(w, overdue); left && connected {
				return nil, fmt.Errorf("no free place within %s", c.cfg.Timeout)
			} else if left {
				return nil, c.noMember()
			}
			look.Reset(noMemberWait)
		case <-ctx.Done():
			if left, _ := c.leaveQueue(w, true); !left {
				if ch, ok := <-w.got; ok { // given at the same moment
					c.release(ch)
				}
			}
			return nil, fmt.Errorf("no free place: %w", ctx.Err())
		}
	}
}

// leaveQueue takes a waiter out when it must go or no member is connected for it. It says whether the waiter was taken out,
// and whether a member is connected; one that is no longer in the queue has its channel, or Stop has closed it.
func (c *Client) leaveQueue(w *waiter, must bool) (left, connected bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	connected = c.usableBut(w.not)
	i := slices.Index(c.waiting, w)
	if i < 0 || connected && !must {
		return false, connected
	}
	c.waiting = slices.Delete(c.waiting, i, i+1)
	return true, connected
}

// elsewhere gives m when another member is usable, to be left out by the next try. Where there is none it waits a short while
// for any change and gives nil.
func (c *Client) elsewhere(ctx context.Context, m *member) *member {
	c.mu.Lock()
	other, changed := c.usableBut(m), c.changed
	c.mu.Unlock()
	if other {
		return m
	}
	pause := time.NewTimer(noMemberWait)
	defer pause.Stop()
	select {
	case <-changed:
	case <-pause.C:
	case <-ctx.Done():
	}
	return nil
}

// release gives a place back and hands it on.
func (c *Client) release(ch *channel) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ch.inFlight--
	c.running.Done()
	c.metrics.inFlight.Dec()
	c.dispatch()
}

// dispatch gives free places to waiters, oldest first. The caller holds mu.
func (c *Client) dispatch() {
	if len(c.waiting) == 0 {
		return
	}
	kept := c.waiting[:0]
	full := false
	for _, w := range c.waiting {
		var ch *channel
		if !full {
			ch = c.pick(w.not)
			full = ch == nil && w.not == nil
		}
		if ch == nil {
			kept = append(kept, w)
			continue
		}
		w.got <- ch // has room for one and gets no other
	}
	clear(c.waiting[len(kept):])
	c.waiting = kept
}

// pick takes a place on the usable channel with the fewest commands; equals take turns. The caller holds mu.
func (c *Client) pick(not *member) *channel {
	var best *channel
	n := len(c.channels)
	at := 0
	for i := range n {
		ch := c.channels[(c.next+i)%n]
		if !ch.usable || ch.member == not || ch.inFlight >= ch.member.cfg.MaxInFlight {
			continue
		}
		if best == nil || ch.inFlight < best.inFlight {
			best, at = ch, (c.next+i)%n
		}
	}
	if best != nil {
		c.next = (at + 1) % n
		best.inFlight++
		c.running.Add(1)
		c.metrics.inFlight.Inc()
	}
	return best
}

// usableBut says that a channel of another member than not is usable. The caller holds mu.
func (c *Client) usableBut(not *member) bool {
	for _, ch := range c.channels {
		if ch.usable && ch.member != not {
			return true
		}
	}
	return false
}

// anyUsable says that a member is admitted. The caller holds mu.
func (c *Client) anyUsable() bool { return c.usableBut(nil) }

package hsmclient

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/keyward/keyward/hsmclient/driver"
	"github.com/keyward/keyward/hsmclient/member"
)

// steady is how long a channel must have lived for the next one to be made at once: a device that accepts and then closes is asked ever
// more slowly.
const steady = time.Second

var (
	errLeft    = errors.New("the member is taken out")
	errConnect = errors.New("connect")
)

// lane is one open data channel of a member, or with number 0 the connection of a probe.
type lane struct {
	node   *node
	number int
	ch     driver.Channel
	depth  int
	device member.Device

	inFlight int  // guarded by pool.mu
	gone     bool // guarded by pool.mu: given up or lost
}

// keepLane makes a data channel whenever the member is healthy, until the member is taken out.
func (n *node) keepLane(ctx context.Context, number int) {
	var pause time.Duration
	for {
		shut := n.untilOpen(ctx)
		if shut == nil {
			return
		}
		l, err := n.openLane(ctx, number)
		if err == nil {
			began := time.Now()
			if n.join(l) {
				select {
				case <-l.ch.Done():
				case <-ctx.Done():
					n.retire(l)
				}
				n.part(l)
			} else {
				l.ch.Close(errLeft)
			}
			n.giveConnection()
			if time.Since(began) >= steady {
				pause = 0
				continue
			}
		} else if ctx.Err() == nil {
			n.laneFailed(err)
		}
		pause = n.pool.c.backoff(pause)
		timer := time.NewTimer(jittered(pause))
		select {
		case <-timer.C:
		case <-shut: // the next admission begins anew
			pause = 0
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// openLane connects and asks the device who it is. The caller gives the connection back.
func (n *node) openLane(ctx context.Context, number int) (*lane, error) {
	ctx, cancel := context.WithTimeout(ctx, n.pool.c.cfg.Timeout)
	defer cancel()
	l, err := n.connect(ctx, number, n.depth())
	if err != nil {
		return nil, err
	}
	if l.device, err = n.diagnose(ctx, l); err == nil {
		return l, nil
	}
	l.ch.Close(err)
	n.giveConnection()
	return nil, err
}

// connect opens a channel within the budget of connections; giveConnection ends its use.
func (n *node) connect(ctx context.Context, number, depth int) (*lane, error) {
	select {
	case n.connections <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("all %d connections that the member may have are in use: %w", cap(n.connections), ctx.Err())
	}
	l := &lane{node: n, number: number}
	err := n.holdUp(ctx)
	if err == nil {
		to := n.target
		to.Depth, to.Late = depth, l.late
		l.ch, err = n.opener.Open(ctx, to)
	}
	if err != nil {
		n.giveConnection()
		if strings.Contains(err.Error(), n.target.Addr) { // the driver has named it
			return nil, fmt.Errorf("%w: %w", errConnect, err)
		}
		return nil, fmt.Errorf("%w to %s: %w", errConnect, n.target.Addr, err)
	}
	l.depth = max(1, l.ch.Depth())
	return l, nil
}

func (n *node) giveConnection() { <-n.connections }

// join puts a new channel to use, unless the member is no longer healthy or the device is another one.
func (n *node) join(l *lane) bool {
	p := n.pool
	p.mu.Lock()
	defer p.unlock()
	if !n.gateOpen || n.left {
		return false
	}
	if err := p.agree(n, l.device); err != nil {
		n.fence(err.Error(), time.Now())
		return false
	}
	n.lanes = append(n.lanes, l)
	n.device = l.device
	n.countPlaces()
	if l.depth == 1 && n.spec.Depth > 1 {
		p.c.cfg.Log.Warn("the HSM is not proven to echo labels: one request at a time on each channel", "member", n.name, "channel", l.number)
	}
	if n.health != healthOK && n.admitting {
		n.admitted()
	}
	p.rebuild()
	return true
}

// part notes that a channel has ended.
func (n *node) part(l *lane) {
	n.pool.mu.Lock()
	defer n.pool.unlock()
	n.ended(l)
}

// ended is part under the lock: a request may notice the loss before the goroutine that waits for it.
func (n *node) ended(l *lane) {
	p := n.pool
	if !l.drop() {
		return
	}
	cause := l.ch.Cause()
	if l.ch.Poisoned() {
		n.figures.poisoned++
		p.c.metrics.resets[resetMalformed].Add(1)
		p.c.cfg.Log.Error("HSM channel closed", "member", n.name, "channel", l.number, "reason", resetMalformed.String(), "cause", cause)
	} else {
		p.c.metrics.resets[resetLost].Add(1)
		p.c.cfg.Log.Warn("HSM channel lost", "member", n.name, "channel", l.number, "cause", cause)
	}
	n.lost(cause)
}

// retire ends a channel because the member's time is over: nothing is wrong with it, so nothing follows from it.
func (n *node) retire(l *lane) {
	n.pool.mu.Lock()
	l.drop()
	n.pool.mu.Unlock()
	l.ch.Close(errLeft)
}

// drop takes a channel out of use; false: it was already. The caller holds pool.mu.
func (l *lane) drop() bool {
	if l.gone {
		return false
	}
	l.gone = true
	n := l.node
	n.lanes = slices.DeleteFunc(n.lanes, func(o *lane) bool { return o == l })
	n.countPlaces()
	return true
}

// lost draws conclusions from the loss of a channel. The caller holds pool.mu.
func (n *node) lost(cause error) {
	now := time.Now()
	if len(n.lanes) == 0 {
		n.suspect("all channels are lost: "+text(cause), now)
	} else {
		n.doubt()
	}
	n.pool.rebuild()
}

// laneFailed notes why a channel could not be made.
func (n *node) laneFailed(err error) {
	p := n.pool
	p.mu.Lock()
	defer p.unlock()
	n.probing.LastErr = err.Error()
	if errors.Is(err, errDeviates) {
		n.fence(err.Error(), time.Now())
		return
	}
	n.doubt()
}

// jittered shortens d by up to a quarter, so that many do not come back at the same moment.
func jittered(d time.Duration) time.Duration { return d - rand.N(d/4+1) }

func text(err error) string {
	if err == nil {
		return "no cause given"
	}
	return err.Error()
}

package hsmclient

import (
	"errors"
	"fmt"
	"time"

	"github.com/keyward/keyward/hsmclient/command"
)

// grace is how long a command waits when no member is left: a channel that was dropped once is back by then. After it the caller
// hears Unavailable and can answer its terminal.
const grace = 150 * time.Millisecond

var (
	errStopped  = errors.New("the cluster is stopped")
	errNoOther  = errors.New("no other member can be asked")
	errShed     = errors.New("the queue is full and more urgent requests came: put out")
	errNoDriver = errors.New("no driver of this LMK domain can do this")
)

// acquire takes a place on a channel. It waits while all are full, until the caller's context ends or the time-out of a command is
// over, and only the grace when no member is left.
func (p *pool) acquire(t *try) error {
	p.mu.Lock()
	if t.first {
		if p.closed {
			p.mu.Unlock()
			return errStopped
		}
		p.running++
		t.counted = true
	}
	if n := p.find(t); n != nil {
		p.take(t, n, t.talk.began)
		p.mu.Unlock()
		p.c.sweeper.wake()
		return nil
	}
	err := p.enqueue(t)
	p.unlock()
	if err != nil {
		return err
	}
	p.c.sweeper.wake()
	<-t.given
	if t.lane == nil {
		return t.waitErr
	}
	return nil
}

// find gives the member that a request may get a place on now. The caller holds mu.
func (p *pool) find(t *try) *node {
	n := p.pick(t)
	if n == nil && p.saturated() {
		n = p.pick(t)
	}
	if n == nil && t.left > 0 && !p.healthy(t) {
		n = p.aside(t)
	}
	return n
}

// take gives a request its place. The caller holds mu.
func (p *pool) take(t *try, n *node, now time.Time) {
	l := n.leastBusy()
	n.trial(t.op, now)
	l.inFlight++
	n.inFlight++
	p.inFlight++
	p.peak = max(p.peak, p.inFlight)
	t.lane, t.node = l, n
	t.talk.lane, t.talk.began, t.talk.deadline = l, now, t.share(now)
	p.under.push(t)
}

// pick finds the member for a request: the best tier that has a place free, and in it the least busy by its weight; equals take turns.
// Members that refuse the operation are passed by for a while, unless there are no others. The caller holds mu.
func (p *pool) pick(t *try) *node {
	n, others := p.best(t, true)
	if n == nil && !others {
		n, _ = p.best(t, false)
	}
	return n
}

// best is pick with or without passing by. others says that a member which is not passed by may do it, if not now.
func (p *pool) best(t *try, passing bool) (_ *node, others bool) {
	needs := traits[t.op].needs
	for i := range p.tiers {
		nodes := p.tiers[i].nodes
		var best *node
		for k := range nodes {
			n := nodes[(p.turn+k)%len(nodes)]
			if !n.can.Has(needs) || t.left > 0 && t.leavesOut(n) || passing && n.passesBy(t.op, t.talk.began) {
				continue
			}
			others = true
			if n.inFlight >= n.places {
				continue
			}
			if best == nil || n.inFlight*best.spec.Weight < best.inFlight*n.spec.Weight {
				best = n
			}
		}
		if best != nil {
			p.turn++
			return best, true
		}
	}
	return nil, others
}

// aside finds a place for a request that no member of the tiers may get: on a standby member, or, when only the line failed, on one
// that it has been on before. The caller holds mu.
func (p *pool) aside(t *try) *node {
	var again *node
	for _, n := range p.nodes {
		if !n.ready() || n.inFlight >= n.places || !n.can.Has(traits[t.op].needs) {
			continue
		}
		if !t.leavesOut(n) {
			return n
		}
		if n.serves() {
			again = n
		}
	}
	if t.elsewhere {
		return nil
	}
	return again
}

// enqueue puts a request into the queue or says why it cannot wait. The caller holds mu.
func (p *pool) enqueue(t *try) error {
	now := time.Now()
	switch {
	case p.ended:
		return errStopped
	case !p.able(t.op):
		return errNoDriver
	case len(p.tiers) == 0 && now.Sub(p.emptyAt) >= grace:
		return p.noMember()
	case t.elsewhere && !p.healthy(t):
		return errNoOther
	case p.waitingNow() >= p.c.cfg.MaxWaiting && !p.putOut(t.class):
		p.shed++
		return fmt.Errorf("%d requests wait for a free place already", p.c.cfg.MaxWaiting)
	}
	if t.given == nil {
		t.given = make(chan struct{}, 1)
	}
	t.lane, t.node, t.waitErr, t.queued = nil, nil, nil, now
	p.waiting[t.class].push(t)
	p.peak = max(p.peak, p.inFlight+p.waitingNow())
	return nil
}

// putOut sheds the newest request of the lowest class for one of a higher class. The caller holds mu.
func (p *pool) putOut(class command.Priority) bool {
	for low := range int(class) {
		if t := p.waiting[low].tail; t != nil {
			p.shed++
			p.turnAway(t, errShed)
			return true
		}
	}
	return false
}

// turnAway ends the waiting of a request. The caller holds mu.
func (p *pool) turnAway(t *try, cause error) {
	p.waiting[t.class].remove(t)
	t.waitErr = cause
	t.given <- struct{}{} // has room for one, and a request waits once
}

// waitingNow is the length of the queue. The caller holds mu.
func (p *pool) waitingNow() (n int) {
	for i := range p.waiting {
		n += p.waiting[i].n
	}
	return n
}

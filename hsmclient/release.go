package hsmclient

import (
	"context"
	"errors"
	"time"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/driver"
)

// release gives the place of a try back, notes what it tells of the member, and hands the place on.
func (p *pool) release(t *try, err error, then next) {
	now := t.talk.ended
	if now.IsZero() {
		now = time.Now()
	}
	p.mu.Lock()
	n, l := t.node, t.lane
	p.under.remove(t)
	l.inFlight--
	n.inFlight--
	p.inFlight--
	if then == stop {
		p.running--
		t.counted = false
		t.settleDoubt(now)
	}
	if t.talk.exchanges > 0 {
		n.figures.add(t, now)
		p.figures.commands += uint64(t.talk.exchanges)
	}
	if err != nil {
		p.learn(t, err, now)
	} else {
		n.does(t.op)
		if t.op == opVerifyMAC {
			n.verified(t.match, now)
		}
	}
	if p.waitingNow() > 0 {
		p.dispatch()
	}
	p.notify()
	p.unlock()
}

// leave takes a request that got no place out of the count.
func (p *pool) leave(t *try) {
	if !t.counted {
		return
	}
	p.mu.Lock()
	p.running--
	t.counted = false
	t.settleDoubt(time.Now())
	p.notify()
	p.unlock()
}

// learn draws conclusions from a failed try. The caller holds mu.
func (p *pool) learn(t *try, err error, now time.Time) {
	n, l := t.node, t.lane
	n.figures.failed[command.ClassOf(err)]++
	var e *command.Error
	if !errors.As(err, &e) {
		return
	}
	switch {
	case e.Class == command.NoLicence:
		n.refuses(t.op, e, now)
	case e.Code != "" && e.Class == command.CallerFault:
		n.does(t.op)
	}
	switch {
	case errors.Is(err, driver.ErrLost):
		n.ended(l)
	case errors.Is(err, driver.ErrMalformed):
		p.poison(l, err)
	case e.Code != "" && e.Class == command.MemberFault:
		n.suspect("it answered "+e.Code+" to "+e.Command, now)
	case e.Code == "" && errors.Is(t.talk.Err(), context.DeadlineExceeded) && t.talk.sent:
		// Other answers came meanwhile: this one was lost or is slow. None came for so long: the channel is dead.
		if now.Sub(t.talk.began) >= p.c.cfg.Probing.Timeout && l.heard().Before(t.talk.began) {
			p.giveUp(l, resetSilent, errSilent)
		}
		n.doubt()
	}
}

var errSilent = errors.New("nothing came from the device although an answer was due")

// poison gives a channel up whose answers cannot be trusted any more. The caller holds mu.
func (p *pool) poison(l *lane, cause error) {
	l.node.figures.poisoned++
	p.giveUp(l, resetMalformed, cause)
}

// giveUp closes a channel from this side. What is under way on it fails at once and goes elsewhere. The caller holds mu.
func (p *pool) giveUp(l *lane, reason resetReason, cause error) {
	if !l.drop() {
		return
	}
	p.c.metrics.resets[reason].Add(1)
	p.c.cfg.Log.Error("HSM channel closed", "member", l.node.name, "channel", l.number, "reason", reason.String(), "cause", cause)
	p.closing = append(p.closing, closing{l, cause})
	l.node.lost(cause)
}

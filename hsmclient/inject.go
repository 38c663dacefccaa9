package hsmclient

import (
	"context"
	"errors"
	"time"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/driver"
	"github.com/keyward/keyward/hsmclient/member"
	"github.com/keyward/keyward/keys"
)

const (
	// maxFault bounds a drill: a forgotten one must not weaken the cluster for long.
	maxFault = 10 * time.Minute
	// maxSlow bounds the delay of a slow member: longer than any time-out of the system.
	maxSlow = time.Minute
	// drillLMKCheck is what a member shows whose LMK a drill has made wrong; it is no check value, so that it never matches.
	drillLMKCheck keys.KCV = "DRILL"
)

var errDrill = errors.New("a drill has taken the member out")

// fault is a simulated failure. It sits between the cluster and the channels, on our side of the line: the device sees nothing of it.
type fault struct {
	member.Fault
	since time.Time
}

// lineError is a failure that a drill makes, as a channel would report it.
func lineError(code string, err error) error {
	return &command.Error{Class: command.MemberFault, Command: code, Err: err}
}

// over says that it has ended by itself.
func (f *fault) over() bool { return !time.Now().Before(f.Until) }

// before is what happens to a request.
func (f *fault) before(ctx context.Context, l *lane, code string) error {
	if f.over() {
		return nil
	}
	switch f.Kind {
	case member.FaultRefuse:
		return lineError(code, errors.Join(errDrill, driver.ErrNotSent))
	case member.FaultBlackHole:
		return f.swallow(ctx, l, code)
	case member.FaultSlow, member.FaultWrongLMK: // goes out
	}
	return nil
}

// after is what happens to its answer.
func (f *fault) after(ctx context.Context, l *lane, code string) error {
	if f.over() {
		return nil
	}
	switch f.Kind {
	case member.FaultRefuse:
		return lineError(code, errDrill)
	case member.FaultBlackHole:
		return f.swallow(ctx, l, code)
	case member.FaultSlow:
		timer := time.NewTimer(f.Delay.Std())
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-l.ch.Done():
			return lineError(code, l.ch.Cause())
		case <-ctx.Done():
			return lineError(code, ctx.Err())
		}
	case member.FaultWrongLMK: // diagnose shows it
	}
	return nil
}

// swallow waits for what never comes.
func (f *fault) swallow(ctx context.Context, l *lane, code string) error {
	select {
	case <-l.ch.Done():
		return lineError(code, errors.Join(errDrill, l.ch.Cause()))
	case <-ctx.Done():
		return lineError(code, ctx.Err())
	}
}

// holdUp is what happens to a new connection.
func (n *node) holdUp(ctx context.Context) error {
	f := n.fault.Load()
	if f == nil || f.over() {
		return nil
	}
	switch f.Kind {
	case member.FaultRefuse:
		return errDrill
	case member.FaultBlackHole:
		<-ctx.Done()
		return errors.Join(errDrill, ctx.Err())
	case member.FaultSlow, member.FaultWrongLMK: // connects
	}
	return nil
}

// endFault ends a fault whose time is over. The caller holds pool.mu.
func (n *node) endFault(now time.Time) {
	if f := n.fault.Load(); f != nil && !now.Before(f.Until) {
		n.clearFault(byCluster, "its time is over")
	}
}

// clearFault ends a fault. The caller holds pool.mu.
func (n *node) clearFault(by, reason string) {
	f := n.fault.Load()
	entry := member.Switch{Domain: n.spec.Domain, Member: n.name, What: "fault", From: string(f.Kind), By: by, Reason: reason}
	n.pool.c.history.add(entry, member.Before)
	n.fault.Store(nil)
	n.pool.c.history.add(entry, member.After)
}

// Inject simulates a failure of a member, for a drill (row X5). It ends by itself at Until, after ten minutes at most. The device
// notices nothing but what the failure brings about, for example connections that are made again. It refuses to take the last
// member out that gets traffic, unless forced.
func (c *Cluster) Inject(act member.Act, name string, f member.Fault) error {
	n, err := c.node(name)
	if err != nil {
		return err
	}
	now := time.Now()
	switch f.Kind {
	case member.FaultRefuse, member.FaultBlackHole, member.FaultWrongLMK:
	case member.FaultSlow:
		if f.Delay <= 0 || f.Delay.Std() > maxSlow {
			return member.Refuse(member.Invalid, "give a delay above zero and up to one minute", "the delay of a slow member is %s", f.Delay.Std())
		}
	default:
		return member.Refuse(member.Invalid, "use refuse, black_hole, slow or wrong_lmk", "there is no fault %q", f.Kind)
	}
	if !f.Until.After(now) || f.Until.Sub(now) > maxFault {
		return member.Refuse(member.Invalid, "give an end within the next ten minutes", "the fault of %s would end at %s", name, f.Until.Format(time.RFC3339))
	}
	p := n.pool
	p.mu.Lock()
	defer p.unlock()
	if n.fault.Load() != nil {
		return member.Refuse(member.Conflict, "clear it first", "member %s has a simulated fault already", name)
	}
	if err := p.spares(n, act); err != nil {
		return err
	}
	entry := member.Switch{Domain: n.spec.Domain, Member: name, What: "fault", To: string(f.Kind), By: act.By, Reason: act.Reason}
	c.history.add(entry, member.Before)
	n.fault.Store(&fault{Fault: f, since: now})
	c.history.add(entry, member.After)
	if f.Kind == member.FaultRefuse {
		n.giveUpAll(errDrill)
		n.lost(errDrill)
	}
	n.wake()
	return nil
}

// Clear ends the simulated failure of a member.
func (c *Cluster) Clear(act member.Act, name string) error {
	n, err := c.node(name)
	if err != nil {
		return err
	}
	p := n.pool
	p.mu.Lock()
	defer p.unlock()
	if n.fault.Load() == nil {
		return member.Refuse(member.Conflict, "nothing is to be done", "member %s has no simulated fault", name)
	}
	n.clearFault(act.By, act.Reason)
	n.wake()
	return nil
}

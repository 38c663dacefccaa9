package hsmclient

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/keyward/keyward/hsmclient/member"
)

// join puts a member on the list. The name must be free.
func (c *Cluster) join(n *node) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.stopped:
		return errStopped
	case c.nodes[n.name] != nil:
		return member.Refuse(member.Conflict, "choose another name, or remove the other one first", "there is a member %s already", n.name)
	case len(c.nodes) >= c.cfg.MaxMembers:
		return member.Refuse(member.Conflict, "remove one first, or raise the limit in the configuration", "the cluster has %d members, the most that it may have", len(c.nodes))
	}
	if err := n.pool.sameForm(n); err != nil {
		return err
	}
	c.nodes[n.name] = n
	c.names = append(c.names, n.name)
	c.enter(n)
	return nil
}

// enter puts a member into its pool and starts it. The caller holds c.mu.
func (c *Cluster) enter(n *node) {
	p := n.pool
	p.mu.Lock()
	p.nodes = append(p.nodes, n)
	p.rebuild()
	p.unlock()
	if c.started {
		n.begin(c.life)
	}
}

// Add makes a member and probes it once. It is refused when it cannot be reached or deviates, unless forced: then it is added as down or
// fenced and probed on. Add returns when it is admitted, or after a time in which it should have been.
func (c *Cluster) Add(ctx context.Context, act member.Act, spec member.Spec) error {
	n, err := c.newNode(spec)
	if err != nil {
		return err
	}
	if !act.Force {
		if err := c.rehearse(ctx, n); err != nil {
			return err
		}
	}
	entry := member.Switch{Domain: n.spec.Domain, Member: n.name, What: "add", To: string(n.spec.Role), By: act.By, Reason: act.Reason}
	c.history.add(entry, member.Before)
	err = c.join(n)
	c.history.conclude(entry, err)
	if err != nil {
		return err
	}
	bound, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	_ = n.pool.until(bound, func() bool { return n.health != healthDown }) // it goes on by itself
	return nil
}

// rehearse probes a member that is not on the list yet.
func (c *Cluster) rehearse(ctx context.Context, n *node) error {
	c.mu.Lock()
	taken := c.nodes[n.name] != nil
	c.mu.Unlock()
	if taken {
		return member.Refuse(member.Conflict, "choose another name, or remove the other one first", "there is a member %s already", n.name)
	}
	if err := n.pool.sameForm(n); err != nil {
		return err
	}
	device, err := n.examine(ctx, true)
	if err == nil {
		n.pool.mu.Lock()
		defer n.pool.mu.Unlock()
		if o := n.twin(device.Serial); o != nil {
			return member.Refuse(member.Unsafe, "check the address, or force: then it is one device under two names, which fails for both", "member %s is the same device as %s: both have the serial number %s",
				n.name, o.name, device.Serial)
		}
		n.passes, n.device = 1, device
		return nil
	}
	if isDeviation(err) {
		return member.Refuse(member.Unsafe, "correct it, or force: then it is added as fenced", "member %s must not get work: %v", n.name, err)
	}
	return member.Refuse(member.Unsafe, "check address, network and device, or force: then it is added as down", "member %s does not answer: %v", n.name, err)
}

// Remove lets the requests under way end and takes the member off the list. It refuses to take the last one that gets traffic, or one
// without which the present load could not be carried, unless forced. When ctx ends first the member stays draining.
func (c *Cluster) Remove(ctx context.Context, act member.Act, name string) error {
	n, err := c.node(name)
	if err != nil {
		return err
	}
	p := n.pool
	entry := member.Switch{Domain: n.spec.Domain, Member: name, What: "remove", By: act.By, Reason: act.Reason}
	p.mu.Lock()
	if err := p.spares(n, act); err != nil {
		p.mu.Unlock()
		return err
	}
	entry.From = string(n.state())
	c.history.add(entry, member.Before)
	n.move(act.By, act.Reason, func(c *condition) { c.order = orderDrain })
	p.unlock()
	if err = n.drained(ctx); err == nil {
		err = c.drop(ctx, n)
	}
	c.history.conclude(entry, err)
	return err
}

// drained waits until nothing is under way on the member.
func (n *node) drained(ctx context.Context) error {
	left := 0
	if err := n.pool.until(ctx, func() bool { left = n.inFlight; return left == 0 }); err != nil {
		return fmt.Errorf("member %s is draining, %d requests are still under way; wait or try again: %w", n.name, left, err)
	}
	return nil
}

// drop takes a member off the list and ends it.
func (c *Cluster) drop(ctx context.Context, n *node) error {
	c.mu.Lock()
	if c.nodes[n.name] != n {
		c.mu.Unlock()
		return member.Refuse(member.NotFound, "nothing is to be done", "member %s has been removed meanwhile", n.name)
	}
	delete(c.nodes, n.name)
	c.names = slices.DeleteFunc(c.names, func(name string) bool { return name == n.name })
	c.mu.Unlock()
	n.leave()
	return n.finish(ctx)
}

// leave takes a member out of its pool.
func (n *node) leave() {
	p := n.pool
	p.mu.Lock()
	defer p.unlock()
	n.left, n.admitting = true, false
	n.openGate(false)
	n.giveUpAll(errLeft)
	n.partWays()
	p.nodes = slices.DeleteFunc(p.nodes, func(o *node) bool { return o == n })
	if len(p.nodes) == 0 {
		p.lmk = p.cfg.LMKCheck // the next first member may bring another
	}
	p.rebuild()
}

// spares refuses to do without a member when that would harm service. The caller holds mu.
func (p *pool) spares(n *node, act member.Act) error {
	if act.Force || !n.ready() {
		return nil
	}
	rest, places, rated, known := 0, 0, 0, true
	for _, o := range p.nodes {
		if o == n || !o.ready() || o.fault.Load() != nil {
			continue
		}
		rest++
		places += o.places
		rated += o.spec.Rated
		known = known && o.spec.Rated > 0
	}
	now := time.Now()
	speed, _ := p.load(now)
	busy := max(p.peak, p.inFlight+p.waitingNow())
	switch {
	case rest == 0:
		return member.Refuse(member.Unsafe, "add or repair another one first, or force", "%s is the last working member of LMK domain %s", n.name, p.cfg.Name)
	case !n.serves():
	case known && speed > float64(rated):
		return member.Refuse(member.Unsafe, "wait for less traffic, add a member, or force", "without %s the rest could not carry the present load: %.0f commands a second, they are rated for %d",
			n.name, speed, rated)
	case busy > places:
		return member.Refuse(member.Unsafe, "wait for less traffic, add a member, or force", "without %s the rest could not carry the present load: %d requests at once, they have %d places",
			n.name, busy, places)
	}
	return nil
}

// SetState tells a member to be working or standby, to drain (it returns when nothing is under way any more) or to be fenced by
// hand: then it gets nothing until it is told another state.
func (c *Cluster) SetState(ctx context.Context, act member.Act, name string, to member.State) error {
	n, err := c.node(name)
	if err != nil {
		return err
	}
	switch to {
	case member.Working, member.Standby:
		return n.setRole(act, to)
	case member.Draining:
		if err := n.setOrder(act, orderDrain); err != nil {
			return err
		}
		return n.drained(ctx)
	case member.Fenced:
		return n.setOrder(act, orderFence)
	case member.Suspect, member.Down:
	}
	return member.Refuse(member.Invalid, "give working, standby, draining or fenced", "a member cannot be told to be %q", to)
}

func (n *node) setRole(act member.Act, to member.State) error {
	p := n.pool
	p.mu.Lock()
	defer p.unlock()
	if n.health == healthFenced && n.order != orderFence {
		return member.Refuse(member.Conflict, "correct the cause, then probe it", "member %s is fenced: %s", n.name, n.reason)
	}
	n.spec.Role = to
	if n.health != healthOK {
		n.newcomer = true // what it is told now counts, not what recovered members become
		n.nextProbe = time.Now()
		n.wake()
	}
	n.move(act.By, act.Reason, func(c *condition) { c.role, c.order = to, orderNone })
	return nil
}

func (n *node) setOrder(act member.Act, o order) error {
	p := n.pool
	p.mu.Lock()
	defer p.unlock()
	if n.order == orderNone {
		if err := p.spares(n, act); err != nil {
			return err
		}
	}
	n.orderWhy = "by " + act.By
	if act.Reason != "" {
		n.orderWhy += ": " + act.Reason
	}
	n.move(act.By, act.Reason, func(c *condition) { c.order = o })
	return nil
}

// Modify changes a running member.
func (c *Cluster) Modify(act member.Act, name string, ch member.Change) error {
	n, err := c.node(name)
	if err != nil {
		return err
	}
	if err := c.checkChange(n, ch); err != nil {
		return err
	}
	p := n.pool
	p.mu.Lock()
	defer p.unlock()
	set := func(what string, old, value *int) {
		if value != nil && *value != *old {
			n.record(act, what, fmt.Sprint(*old), fmt.Sprint(*value), func() { *old = *value })
		}
	}
	set("priority", &n.spec.Priority, ch.Priority)
	set("weight", &n.spec.Weight, ch.Weight)
	set("rated", &n.spec.Rated, ch.Rated)
	if ch.Probe != nil && *ch.Probe != n.spec.Probe {
		n.record(act, "probe", n.spec.Probe, *ch.Probe, func() { n.spec.Probe = *ch.Probe })
	}
	n.countPlaces()
	p.rebuild()
	return nil
}

// record makes a change with its two entries in the history. The caller holds pool.mu.
func (n *node) record(act member.Act, what, from, to string, do func()) {
	entry := member.Switch{Domain: n.spec.Domain, Member: n.name, What: what, From: from, To: to, By: act.By, Reason: act.Reason}
	n.pool.c.history.add(entry, member.Before)
	do()
	n.pool.c.history.add(entry, member.After)
}

func (c *Cluster) checkChange(n *node, ch member.Change) error {
	if ch.Priority != nil {
		if err := c.cfg.checkPriority(n.name, *ch.Priority); err != nil {
			return err
		}
	}
	if ch.Weight != nil && (*ch.Weight < 1 || *ch.Weight > maxWeight) {
		return member.Refuse(member.Invalid, "give a number within the bounds", "member %s: weight %d, possible are 1 to %d", n.name, *ch.Weight, maxWeight)
	}
	if ch.Rated != nil && *ch.Rated < 0 {
		return member.Refuse(member.Invalid, "give commands per second, or 0 when it is unknown", "member %s: the rated speed is negative", n.name)
	}
	if ch.Probe != nil {
		if err := checkProbe(n.driver, *ch.Probe); err != nil {
			return member.Refuse(member.Invalid, "choose another probe command", "member %s: %v", n.name, err)
		}
	}
	return nil
}

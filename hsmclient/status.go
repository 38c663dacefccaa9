package hsmclient

import (
	"context"
	"time"

	"github.com/keyward/keyward/hsmclient/member"
)

// Members gives the state of all members, in the order of adding.
func (c *Cluster) Members() []member.Status {
	c.mu.Lock()
	nodes := make([]*node, 0, len(c.names))
	for _, name := range c.names {
		nodes = append(nodes, c.nodes[name])
	}
	c.mu.Unlock()
	list := make([]member.Status, 0, len(nodes))
	now := time.Now()
	for _, n := range nodes {
		list = append(list, n.status(now))
	}
	return list
}

// Member gives the state of one member.
func (c *Cluster) Member(name string) (member.Status, error) {
	n, err := c.node(name)
	if err != nil {
		return member.Status{}, err
	}
	return n.status(time.Now()), nil
}

func (n *node) status(now time.Time) member.Status {
	n.pool.mu.Lock()
	defer n.pool.mu.Unlock()
	s := member.Status{
		Spec: copySpec(n.spec), State: n.state(), Since: n.since, Device: n.device, Load: n.load(now), Traffic: n.traffic(), Probing: n.probing,
	}
	s.Probing.Misses = n.misses
	if n.health != healthOK {
		s.Reason = n.reason
		s.Probing.NextAt = n.nextProbe
	}
	s.Warning = n.warning()
	if n.order == orderFence {
		s.Reason = "fenced " + n.orderWhy
	}
	if f := n.fault.Load(); f != nil {
		fault := f.Fault
		s.Fault = &fault
	}
	return s
}

// Probe asks a member now, on a fresh connection, and draws the conclusions: one that passes and was down or fenced is admitted, unless
// it was fenced by hand.
func (c *Cluster) Probe(ctx context.Context, name string) (member.ProbeResult, error) {
	n, err := c.node(name)
	if err != nil {
		return member.ProbeResult{}, err
	}
	reply := make(chan member.ProbeResult, 1)
	select {
	case n.asked <- reply:
	case <-ctx.Done():
		return member.ProbeResult{}, context.Cause(ctx)
	}
	select {
	case result := <-reply:
		return result, nil
	case <-ctx.Done():
		return member.ProbeResult{}, context.Cause(ctx)
	}
}

// ProbeSoon has a member probed on a fresh connection although it seems healthy, because another process has fenced it. It is fenced
// here only for what is found here. Unknown names are ignored.
func (c *Cluster) ProbeSoon(name, reason string) {
	n, err := c.node(name)
	if err != nil {
		return
	}
	c.cfg.Log.Info("HSM is probed because of news from elsewhere", "member", name, "reason", reason)
	p := n.pool
	p.mu.Lock()
	n.inspect = true
	n.nextProbe = time.Now()
	p.unlock()
	n.wake()
}

package hsmclient

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/keyward/keyward/hsmclient/member"
)

// Specs gives what the members are told to be, in the order of adding, for saving. What the cluster has made of them by itself is not
// in it: a member that came back as standby is still told to be working. One that is fenced by hand is told so, and stays fenced after a
// restart.
func (c *Cluster) Specs() []member.Spec {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := make([]member.Spec, 0, len(c.names))
	for _, name := range c.names {
		list = append(list, c.nodes[name].told())
	}
	return list
}

// told gives a copy of what the member is told to be.
func (n *node) told() member.Spec {
	n.pool.mu.Lock()
	defer n.pool.mu.Unlock()
	s := copySpec(n.spec)
	if n.order == orderFence {
		s.Role = member.Fenced
	}
	return s
}

func copySpec(s member.Spec) member.Spec {
	s.Settings = maps.Clone(s.Settings)
	if s.TLS != nil {
		t := *s.TLS
		s.TLS = &t
	}
	return s
}

// Apply brings the list of members to this one: it adds what is missing, as down, drains and removes what is too much, and changes what
// differs. A member whose address, driver, settings or channels differ is replaced: the new one is admitted before the old one goes.
// Nothing is done when an entry of the list is wrong; a single change that is refused does not keep the others from being made.
func (c *Cluster) Apply(ctx context.Context, act member.Act, specs []member.Spec) error {
	want := map[string]member.Spec{}
	for _, s := range specs {
		n, err := c.newNode(s) // checks all, driver and TLS files included
		if err != nil {
			return err
		}
		if _, twice := want[s.Name]; twice {
			return member.Refuse(member.Conflict, "remove one of them from the list", "member %s is on the list twice", s.Name)
		}
		want[s.Name] = n.spec
	}
	if len(want) > c.cfg.MaxMembers {
		return member.Refuse(member.Invalid, "shorten the list", "the list has %d members, at most %d are possible", len(want), c.cfg.MaxMembers)
	}
	entry := member.Switch{What: "apply", To: fmt.Sprintf("%d members", len(want)), By: act.By, Reason: act.Reason}
	c.history.add(entry, member.Before)
	var errs errorList
	present := map[string]member.Spec{}
	for _, s := range c.Specs() {
		present[s.Name] = s
	}
	// First what gives capacity, then what takes it.
	for _, s := range specs {
		if _, there := present[s.Name]; !there {
			force := act
			force.Force = true // the list says so; a member that is down now may be up for others
			errs.add(c.add(force, want[s.Name]))
		}
	}
	var working sync.WaitGroup
	for name, now := range present {
		working.Go(func() {
			s, stays := want[name]
			switch {
			case !stays:
				errs.add(c.Remove(ctx, c.lastOf(act, now.Domain, want), name))
			case !sameLine(now, s):
				errs.add(c.replace(ctx, act, name, s))
			default:
				errs.add(c.adjust(ctx, act, now, s))
			}
		})
	}
	working.Wait()
	err := errs.join()
	c.history.conclude(entry, err)
	return err
}

// lastOf lets the last member of a domain go when the list has none of that domain any more: that is how a domain ends after its keys
// have moved. The default domain is not ended in passing.
func (c *Cluster) lastOf(act member.Act, domain string, want map[string]member.Spec) member.Act {
	if domain == c.cfg.DefaultDomain {
		return act
	}
	for _, s := range want {
		if s.Domain == domain {
			return act
		}
	}
	act.Force = true
	return act
}

// errorList gathers the errors of goroutines.
type errorList struct {
	mu   sync.Mutex
	list []error
}

func (e *errorList) add(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.list = append(e.list, err)
}

// join gives the only error as it is, so that its kind is seen, and several as one.
func (e *errorList) join() error {
	list := slices.DeleteFunc(e.list, func(err error) bool { return err == nil })
	if len(list) == 1 {
		return list[0]
	}
	return errors.Join(list...)
}

// add puts a member on the list without probing it.
func (c *Cluster) add(act member.Act, s member.Spec) error {
	n, err := c.newNode(s)
	if err != nil {
		return err
	}
	entry := member.Switch{Domain: s.Domain, Member: s.Name, What: "add", To: string(s.Role), By: act.By, Reason: act.Reason}
	c.history.add(entry, member.Before)
	err = c.join(n)
	c.history.conclude(entry, err)
	return err
}

// sameLine says that the members differ in nothing but what can be changed while they run.
func sameLine(a, b member.Spec) bool {
	sameTLS := a.TLS == nil && b.TLS == nil || a.TLS != nil && b.TLS != nil && *a.TLS == *b.TLS
	return sameTLS && a.Domain == b.Domain && a.Driver == b.Driver && a.Addr == b.Addr && a.Channels == b.Channels &&
		a.Connections == b.Connections && a.Depth == b.Depth && maps.Equal(a.Settings, b.Settings)
}

// adjust changes a running member.
func (c *Cluster) adjust(ctx context.Context, act member.Act, now, s member.Spec) error {
	err := c.Modify(act, s.Name, member.Change{Priority: &s.Priority, Weight: &s.Weight, Rated: &s.Rated, Probe: &s.Probe})
	if err == nil && now.Role != s.Role {
		err = c.SetState(ctx, act, s.Name, s.Role)
	}
	return err
}

// replace puts a member in the place of the one of the same name, once it is admitted. Until then the old one serves on.
func (c *Cluster) replace(ctx context.Context, act member.Act, name string, s member.Spec) error {
	fresh, err := c.newNode(s)
	if err != nil {
		return err
	}
	c.mu.Lock()
	old := c.nodes[name]
	if old == nil || c.stopped {
		c.mu.Unlock()
		return member.Refuse(member.NotFound, "try again", "member %s has been removed meanwhile", name)
	}
	if err := fresh.pool.sameForm(fresh); err != nil {
		c.mu.Unlock()
		return err
	}
	c.enter(fresh)
	started := c.started
	c.mu.Unlock()
	entry := member.Switch{Domain: s.Domain, Member: name, What: "replace", To: s.Addr, By: act.By, Reason: act.Reason}
	c.history.add(entry, member.Before)
	err = c.swap(ctx, act, old, fresh, started && old.isReady() && !act.Force)
	c.history.conclude(entry, err)
	return err
}

// swap lets fresh take over from old. wait: not before it is admitted.
func (c *Cluster) swap(ctx context.Context, act member.Act, old, fresh *node, wait bool) error {
	name := old.name
	if wait {
		bound, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
		defer cancel()
		if fresh.pool.until(bound, func() bool { return fresh.health == healthOK }) != nil {
			fresh.leave()
			return errors.Join(member.Refuse(member.Unsafe, "check the new entry, or force", "member %s is not replaced: the new one is not admitted: %s", name, fresh.why()),
				fresh.finish(ctx))
		}
	}
	c.mu.Lock()
	same := c.nodes[name] == old
	if same {
		c.nodes[name] = fresh
	}
	c.mu.Unlock()
	if !same {
		fresh.leave()
		return errors.Join(member.Refuse(member.Conflict, "try again", "member %s has been changed meanwhile", name), fresh.finish(ctx))
	}
	old.pool.mu.Lock()
	old.move(act.By, act.Reason, func(c *condition) { c.order = orderDrain })
	old.pool.unlock()
	err := old.drained(ctx)
	old.leave()
	return errors.Join(err, old.finish(ctx))
}

func (n *node) isReady() bool {
	n.pool.mu.Lock()
	defer n.pool.mu.Unlock()
	return n.ready()
}

// why says why a member is not in use.
func (n *node) why() string {
	n.pool.mu.Lock()
	defer n.pool.mu.Unlock()
	return n.reason
}

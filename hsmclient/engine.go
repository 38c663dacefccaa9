package hsmclient

import (
	"context"
	"errors"
	"time"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/member"
)

// errCleared ends requests whose queue an operator has cleared.
var errCleared = errors.New("an operator has cleared the queue")

// Engine gives the inner state of the cluster.
func (c *Cluster) Engine() member.Engine {
	c.mu.Lock()
	e := member.Engine{
		Name: c.cfg.Name, Instance: c.cfg.Instance, Running: c.running, Since: c.since, Members: len(c.nodes), MaxMembers: c.cfg.MaxMembers,
		MaxPrio: c.cfg.MaxPriority,
	}
	c.mu.Unlock()
	e.Monitoring, e.Journal, e.Serial = c.monitoring.Load(), c.journaling.Load(), c.serials.Last()
	now := time.Now()
	for _, d := range c.cfg.Domains {
		e.Domains = append(e.Domains, c.pools[d.Name].status(now))
	}
	return e
}

func (p *pool) status(now time.Time) member.DomainStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := member.DomainStatus{
		Domain: p.cfg.Name, LMKCheck: p.lmk, States: p.count(), StandbyEngaged: p.standby.engaged, InFlight: p.inFlight, Places: p.places(),
		Waiting: p.waitingNow(), Forecast: p.forecast(),
	}
	s.PerSecond, s.Utilisation = p.load(now)
	return s
}

// StartEngine takes requests again.
func (c *Cluster) StartEngine(act member.Act) error {
	if err := c.turn(act, true); err != nil {
		return err
	}
	for _, p := range c.pools {
		p.mu.Lock()
		p.closed = false
		p.mu.Unlock()
	}
	return nil
}

// StopEngine takes no request any more and waits until those under way have ended. Channels stay open and members are watched on.
func (c *Cluster) StopEngine(ctx context.Context, act member.Act) error {
	if err := c.turn(act, false); err != nil {
		return err
	}
	if err := c.close(ctx); err != nil {
		return errors.Join(errors.New("the engine is stopped, but requests are still under way; wait or clear the queues"), err)
	}
	return nil
}

// turn notes that the engine runs, or not.
func (c *Cluster) turn(act member.Act, on bool) error {
	names := map[bool]string{true: "running", false: "stopped"}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.stopped:
		return errStopped
	case c.running == on:
		return member.Refuse(member.Conflict, "nothing is to be done", "the engine of cluster %s is %s already", c.cfg.Name, names[on])
	}
	c.switchOver(act, "engine", names[!on], names[on], func() { c.running, c.since = on, time.Now() })
	return nil
}

// switchOver makes a change of the cluster with its two entries in the history.
func (c *Cluster) switchOver(act member.Act, what, from, to string, do func()) {
	entry := member.Switch{What: what, From: from, To: to, By: act.By, Reason: act.Reason}
	c.history.add(entry, member.Before)
	do()
	c.history.add(entry, member.After)
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

// SetMonitoring switches the heartbeats on or off. Members that are suspect or down are probed all the same.
func (c *Cluster) SetMonitoring(act member.Act, on bool) error {
	c.mu.Lock()
	if c.monitoring.Load() == on {
		c.mu.Unlock()
		return member.Refuse(member.Conflict, "nothing is to be done", "monitoring is %s already", onOff(on))
	}
	c.switchOver(act, "monitoring", onOff(!on), onOff(on), func() { c.monitoring.Store(on) })
	c.mu.Unlock()
	for _, p := range c.pools {
		p.mu.Lock()
		for _, n := range p.nodes {
			n.wake()
		}
		p.mu.Unlock()
	}
	return nil
}

// SetJournal switches the journal of exchanges on or off.
func (c *Cluster) SetJournal(act member.Act, on bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.cfg.Journal == nil:
		return member.Refuse(member.Conflict, "configure a journal", "the cluster has no journal")
	case c.journaling.Load() == on:
		return member.Refuse(member.Conflict, "nothing is to be done", "the journal is %s already", onOff(on))
	}
	c.switchOver(act, "journal", onOff(!on), onOff(on), func() {
		c.journaling.Store(on)
		if s, ok := c.cfg.Journal.(switchable); ok {
			s.Switch(on)
		}
	})
	return nil
}

// Queues gives the requests that wait and those under way, for each domain.
func (c *Cluster) Queues() []member.Queues {
	now := time.Now()
	list := make([]member.Queues, 0, len(c.cfg.Domains))
	for _, d := range c.cfg.Domains {
		list = append(list, c.pools[d.Name].queues(now))
	}
	return list
}

func (p *pool) queues(now time.Time) member.Queues {
	p.mu.Lock()
	defer p.mu.Unlock()
	q := member.Queues{Domain: p.cfg.Name, Limit: p.c.cfg.MaxWaiting, Shed: p.shed}
	for class := command.Transaction; class >= command.Background; class-- {
		w := member.WaitingClass{Class: class.String(), Waiting: p.waiting[class].n}
		for t := p.waiting[class].head; t != nil; t = t.after {
			w.OldestMS = max(w.OldestMS, milliseconds(now.Sub(t.queued)))
		}
		q.Requests = append(q.Requests, w)
	}
	oldest := map[*node]time.Time{}
	for t := p.under.head; t != nil; t = t.after {
		if since, seen := oldest[t.node]; !seen || t.talk.began.Before(since) {
			oldest[t.node] = t.talk.began
		}
	}
	for _, n := range p.nodes {
		s := member.SentQueue{Member: n.name, InFlight: n.inFlight}
		if since, any := oldest[n]; any {
			s.OldestMS = milliseconds(now.Sub(since))
		}
		q.Sent = append(q.Sent, s)
	}
	return q
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// ClearQueue ends what waits in a queue: the callers get Unavailable, or Unknown for what may have been done. It says how many. A queue
// that is in use is cleared only when forced.
func (c *Cluster) ClearQueue(act member.Act, domain string, kind member.QueueKind) (int, error) {
	p := c.pools[domain]
	switch {
	case p == nil:
		return 0, member.Refuse(member.NotFound, "use one of "+c.domainNames(), "there is no LMK domain %q", domain)
	case kind != member.Requests && kind != member.Responses:
		return 0, member.Refuse(member.Invalid, "use requests or responses", "there is no queue %q", kind)
	}
	p.mu.Lock()
	defer p.unlock()
	length := p.waitingNow()
	if kind == member.Responses {
		length = p.under.n
	}
	if length > 0 && !p.closed && !act.Force {
		return 0, member.Refuse(member.Unsafe, "stop the engine first, or force", "the queue of %s in domain %s is in use, %d callers wait in it", kind, domain, length)
	}
	entry := member.Switch{Domain: domain, What: "clear_queue", From: string(kind), By: act.By, Reason: act.Reason}
	c.history.add(entry, member.Before)
	if kind == member.Responses {
		for t := p.under.head; t != nil; t = t.after {
			t.talk.end(errCleared)
		}
	} else {
		for i := range p.waiting {
			for p.waiting[i].head != nil {
				p.turnAway(p.waiting[i].head, errCleared)
			}
		}
	}
	c.history.add(entry, member.After)
	return length, nil
}

package hsmclient

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/member"
	"github.com/keyward/keyward/keys"
)

// pool is one LMK domain: its members, the places on their channels, and the requests that wait for one. One short lock guards all
// of it; it is never held while waiting for anything.
type pool struct {
	c   *Cluster
	cfg Domain

	mu       sync.Mutex
	nodes    []*node
	tiers    []tier // members that get traffic, best priority first
	serving  int    // how many they are
	turn     int    // where the search among equals begins
	closed   bool   // the engine is stopped: no new request
	ended    bool   // the cluster is: no request at all
	lmk      keys.KCV
	inFlight int
	running  int // requests of callers, those between two tries included
	peak     int // most requests under way and waiting since housekeeping looked last
	under    list
	waiting  [classes]list
	served   int       // from the queue, for the share of the lower classes
	shed     uint64    // refused or put out because the queue was full
	emptyAt  time.Time // since when no member gets traffic; zero while one does
	standby  standby
	figures  poolFigures
	matches  uint64 // MACs that verified

	changed  chan struct{} // closed and replaced when something changed that somebody may wait for
	watchers int
	closing  []closing // channels to close once the lock is given back
}

// tier is the members of one priority.
type tier struct {
	priority int
	nodes    []*node
}

// closing is a channel that is given up, and why.
type closing struct {
	lane  *lane
	cause error
}

func newPool(c *Cluster, d Domain) *pool {
	return &pool{c: c, cfg: d, lmk: d.LMKCheck, changed: make(chan struct{}), emptyAt: time.Now().Add(-grace)}
}

// unlock gives the lock back and closes the channels that were given up under it.
func (p *pool) unlock() {
	list := p.closing
	p.closing = nil
	p.mu.Unlock()
	for _, c := range list {
		c.lane.ch.Close(c.cause)
	}
}

// notify wakes those who wait for a change. The caller holds mu.
func (p *pool) notify() {
	if p.watchers > 0 {
		close(p.changed)
		p.changed = make(chan struct{})
	}
}

// until waits until the condition holds; it is called under mu.
func (p *pool) until(ctx context.Context, holds func() bool) error {
	for {
		p.mu.Lock()
		if holds() {
			p.mu.Unlock()
			return nil
		}
		p.watchers++
		changed := p.changed
		p.mu.Unlock()
		var err error
		select {
		case <-changed:
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
		p.mu.Lock()
		p.watchers--
		p.mu.Unlock()
		if err != nil {
			return err
		}
	}
}

// rebuild draws the conclusions from any change of members: standby, tiers, and places for those who wait. The caller holds mu.
func (p *pool) rebuild() {
	now := time.Now()
	p.settleStandby(now)
	p.arrange()
	switch {
	case len(p.tiers) > 0:
		p.emptyAt = time.Time{}
	case p.emptyAt.IsZero():
		p.emptyAt = now
		p.hurry(now)
	}
	p.dispatch()
	p.notify()
}

// arrange makes the tiers anew. The caller holds mu.
func (p *pool) arrange() {
	p.tiers, p.serving = nil, 0
	for _, n := range p.nodes {
		if !n.serves() {
			continue
		}
		i, found := slices.BinarySearchFunc(p.tiers, n.spec.Priority, func(t tier, priority int) int { return t.priority - priority })
		if !found {
			p.tiers = slices.Insert(p.tiers, i, tier{priority: n.spec.Priority})
		}
		p.tiers[i].nodes = append(p.tiers[i].nodes, n)
		p.serving++
	}
}

// hurry shortens the pauses of second probing when no member is left. The caller holds mu.
func (p *pool) hurry(now time.Time) {
	for _, n := range p.nodes {
		if soon := now.Add(emptyBackoff); n.nextProbe.After(soon) {
			n.nextProbe = soon
			n.wake()
		}
	}
}

// healthy says that a member which gets traffic can do the operation and is none of those left out. The caller holds mu.
func (p *pool) healthy(t *try) bool {
	for i := range p.tiers {
		for _, n := range p.tiers[i].nodes {
			if n.can.Has(traits[t.op].needs) && !t.leavesOut(n) {
				return true
			}
		}
	}
	return false
}

// able says that a member of any state can do the operation. The caller holds mu.
func (p *pool) able(op operation) bool {
	return len(p.nodes) == 0 || slices.ContainsFunc(p.nodes, func(n *node) bool { return n.can.Has(traits[op].needs) })
}

// noMember says of each member why it gets no traffic. The caller holds mu.
func (p *pool) noMember() error {
	if len(p.nodes) == 0 {
		return errors.New("LMK domain " + p.cfg.Name + " has no member: add one")
	}
	text := "no member is connected"
	for _, n := range p.nodes {
		text += "; " + n.name + ": " + string(n.state())
		if n.reason != "" {
			text += ", " + n.reason
		}
	}
	return errors.New(text)
}

// count gives how many members are in each state. The caller holds mu.
func (p *pool) count() map[member.State]int {
	states := map[member.State]int{}
	for _, n := range p.nodes {
		states[n.state()]++
	}
	return states
}

// places gives how many requests may be under way on the members that get traffic. The caller holds mu.
func (p *pool) places() (sum int) {
	for i := range p.tiers {
		for _, n := range p.tiers[i].nodes {
			sum += n.places
		}
	}
	return sum
}

// classes is the number of request classes and the one that is not used.
const classes = int(command.Transaction) + 1

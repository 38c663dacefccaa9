package hsmclient

import (
	"errors"
	"fmt"
	"time"

	"github.com/keyward/keyward/hsmclient/member"
)

// byCluster is who orders what nobody has ordered.
const byCluster = "cluster"

// health is what the cluster has found out about a member.
type health uint8

const (
	healthDown health = iota // not admitted, or it does not answer
	healthOK
	healthSuspect
	healthFenced // it answers, but must not get work
)

// order is what an operator has said about a member beside its role.
type order uint8

const (
	orderNone order = iota
	orderDrain
	orderFence
)

// condition is all that the state of a member follows from.
type condition struct {
	role   member.State // what it is when healthy: the cluster may have made a working one standby
	order  order
	health health
}

// state is what operators see.
func (c condition) state() member.State {
	switch {
	case c.order == orderFence, c.health == healthFenced:
		return member.Fenced
	case c.health == healthSuspect:
		return member.Suspect
	case c.health == healthDown:
		return member.Down
	case c.order == orderDrain:
		return member.Draining
	}
	return c.role
}

// move changes the condition of a member. A change of its state is announced before and reported after. The caller holds pool.mu.
func (n *node) move(by, reason string, do func(*condition)) {
	next := n.condition
	do(&next)
	from, to := n.state(), next.state()
	entry := member.Switch{Domain: n.spec.Domain, Member: n.name, What: "state", From: string(from), To: string(to), By: by, Reason: reason}
	if from != to {
		n.pool.c.history.add(entry, member.Before)
	}
	n.condition = next
	n.openGate(n.health == healthOK || n.admitting)
	n.pool.rebuild()
	if from != to {
		n.since = time.Now()
		n.pool.c.history.add(entry, member.After)
	}
}

// suspect takes a healthy member out of traffic until the second probing has decided. The caller holds pool.mu, as of all below.
func (n *node) suspect(reason string, now time.Time) {
	if n.health != healthOK {
		return
	}
	n.reason = reason
	n.suspected(now)
	n.move(byCluster, reason, func(c *condition) { c.health = healthSuspect })
	n.pool.c.cfg.Log.Warn("HSM is suspect", "member", n.name, "reason", reason)
	n.wake()
}

// cleared brings a suspect back as it was.
func (n *node) cleared() {
	n.reason, n.misses, n.late = "", 0, 0
	n.move(byCluster, "it answers again", func(c *condition) { c.health = healthOK })
	n.pool.c.cfg.Log.Info("HSM answers again", "member", n.name)
}

// fall takes a member down: it does not answer.
func (n *node) fall(reason string, now time.Time) {
	if n.health == healthDown {
		n.reason = reason
		return
	}
	n.reason = reason
	n.rest(now)
	n.giveUpAll(errors.New("the member is down: " + reason))
	n.move(byCluster, reason, func(c *condition) { c.health = healthDown })
	n.pool.c.cfg.Log.Error("HSM is down", "member", n.name, "reason", reason)
}

// fence takes a member out that answers but must not get work.
func (n *node) fence(reason string, now time.Time) {
	if n.health == healthFenced && n.reason == reason {
		return
	}
	n.reason, n.admitting = reason, false
	n.partWays()
	n.rest(now)
	n.giveUpAll(fmt.Errorf("the member is fenced: %s", reason))
	n.move(byCluster, reason, func(c *condition) { c.health = healthFenced })
	n.pool.c.cfg.Log.Error("HSM fenced", "member", n.name, "reason", reason)
	n.wake()
}

// admitted puts a member to use that has passed everything.
func (n *node) admitted() {
	n.admitting = false
	if n.health == healthSuspect {
		n.cleared()
		return
	}
	n.reason, n.misses, n.late = "", 0, 0
	role, why := n.spec.Role, "admitted"
	if !n.newcomer {
		why = "admitted again"
		if n.pool.c.cfg.Readmit == member.Standby {
			role = member.Standby
		}
	}
	n.newcomer = false
	n.nextBeat = time.Now().Add(n.pool.c.cfg.Probing.Every)
	n.move(byCluster, why, func(c *condition) { c.health, c.role = healthOK, role })
	if twice := n.twinWarning(); twice != "" {
		n.pool.c.cfg.Log.Warn("an HSM is on the list twice", "member", n.name, "reason", twice)
	}
	n.pool.c.cfg.Log.Info("HSM admitted", "member", n.name, "state", string(n.state()))
	n.wake()
}

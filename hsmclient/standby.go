package hsmclient

import (
	"time"

	"github.com/keyward/keyward/hsmclient/member"
)

// calmLoad is the share of the working members' places below which they can do without help: well below full, so that standby members do
// not come and go.
const calmLoad = 0.8

// standby says whether standby members get traffic, and why.
type standby struct {
	engaged   bool
	saturated bool      // because all places were taken, not because members are missing
	calmSince time.Time // since when they are needed no more
}

// settleStandby lets standby members in when working ones are missing, and out again after the hold-down. The caller holds mu.
func (p *pool) settleStandby(now time.Time) {
	working, coming, ready := 0, 0, 0
	for _, n := range p.nodes {
		switch {
		case n.hopeful():
			coming++
		case !n.ready():
		case n.role == member.Working:
			working++
		default:
			ready++
		}
	}
	needed := working < p.cfg.Floor || p.standby.saturated && float64(p.peak) > calmLoad*float64(p.workingPlaces())
	switch {
	case !p.standby.engaged && working+coming < p.cfg.Floor && ready > 0:
		p.engage("fewer working members than the floor")
	case !p.standby.engaged:
	case ready == 0:
		p.stepBack("no standby member is left")
	case needed:
		p.standby.calmSince = time.Time{}
	case p.standby.calmSince.IsZero():
		p.standby.calmSince = now
	case now.Sub(p.standby.calmSince) >= p.c.cfg.HoldDown:
		p.stepBack("the working members can do without")
	}
}

// hopeful says that a new working member is being admitted and nothing speaks against it: standby members need not step in for these
// moments.
func (n *node) hopeful() bool {
	return n.newcomer && n.health == healthDown && n.order == orderNone && n.role == member.Working && n.probing.LastErr == ""
}

// saturated lets standby members in when all working ones are full; false: none came in. The caller holds mu.
func (p *pool) saturated() bool {
	if p.standby.engaged || len(p.tiers) == 0 {
		return false
	}
	full, ready := true, false
	for _, n := range p.nodes {
		if n.ready() && n.role == member.Standby {
			ready = true
		}
		if n.serves() && n.inFlight < n.places && n.unfit == 0 {
			full = false
		}
	}
	if !full || !ready {
		return false
	}
	p.engage("the working members are saturated")
	p.standby.saturated = true
	p.arrange()
	return true
}

func (p *pool) engage(reason string) {
	entry := member.Switch{Domain: p.cfg.Name, What: "standby_engaged", From: "standby", To: "engaged", By: byCluster, Reason: reason}
	p.c.history.add(entry, member.Before)
	p.standby = standby{engaged: true}
	p.c.history.add(entry, member.After)
}

func (p *pool) stepBack(reason string) {
	entry := member.Switch{Domain: p.cfg.Name, What: "standby_released", From: "engaged", To: "standby", By: byCluster, Reason: reason}
	p.c.history.add(entry, member.Before)
	p.standby = standby{}
	p.c.history.add(entry, member.After)
}

func (p *pool) workingPlaces() (sum int) {
	for _, n := range p.nodes {
		if n.ready() && n.role == member.Working {
			sum += n.places
		}
	}
	return sum
}

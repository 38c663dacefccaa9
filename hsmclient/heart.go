package hsmclient

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/driver"
	"github.com/keyward/keyward/hsmclient/member"
)

// beat sends one heartbeat on the next channel of a healthy member. Now and then it is the whole examination.
func (n *node) beat(ctx context.Context) {
	p := n.pool
	p.mu.Lock()
	began := time.Now()
	n.nextBeat = began.Add(p.c.cfg.Probing.Every)
	if n.health != healthOK || len(n.lanes) == 0 {
		p.mu.Unlock()
		return
	}
	n.beats++
	l := n.nextLane()
	name, whole := n.spec.Probe, n.thorough || n.beats%examineEvery == 0
	n.thorough = false
	p.mu.Unlock()

	bound, cancel := context.WithTimeout(ctx, p.c.cfg.Probing.Timeout)
	defer cancel()
	device, err := n.ask(bound, l, name, whole)
	if err == nil && whole {
		err = n.prove(ctx, l)
	}
	if ctx.Err() != nil {
		return
	}
	p.mu.Lock()
	defer p.unlock()
	now := time.Now()
	n.note(now, now.Sub(began), err)
	if n.health != healthOK {
		return
	}
	if err == nil {
		n.misses, n.late = 0, 0
		if device.LMKCheck != "" || device.Firmware != "" {
			n.device = device
		}
		return
	}
	n.missed(l, err, began, now)
}

// nextLane is the channel of the next heartbeat, in turns. Where one request at a time is under way, an idle channel is better. The caller
// holds pool.mu, and there is one.
func (n *node) nextLane() *lane {
	for k := range n.lanes {
		if l := n.lanes[(n.beats+k)%len(n.lanes)]; l.depth > 1 || l.inFlight == 0 {
			return l
		}
	}
	return n.lanes[n.beats%len(n.lanes)]
}

// ask is the question of a heartbeat.
func (n *node) ask(ctx context.Context, l *lane, name string, whole bool) (member.Device, error) {
	prober, ok := n.driver.(driver.Prober)
	if name == "" || whole || !ok {
		return n.diagnose(ctx, l)
	}
	return member.Device{}, prober.Probe(ctx, probe{lane: l}, name)
}

// missed draws the conclusions from a failed heartbeat. The caller holds pool.mu.
func (n *node) missed(l *lane, err error, began, now time.Time) {
	p := n.pool
	var e *command.Error
	answered := errors.As(err, &e) && e.Code != ""
	switch {
	case errors.Is(err, errDeviates):
		n.fence(err.Error(), now)
	case errors.Is(err, driver.ErrMalformed):
		p.poison(l, err)
	case answered && e.Class == command.MemberFault:
		n.miss("it answered " + e.Code + " to the heartbeat")
	case answered: // alive, though it does not like the command
		p.c.cfg.Log.Warn("HSM refuses the heartbeat command; choose another", "member", n.name, "command", e.Command, "code", e.Code)
	case errors.Is(err, driver.ErrLost), l.gone:
		n.ended(l)
		n.doubt() // only the channel was lost: ask on another
	case driver.NotSent(err), l.heard().After(began):
		// The channel was busy all the time, or other answers came on it: the device is alive, and slow or losing answers. The last member
		// of a domain stays in.
		n.late++
		if n.late >= lateLimit && p.others(n) {
			n.miss(fmt.Sprintf("%d heartbeats in a row were late", n.late))
		}
	default:
		silent := !n.heardSince(began)
		n.miss(fmt.Sprintf("no answer to the heartbeat within %s", p.c.cfg.Probing.Timeout))
		p.giveUp(l, resetSilent, errSilent)
		if silent {
			n.giveUpAll(errSilent)
			p.rebuild()
		}
	}
}

// miss counts a missed heartbeat and makes the member suspect. The caller holds pool.mu.
func (n *node) miss(reason string) {
	n.misses++
	n.figures.misses++
	n.suspect(reason, time.Now())
}

// missesInAll counts them since the member was added.
func (n *node) missesInAll() uint64 {
	n.pool.mu.Lock()
	defer n.pool.mu.Unlock()
	return n.figures.misses
}

// others says that another member gets traffic. The caller holds mu.
func (p *pool) others(than *node) bool {
	for i := range p.tiers {
		for _, n := range p.tiers[i].nodes {
			if n != than {
				return true
			}
		}
	}
	return false
}

// probeNow is a probe that an operator wants: it also admits at once a member that was down or fenced.
func (n *node) probeNow(ctx context.Context) member.ProbeResult {
	p := n.pool
	began := time.Now()
	device, err := n.examine(ctx, true)
	took := time.Since(began)
	enough := n.judge(device, err, began)
	p.mu.Lock()
	if err == nil && n.order != orderFence && (n.health == healthDown || n.health == healthFenced) && !n.mustProve() {
		n.passes, enough = p.c.cfg.Probing.AdmitTimes, true
	}
	p.mu.Unlock()
	if enough {
		n.admit(ctx)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	result := member.ProbeResult{Member: n.name, OK: err == nil, TookMS: float64(took.Microseconds()) / 1000, Device: device, State: n.state()}
	if err != nil {
		result.Problem = err.Error()
	}
	return result
}

package hsmclient

import (
	"context"
	"errors"
	"time"

	"github.com/keyward/keyward/hsmclient/member"
)

const (
	// emptyBackoff is the longest pause of second probing while the domain has no member left, and emptyPause that between passes: with
	// three passes a member is back within one second of its return.
	emptyBackoff = 500 * time.Millisecond
	emptyPause   = 200 * time.Millisecond
	// suspicionMemory is how long a suspicion counts: a member that is suspect again and again is trusted again ever more slowly.
	suspicionMemory = time.Minute
	// lateLimit is how many heartbeats in a row may be late while other answers come, before the member is suspect.
	lateLimit = 3
	// idle is how long a keeper sleeps when nothing is due.
	idle = time.Hour
)

// watch is the health side of a member.
type watch struct {
	probing    member.Probing
	misses     int  // heartbeats in a row
	late       int  // heartbeats in a row that came late while other answers came in time
	passes     int  // admission probes in a row
	unproven   bool // the last of them had no witness, though one is possible
	pause      time.Duration
	nextProbe  time.Time // of the second probing
	nextBeat   time.Time
	beats      int
	witnesses  int  // asked, so that they take turns
	doubtful   bool // a heartbeat is due at once
	inspect    bool // a full probe is due although it is healthy
	suspicions int
	suspectAt  time.Time // the last suspicion
}

// keep watches one member: heartbeats while it is healthy, second probing while it is not. It ends with ctx.
func (n *node) keep(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.woken:
		case <-timer.C:
		case reply := <-n.asked:
			reply <- n.probeNow(ctx)
		}
		timer.Reset(n.step(ctx))
	}
}

// step does what is due and says when to look again.
func (n *node) step(ctx context.Context) time.Duration {
	p := n.pool
	p.mu.Lock()
	now := time.Now()
	n.endFault(now)
	beat, probe := false, false
	switch {
	case n.health != healthOK:
		probe = !n.nextProbe.After(now)
	case n.inspect:
		probe = true
	default:
		beat = n.doubtful || p.c.monitoring.Load() && !n.nextBeat.After(now)
	}
	n.inspect, n.doubtful = false, false
	p.unlock()
	switch {
	case probe:
		n.secondProbing(ctx)
	case beat:
		n.beat(ctx)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now = time.Now()
	next := now.Add(idle)
	switch {
	case n.health != healthOK:
		next = n.nextProbe
	case n.doubtful || n.inspect:
		next = now
	case p.c.monitoring.Load():
		next = n.nextBeat
	}
	if f := n.fault.Load(); f != nil && f.Until.Before(next) {
		next = f.Until
	}
	return max(0, next.Sub(now))
}

// secondProbing asks on a fresh connection and decides.
func (n *node) secondProbing(ctx context.Context) {
	p := n.pool
	p.mu.Lock()
	began, was := time.Now(), n.health
	p.mu.Unlock()
	device, err := n.examine(ctx, was != healthSuspect)
	if errors.Is(err, errConnect) && was == healthSuspect {
		device, err = n.fallBack(ctx, err)
	}
	if ctx.Err() != nil {
		return
	}
	if n.judge(device, err, began) {
		n.admit(ctx)
	}
}

// fallBack asks a suspect on a channel that is still open, because it takes no new connection: others may hold all that a device accepts.
func (n *node) fallBack(ctx context.Context, cause error) (member.Device, error) {
	n.pool.mu.Lock()
	var l *lane
	if len(n.lanes) > 0 {
		l = n.nextLane()
	}
	n.pool.mu.Unlock()
	if l == nil {
		return member.Device{}, cause
	}
	ctx, cancel := context.WithTimeout(ctx, n.pool.c.cfg.Probing.Timeout)
	defer cancel()
	device, err := n.diagnose(ctx, l)
	if err != nil && !errors.Is(err, errDeviates) {
		return device, cause
	}
	return device, err
}

// judge draws the conclusions from a probe on a fresh connection. true: the member has passed often enough to be admitted.
func (n *node) judge(device member.Device, err error, began time.Time) (enough bool) {
	p := n.pool
	p.mu.Lock()
	defer p.unlock()
	now := time.Now()
	n.note(now, now.Sub(began), err)
	if err == nil {
		err = p.agree(n, device)
	}
	switch {
	case errors.Is(err, errDeviates):
		n.device = device
		n.fence(err.Error(), now)
		n.passes = 0
		n.slower(now)
	case err != nil:
		n.failed(err, began, now)
	default:
		n.device = device
		return n.passed(now)
	}
	return false
}

// passed counts a pass. The caller holds pool.mu.
func (n *node) passed(now time.Time) (enough bool) {
	switch {
	case n.health == healthOK:
		return false
	case n.health == healthSuspect && len(n.lanes) > 0:
		n.cleared()
		return false
	case n.health == healthSuspect: // alive, but channels must come first
		return true
	case n.order == orderFence:
		n.slower(now) // stays out whatever it answers
		return false
	}
	n.passes++
	enough = n.passes >= n.pool.c.cfg.Probing.AdmitTimes
	if enough && !n.mustProve() {
		n.admitting = true
		return true
	}
	n.pause = 0
	pause := n.pool.c.cfg.Probing.BackoffMin
	switch {
	case enough: // once more, with a witness
	case n.newcomer: // nothing speaks against it
		pause = 0
	case len(n.pool.tiers) == 0:
		pause = min(pause, emptyPause)
	}
	n.nextProbe = now.Add(pause)
	return false
}

// failed notes that a fresh connection got no answer. The caller holds pool.mu.
func (n *node) failed(err error, began, now time.Time) {
	n.passes = 0
	switch n.health {
	case healthOK:
		n.suspect("it does not answer on a fresh connection: "+err.Error(), now)
	case healthSuspect:
		if errors.Is(err, context.DeadlineExceeded) && n.heardSince(began) { // busy: the channels still answer
			n.slower(now)
			return
		}
		n.fall(err.Error(), now)
	case healthDown, healthFenced:
		if n.health == healthDown {
			n.reason = err.Error()
		}
		n.slower(now)
		n.pool.rebuild() // standby members may have waited for this one
	}
}

// admit makes the first channels; the member is put to use by the first that is there.
func (n *node) admit(ctx context.Context) {
	p := n.pool
	p.mu.Lock()
	n.admitting = true
	n.openGate(true)
	p.mu.Unlock()
	bound, cancel := context.WithTimeout(ctx, p.c.cfg.Timeout)
	defer cancel()
	err := p.until(bound, func() bool { return !n.admitting })
	p.mu.Lock()
	defer p.unlock()
	if err == nil || !n.admitting {
		return
	}
	n.admitting = false
	n.passes = 0
	now := time.Now()
	cause := "it answers probes, but no data channel could be opened: " + n.probing.LastErr
	n.openGate(false)
	if n.health == healthSuspect {
		n.fall(cause, now)
		return
	}
	n.reason = cause
	n.slower(now)
}

// slower doubles the pause until the next probe. The caller holds pool.mu, as of all below.
func (n *node) slower(now time.Time) {
	n.pause = n.pool.c.backoff(n.pause)
	pause := n.pause
	if len(n.pool.tiers) == 0 {
		pause = min(pause, emptyBackoff)
	}
	n.nextProbe = now.Add(jittered(pause))
}

// rest begins the second probing anew, at the shortest pause.
func (n *node) rest(now time.Time) {
	n.passes, n.pause = 0, 0
	n.slower(now)
}

// suspected makes the second probing due: at once, but later when that has been the case again and again.
func (n *node) suspected(now time.Time) {
	if now.Sub(n.suspectAt) > suspicionMemory {
		n.suspicions, n.pause = 0, 0
	}
	n.suspectAt = now
	n.suspicions++
	n.nextProbe = now
	if n.suspicions > 1 {
		n.slower(now)
	}
}

// doubt makes a heartbeat due at once.
func (n *node) doubt() {
	if n.health == healthOK && !n.doubtful {
		n.doubtful = true
		n.wake()
	}
}

// heardSince says that an answer came on any channel.
func (n *node) heardSince(since time.Time) bool {
	for _, l := range n.lanes {
		if l.heard().After(since) {
			return true
		}
	}
	return false
}

// note keeps what operators see of a probe.
func (n *node) note(now time.Time, took time.Duration, err error) {
	n.probing.LastAt, n.probing.LastMS = now, float64(took.Microseconds())/1000
	if err != nil {
		n.probing.LastErr = err.Error()
	}
}

// backoff is the pause after the given one.
func (c *Cluster) backoff(pause time.Duration) time.Duration {
	return min(max(c.cfg.Probing.BackoffMin, 2*pause), c.cfg.Probing.BackoffMax)
}

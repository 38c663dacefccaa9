package drill

import (
	"context"
	"time"

	"github.com/keyward/keyward/hsmclient/member"
)

// awaitReturn waits until the member is healthy. It says whether it is; the end of the service ends the wait, an early stop does not: the
// member has to come back in any case.
func (d *run) awaitReturn(ctx context.Context, atMost time.Duration) bool {
	end, tick := time.NewTimer(atMost), time.NewTicker(lookEvery)
	defer end.Stop()
	defer tick.Stop()
	for {
		if s, err := d.look(); err == nil && s.Fault == nil && healthy(s.State) {
			at := s.Since
			if at.Before(d.clearedAt) { // it never went
				at = d.clearedAt
			}
			d.setTimes(func(t *Times) { t.RecoveryMS = since(d.clearedAt, at) })
			d.stepAt(at, "healthy", string(s.State))
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-end.C:
			return false
		case <-tick.C:
		}
	}
}

// restore puts the member back into the state in which the drill has found it: a recovered one comes back as the cluster's configuration
// says, which is standby by default.
func (d *run) restore(ctx context.Context) bool {
	name := d.target
	ctx, cancel := context.WithTimeout(ctx, restoreTimeout)
	defer cancel()
	s, err := d.r.cfg.Cluster.Member(name)
	if err == nil && s.State != d.former {
		if err = d.r.cfg.Cluster.SetState(ctx, d.order(), name, d.former); err == nil {
			s, err = d.r.cfg.Cluster.Member(name)
		}
	}
	if err != nil || s.State != d.former {
		d.r.cfg.Log.ErrorContext(ctx, "HSM drill: the member is not back in its place, set its state by hand", "drill", d.id, "member", name,
			"state", string(s.State), "was", string(d.former), "cause", err)
		return false
	}
	now := time.Now()
	d.readHistory() // so that the time line has the change of state before the step
	d.setTimes(func(t *Times) { t.RestoredMS = since(d.clearedAt, now) })
	d.stepAt(now, "restore", string(d.former))
	return true
}

// look reads what the cluster tells: the state of the member and the history since the last look.
func (d *run) look() (member.Status, error) {
	d.readHistory()
	s, err := d.r.cfg.Cluster.Member(d.target)
	if err != nil {
		return s, err
	}
	d.mu.Lock()
	d.state = s.State
	d.mu.Unlock()
	d.noteState(s.State, s.Since)
	return s, nil
}

// historyLook is how many switches one look reads: more do not happen between two looks.
const historyLook = 100

// whatFault is the member.Switch.What of simulated failures.
const whatFault = "fault"

// readHistory adds what is new to the time line.
func (d *run) readHistory() {
	h := d.r.cfg.Cluster.History(historyLook)
	for i := len(h) - 1; i >= 0; i-- {
		s := h[i]
		if s.Seq <= d.lastSeq {
			continue
		}
		d.lastSeq = s.Seq
		if s.Domain != "" && s.Domain != d.report.Domain || s.What == whatFault && s.Member == d.target {
			continue // the fault itself has its steps
		}
		d.addEvent(s.At, Event{Phase: s.Phase, Member: s.Member, What: s.What, From: s.From, To: s.To, By: s.By, Reason: s.Reason})
		if s.Phase == member.After && s.Member == d.target {
			d.noteState(member.State(s.To), s.At)
		}
	}
}

// noteState takes the times of detection and decision from a state of the member that began at the given time.
func (d *run) noteState(s member.State, at time.Time) {
	if d.injectedAt.IsZero() || at.Before(d.injectedAt) || !d.clearedAt.IsZero() && at.After(d.clearedAt) {
		return
	}
	switch s {
	case member.Suspect, member.Down, member.Fenced:
	default:
		return
	}
	d.setTimes(func(t *Times) {
		if t.DetectionMS == nil {
			t.DetectionMS = since(d.injectedAt, at)
		}
		if t.DecidedMS == nil && s != member.Suspect {
			t.DecidedMS = since(d.injectedAt, at)
		}
	})
	if d.reached != member.Fenced && (d.reached != member.Down || s == member.Fenced) {
		d.reached = s
	}
}

func since(from, to time.Time) *float64 {
	v := ms(to.Sub(from))
	return &v
}

func (d *run) setTimes(set func(*Times)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	set(&d.report.Times)
}

// maxEvents bounds the time line; a drill makes about twenty entries.
const maxEvents = 500

func (d *run) addEvent(at time.Time, e Event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.report.Events) < maxEvents {
		e.AtMS = ms(at.Sub(d.report.Started))
		d.report.Events = append(d.report.Events, e)
	}
}

// step notes a step of the drill itself.
func (d *run) step(name, text string) { d.stepAt(time.Now(), name, text) }

func (d *run) stepAt(at time.Time, name, text string) {
	d.addEvent(at, Event{Step: name, Member: d.target, Reason: text})
}

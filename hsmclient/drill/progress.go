package drill

import (
	"time"

	"github.com/keyward/keyward/hsmclient/member"
)

// Progress is a drill as an operator watches it, and its entry in the list.
type Progress struct {
	ID      string           `json:"id"`
	Member  string           `json:"member"`
	Domain  string           `json:"domain"`
	Kind    member.FaultKind `json:"kind"`
	By      string           `json:"by"`
	Started time.Time        `json:"started"`
	// Phase is before, during, return, after or over; Part (0 to 1) is how much of the planned time is behind.
	Phase string  `json:"phase"`
	Part  float64 `json:"part"`
	// Planned is the length of the whole drill when the member comes back at once.
	Planned member.Duration `json:"planned"`
	State   member.State    `json:"state,omitempty"` // of the member now
	Times   Times           `json:"times"`
	Traffic Counts          `json:"traffic"`
	Own     Counts          `json:"own"`
	Verdict Result          `json:"verdict"`
	Cause   string          `json:"cause,omitempty"`
}

// PhaseOver is the phase of a drill that is done; the others are before, during, return and after.
const PhaseOver = "over"

func planned(r Request) time.Duration { return r.Before.Std() + r.During.Std() + r.After.Std() }

// headline is what a progress has from the report alone.
func headline(rep Report) Progress {
	return Progress{
		ID: rep.ID, Member: rep.Request.Member, Domain: rep.Domain, Kind: rep.Request.Kind, By: rep.By, Started: rep.Started,
		Planned: member.Duration(planned(rep.Request)), Times: rep.Times, Verdict: rep.Verdict, Cause: rep.Cause,
	}
}

// ended is the progress of a drill that is over.
func ended(rep Report) Progress {
	p := headline(rep)
	p.Phase, p.Part = PhaseOver, 1
	for _, phase := range rep.Phases {
		p.Traffic, p.Own = p.Traffic.plus(phase.Traffic.Counts), p.Own.plus(phase.Own.Counts)
	}
	return p
}

// progress tells where the drill is.
func (d *run) progress() Progress {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.finished {
		return ended(d.report)
	}
	p := headline(d.report)
	p.State, p.Phase = d.state, phaseNames[d.phase]
	p.Traffic, p.Own = d.meter.totals(traffic), d.meter.totals(own)
	// The return takes as long as it takes: the bar waits there.
	lengths := [phases]time.Duration{d.report.Request.Before.Std(), d.report.Request.During.Std(), 0, d.report.Request.After.Std()}
	var behind time.Duration
	for _, length := range lengths[:d.phase] {
		behind += length
	}
	behind += min(time.Since(d.entered), lengths[d.phase])
	p.Part = rounded(float64(behind) / float64(planned(d.report.Request)))
	return p
}

// order is the act in whose name the cluster does the steps.
func (d *run) order() member.Act {
	act := d.act
	act.Reason = "drill " + d.id
	return act
}

// stopEarly asks for an early end; the first reason counts.
func (d *run) stopEarly(cause string) {
	select {
	case d.early <- cause:
	default:
	}
}

func (d *run) attend() {
	d.mu.Lock()
	d.attended = time.Now()
	d.mu.Unlock()
}

func (d *run) over() bool {
	select {
	case <-d.done:
		return true
	default:
		return false
	}
}

package drill

import (
	"slices"
	"time"

	"github.com/keyward/keyward/hsmclient/member"
)

// enough is how many requests a phase needs so that its 95th percentile says something.
const enough = 20

// finish completes the report, judges and keeps it.
func (d *run) finish(cause string) {
	d.readHistory()
	now := time.Now()
	d.step("end", cause)
	d.mu.Lock()
	rep := d.report
	rep.Ended, rep.Cause = now, cause
	rep.Events = slices.Clone(rep.Events)
	slices.SortStableFunc(rep.Events, func(a, b Event) int { return int(a.AtMS*1000) - int(b.AtMS*1000) })
	d.mu.Unlock()
	rep.SlotMS, rep.Points = ms(d.meter.slot), d.meter.points()
	for phase := range phases {
		from := d.entries[phase]
		if from.IsZero() {
			continue
		}
		to := now
		for _, next := range d.entries[phase+1:] {
			if !next.IsZero() {
				to = next
				break
			}
		}
		length := to.Sub(from)
		rep.Phases = append(rep.Phases, Phase{
			Name: phaseNames[phase], FromMS: ms(from.Sub(rep.Started)), ToMS: ms(to.Sub(rep.Started)), GapMS: ms(d.meter.longestGap(phase)),
			Traffic: d.meter.measured(phase, traffic, length), Own: d.meter.measured(phase, own, length),
		})
	}
	d.judge(&rep)
	if err := d.loadErr(); err != nil && rep.OwnLoad && d.meter.totals(own).all() == 0 {
		rep.Cause = addCause(rep.Cause, "no request of the own load was made: "+err.Error())
	}
	if err := d.r.store.save(rep); err != nil {
		d.r.cfg.Log.Error("HSM drill: the report could not be kept", "drill", rep.ID, "cause", err)
	}
	d.mu.Lock()
	d.report, d.finished = rep, true
	d.mu.Unlock()
	d.r.cfg.Log.Warn("HSM drill is over", "drill", rep.ID, "member", rep.Request.Member, "verdict", string(rep.Verdict), "cause", rep.Cause)
}

func addCause(cause, more string) string {
	if cause == "" {
		return more
	}
	return cause + "; " + more
}

// judge fills the checks and the verdict.
func (d *run) judge(rep *Report) {
	if d.injectedAt.IsZero() {
		rep.Verdict = Incomplete
		return
	}
	if last := d.meter.lastDisturbed(); last.IsZero() {
		rep.Times.SwitchMS = new(float64)
	} else {
		rep.Times.SwitchMS = since(d.injectedAt, last)
	}
	limits := rep.Request.Limits
	inPlace := d.clearedAt.Sub(d.injectedAt)
	rep.Checks = []Check{
		d.judgeTaken(rep, inPlace),
		judgeTime("detection", limits.Detection, rep.Times.DetectionMS, undetected(rep, inPlace)),
		judgeTime("switch", limits.Switch, rep.Times.SwitchMS, ""),
		judgeFailed(rep),
		judgeLatency(rep),
		judgeTime("recovery", limits.Recovery, rep.Times.RecoveryMS, d.unreturned(rep)),
		judgeRestored(rep, d.former, d.stopped),
	}
	rep.Verdict = Passed
	if rep.Cause != "" {
		rep.Verdict = Incomplete
	}
	if d.harm || slices.ContainsFunc(rep.Checks, func(c Check) bool { return c.Result == Failed }) {
		rep.Verdict = Failed
	}
}

// judgeTime judges a duration. excuse is why its absence is no failure; "" when it is one.
func judgeTime(name string, limit member.Duration, measured *float64, excuse string) Check {
	c := Check{Name: name, Unit: "ms", Limit: ms(limit.Std()), Measured: measured, Result: Passed}
	switch {
	case measured == nil && excuse != "":
		c.Result, c.Note = NotJudged, excuse
	case measured == nil || *measured > c.Limit:
		c.Result = Failed
	}
	return c
}

// undetected says why a member that was not found suspect is no failure.
func undetected(rep *Report, inPlace time.Duration) string {
	if rep.Request.Kind == member.FaultSlow {
		return noteLate
	}
	return shortened(rep, inPlace)
}

// shortened says that the drill ended before the limit of detection was over.
func shortened(rep *Report, inPlace time.Duration) string {
	if rep.Cause != "" && inPlace < rep.Request.Limits.Detection.Std() {
		return noteEarly
	}
	return ""
}

func (d *run) unreturned(rep *Report) string {
	if d.stopped && time.Since(d.clearedAt) < rep.Request.Limits.Recovery.Std() {
		return noteService
	}
	return ""
}

// judgeTaken judges that the member was taken out for good: down, and fenced with another LMK.
func (d *run) judgeTaken(rep *Report, inPlace time.Duration) Check {
	want := member.Down
	if rep.Request.Kind == member.FaultWrongLMK {
		want = member.Fenced
	}
	c := Check{Name: "taken_out", Unit: "state", Result: Failed, Note: "the member stayed " + string(d.former)}
	if d.reached != "" {
		c.Note = "the member became " + string(d.reached)
	}
	excuse := shortened(rep, inPlace)
	switch {
	case d.reached == want || d.reached == member.Fenced:
		c.Result = Passed
	case rep.Request.Kind == member.FaultSlow || excuse != "":
		c.Result = NotJudged
	default:
		c.Note += ", expected was " + string(want)
	}
	return c
}

// judgeFailed counts the requests that failed since the fault began.
func judgeFailed(rep *Report) Check {
	var failed, all float64
	for _, p := range rep.Phases {
		if p.Name != phaseNames[phaseBefore] {
			failed += float64(p.Traffic.Failed + p.Own.Failed)
			all += float64(p.Traffic.all() + p.Own.all())
		}
	}
	c := Check{Name: "failed", Unit: "requests", Limit: float64(rep.Request.Limits.Failed), Measured: &failed, Result: Passed}
	switch {
	case failed > c.Limit:
		c.Result = Failed
	case all == 0:
		c.Result, c.Note = NotJudged, noteNoRequests
	}
	return c
}

// judgeLatency compares the 95th percentile during the fault with that before, of traffic where there was enough of it, else of the own load.
func judgeLatency(rep *Report) Check {
	c := Check{Name: "latency", Unit: "times", Limit: rep.Request.Limits.LatencyFactor, Result: Passed}
	before, during := rep.Phases[phaseBefore], rep.Phases[phaseDuring]
	rep.JudgedBy = "traffic"
	a, b := before.Traffic, during.Traffic
	if a.all() < enough || b.all() < enough {
		rep.JudgedBy, a, b = "own", before.Own, during.Own
	}
	if a.all() < enough || b.all() < enough {
		c.Result, c.Note = NotJudged, noteFewRequests
		return c
	}
	factor := rounded(b.P95MS / max(a.P95MS, ms(shortest)))
	c.Measured = &factor
	if factor > c.Limit {
		if b.P95MS <= ms(rep.Request.Limits.LatencyFloor.Std()) {
			c.Note = noteBelowFloor
		} else {
			c.Result = Failed
		}
	}
	return c
}

func judgeRestored(rep *Report, former member.State, stopped bool) Check {
	c := Check{Name: "restored", Unit: "state", Result: Passed, Note: "the member is " + string(former) + " again"}
	if rep.Times.RestoredMS == nil {
		c.Result, c.Note = Failed, "the member is not "+string(former)+" again: look after it"
		if stopped {
			c.Result, c.Note = NotJudged, noteService
		}
	}
	return c
}

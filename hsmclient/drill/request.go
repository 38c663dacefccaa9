package drill

import (
	"fmt"
	"slices"
	"time"

	"github.com/keyward/keyward/hsmclient/member"
)

// LoadMode says whether a drill makes requests of its own.
type LoadMode string

// The modes.
const (
	LoadAuto LoadMode = "auto" // when the domain has less traffic than Rate
	LoadOn   LoadMode = "on"
	LoadOff  LoadMode = "off"
)

// Request orders a drill. Zero fields take the defaults that the comments name.
type Request struct {
	Member string           `json:"member"`
	Kind   member.FaultKind `json:"kind"`
	Delay  member.Duration  `json:"delay,omitempty"` // of the kind slow: 200ms
	// Before, During and After are how long is measured before the fault (5s), with it (15s) and after the member is back (5s).
	Before member.Duration `json:"before,omitempty"`
	During member.Duration `json:"during,omitempty"`
	After  member.Duration `json:"after,omitempty"`
	// Load (auto) is the drill's own load and Rate (20) its requests per second.
	Load LoadMode `json:"load,omitempty"`
	Rate int      `json:"rate,omitempty"`
	// AbortAfter is how many failed requests of traffic end the drill early (20).
	AbortAfter int `json:"abort_after,omitempty"`
	// Lease ends the drill early when nobody has asked for its progress for so long; 0: it runs on unattended.
	Lease  member.Duration `json:"lease,omitempty"`
	Limits Limits          `json:"limits,omitzero"`
}

// Limits are what the verdict is measured against.
type Limits struct {
	// Detection is from the fault to the member being suspect (2s: one probe interval and its time-out by default, and some reserve).
	Detection member.Duration `json:"detection,omitempty"`
	// Switch is from the fault to the end of the last request that the fault delayed or failed (3s).
	Switch member.Duration `json:"switch,omitempty"`
	// Failed is how many requests may fail, 0 by default.
	Failed int `json:"failed,omitempty"`
	// LatencyFactor is how many times slower the 95th percentile may be during the fault than before (3). Below LatencyFloor (20ms) any
	// factor passes, because nobody notices it.
	LatencyFactor float64         `json:"latency_factor,omitempty"`
	LatencyFloor  member.Duration `json:"latency_floor,omitempty"`
	// Recovery is from the end of the fault to the member being healthy again (30s).
	Recovery member.Duration `json:"recovery,omitempty"`
}

// Bounds of a request. The longest fault is the cluster's own bound; the others keep a report readable.
const (
	maxMeasure  = time.Minute
	maxFault    = 10*time.Minute - faultSlack
	maxRecovery = 5 * time.Minute
	maxDelay    = time.Minute
	minLease    = time.Second
	maxLease    = time.Minute
	maxRate     = 1000
	maxAbort    = 1_000_000
	// faultSlack is how much later than planned the cluster would end the fault by itself.
	faultSlack = 2 * time.Second
)

var faultKinds = []member.FaultKind{member.FaultRefuse, member.FaultBlackHole, member.FaultSlow, member.FaultWrongLMK}

// withDefaults fills zero fields.
func (r Request) withDefaults() Request {
	fill(&r.Before, 5*time.Second)
	fill(&r.During, 15*time.Second)
	fill(&r.After, 5*time.Second)
	fill(&r.Limits.Detection, 2*time.Second)
	fill(&r.Limits.Switch, 3*time.Second)
	fill(&r.Limits.LatencyFloor, 20*time.Millisecond)
	fill(&r.Limits.Recovery, 30*time.Second)
	if r.Kind == member.FaultSlow {
		fill(&r.Delay, 200*time.Millisecond)
	}
	if r.Limits.LatencyFactor == 0 {
		r.Limits.LatencyFactor = 3
	}
	if r.Load == "" {
		r.Load = LoadAuto
	}
	if r.Rate == 0 {
		r.Rate = 20
	}
	if r.AbortAfter == 0 {
		r.AbortAfter = 20
	}
	return r
}

func fill(d *member.Duration, value time.Duration) {
	if *d == 0 {
		*d = member.Duration(value)
	}
}

// check refuses what makes no sense. The defaults are filled already.
func (r Request) check() error {
	const next = "correct the value and start again"
	if !slices.Contains(faultKinds, r.Kind) {
		return member.Refuse(member.Invalid, "use refuse, black_hole, slow or wrong_lmk", "kind %q is no way to take a member out", r.Kind)
	}
	if !slices.Contains([]LoadMode{LoadAuto, LoadOn, LoadOff}, r.Load) {
		return member.Refuse(member.Invalid, "use auto, on or off", "load %q is not known", r.Load)
	}
	if r.Kind != member.FaultSlow && r.Delay != 0 {
		return member.Refuse(member.Invalid, "leave it out, or use the kind slow", "a delay belongs to the kind slow only")
	}
	for _, d := range []struct {
		name     string
		value    member.Duration
		min, max time.Duration
	}{
		{"before", r.Before, time.Second, maxMeasure}, {"during", r.During, time.Second, maxFault}, {"after", r.After, time.Second, maxMeasure},
		{"delay", r.Delay, 0, maxDelay}, {"limits.detection", r.Limits.Detection, time.Millisecond, maxFault},
		{"limits.switch", r.Limits.Switch, time.Millisecond, maxFault}, {"limits.recovery", r.Limits.Recovery, time.Millisecond, maxRecovery},
		{"limits.latency_floor", r.Limits.LatencyFloor, 0, maxDelay},
	} {
		if d.value.Std() < d.min || d.value.Std() > d.max {
			return member.Refuse(member.Invalid, next, "%s is %s, but must be %s to %s", d.name, d.value.Std(), d.min, d.max)
		}
	}
	if lease := r.Lease.Std(); lease != 0 && (lease < minLease || lease > maxLease) {
		return member.Refuse(member.Invalid, next, "lease is %s, but must be 0 or %s to %s", lease, minLease, maxLease)
	}
	for _, n := range []struct {
		name            string
		value, min, max float64
	}{
		{"rate", float64(r.Rate), 1, maxRate}, {"abort_after", float64(r.AbortAfter), 1, maxAbort},
		{"limits.failed", float64(r.Limits.Failed), 0, maxAbort}, {"limits.latency_factor", r.Limits.LatencyFactor, 1, 1000},
	} {
		if !(n.value >= n.min && n.value <= n.max) { // also refuses NaN
			return member.Refuse(member.Invalid, next, "%s is %s, but must be %s to %s", n.name, plain(n.value), plain(n.min), plain(n.max))
		}
	}
	return nil
}

func plain(v float64) string { return fmt.Sprintf("%.6g", v) }

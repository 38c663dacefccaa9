package bench

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/keyward/keyward/hsmclient/member"
	"github.com/keyward/keyward/sim/hsm"
)

const (
	// resetTrials and holeTrials are how often a member is taken out. Of resets the median counts, because the longest wait of a thousand
	// requests is the machine's as often as not; of silence the longest.
	resetTrials = 5
	holeTrials  = 5
	// failoverLead is the time under load before a member is taken out, and calm is the time after it in which every request is watched.
	failoverLead = 300 * time.Millisecond
	calm         = 500 * time.Millisecond
	// resetLimit and holeLimit are what the failover is held against: a break that no terminal notices, and one interval and one time-out of
	// the heartbeat.
	resetLimit = 50 * time.Millisecond
	holeLimit  = 1700 * time.Millisecond
	// The members work as slowly as real ones, so that each has requests under way when it is taken out, at the rate of two licences
	// (facts/hsm.md §7).
	failoverLatencyMS = 2
	failoverRate      = 2 * limitedRate
	failoverCallers   = 64
)

// trial is what taking a member out under load showed.
type trial struct {
	longest time.Duration // wait of any request that ended after the fault
	before  time.Duration // the same before the fault
	out     time.Duration // until the member was no longer healthy
}

// measureFailover takes one of two members out under load. No request may fail.
func (r *hsmRig) measureFailover(ctx context.Context, say func(string, ...any)) ([]Line, error) {
	say("One of two HSMs is killed with a reset under %d requests per second, %d times ...", failoverRate, resetTrials)
	var before, reset []float64
	for range resetTrials {
		t, err := r.takeOut(ctx, 0, hsm.Faults{Refuse: true, Reset: true})
		if err != nil {
			return nil, err
		}
		before, reset = append(before, milliseconds(t.before)), append(reset, milliseconds(t.longest))
	}
	say("... the longest wait of any request: %.0f ms before, %.0f ms after. One of two HSMs turns silent, %d times ...", median(before), median(reset), holeTrials)
	var hole float64
	for i := range holeTrials {
		// At another point of the heartbeat's interval each time.
		t, err := r.takeOut(ctx, time.Duration(i)*time.Second/holeTrials, hsm.Faults{BlackHole: true})
		if err != nil {
			return nil, err
		}
		hole = max(hole, milliseconds(t.out))
	}
	against := func(name string, value float64, limit time.Duration) Line {
		return Line{Name: name, Unit: "ms", Value: round(value), Baseline: milliseconds(limit), Ratio: round(value / milliseconds(limit)), Against: againstLimit}
	}
	return []Line{against("hsm_failover_reset_ms", median(reset), resetLimit), against("hsm_failover_blackhole_ms", hole, holeLimit)}, nil
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// takeOut runs load on a new group of two, takes the first member out, and watches until the group is calm.
func (r *hsmRig) takeOut(ctx context.Context, later time.Duration, faults hsm.Faults) (t trial, err error) {
	gone := make(chan time.Time, 1)
	as := group{journal: true, faults: hsm.Faults{LatencyMS: failoverLatencyMS}, onSwitch: func(s member.Switch) {
		if s.Phase == member.After && s.What == "state" && s.Member == memberName(0) && member.State(s.To) != member.Working {
			select {
			case gone <- s.At:
			default: // only the first counts
			}
		}
	}}
	g, err := r.start(ctx, as, 2)
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, g.stop()) }()
	select {
	case <-gone: // what the start made of it
	default:
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var faultAt atomic.Int64 // UnixNano; 0: not yet
	var before, after longest
	loadEnded := make(chan error, 1)
	watched := func(ctx context.Context) error {
		began := time.Now()
		err := g.ask(context.WithoutCancel(ctx))
		took := time.Since(began)
		if at := faultAt.Load(); at == 0 {
			before.add(took)
		} else {
			after.add(took)
		}
		return err
	}
	go func() {
		p := pace{callers: failoverCallers, rate: failoverRate, length: time.Minute}
		r, _ := p.run(ctx, watched)
		loadEnded <- r.Failed
	}()
	if err := rest(ctx, failoverLead+later); err != nil {
		return t, err
	}
	began := time.Now()
	faultAt.Store(began.UnixNano())
	if err := g.devices[0].SetFaults(faults); err != nil {
		return t, err
	}
	bound := time.NewTimer(stopTime)
	defer bound.Stop()
	select {
	case at := <-gone:
		t.out = at.Sub(began)
	case err := <-loadEnded:
		return t, fmt.Errorf("a request failed when a member was taken out: %w", err)
	case <-bound.C:
		return t, fmt.Errorf("the member was still in %s after its fault", stopTime)
	}
	if err := rest(ctx, calm); err != nil {
		return t, err
	}
	cancel()
	if err := <-loadEnded; err != nil {
		return t, fmt.Errorf("a request failed when a member was taken out: %w", err)
	}
	t.before, t.longest = before.get(), after.get()
	return t, nil
}

// rest waits.
func rest(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// longest keeps the longest of many times.
type longest struct{ d atomic.Int64 }

func (l *longest) add(d time.Duration) {
	for {
		old := l.d.Load()
		if int64(d) <= old || l.d.CompareAndSwap(old, int64(d)) {
			return
		}
	}
}

func (l *longest) get() time.Duration { return time.Duration(l.d.Load()) }

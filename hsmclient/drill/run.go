package drill

import (
	"context"
	"sync"
	"time"

	"github.com/keyward/keyward/hsmclient/member"
)

const (
	// lookEvery is how often a running drill looks at the cluster. Times in the report come from the cluster's history, not from looking.
	lookEvery = 25 * time.Millisecond
	// restoreTimeout bounds the change of state that puts the member back into its place.
	restoreTimeout = 10 * time.Second
)

// run is one drill.
type run struct {
	r      *Runner
	id     string
	target string // name of the member
	act    member.Act
	meter  *meter
	former member.State // of the member, to be restored
	cancel context.CancelFunc
	early  chan string // the reason to end early; has room for one
	done   chan struct{}
	// cleared is closed when the fault has ended, or can not begin any more.
	cleared chan struct{}

	// Of the goroutine of play only:
	lastSeq               uint64 // of the history as seen
	injectedAt, clearedAt time.Time
	harm, stopped         bool // it had to be ended because it did harm; the service stopped
	entries               [phases]time.Time
	reached               member.State // the worst state that the member had
	loadErr               func() error

	mu       sync.Mutex // guards what follows, for those who watch
	report   Report
	phase    int
	entered  time.Time
	attended time.Time
	state    member.State
	finished bool
}

func newRun(r *Runner, act member.Act, req Request, target member.Status, all []member.Status, id string, now time.Time) *run {
	engine := r.cfg.Cluster.Engine()
	d := &run{
		r: r, id: id, target: target.Spec.Name, act: act, former: target.State, state: target.State, entered: now, attended: now,
		early: make(chan string, 1), done: make(chan struct{}), cleared: make(chan struct{}),
		meter: newMeter(target.Spec.Domain, target.Spec.Name, now, planned(req)+recoveryWait(req)),
		report: Report{
			ID: id, Cluster: engine.Name, Instance: engine.Instance, Domain: target.Spec.Domain, Request: req, By: act.By, Reason: act.Reason,
			Forced: act.Force, Started: now, Verdict: Running, Members: []Seen{seen(target)},
			Checks: []Check{}, Phases: []Phase{}, Events: []Event{}, Points: []Point{}, // lists in JSON, not null
		},
	}
	perSecond := target.Load.PerSecond
	for _, s := range sameDomain(target, all) {
		d.report.Members = append(d.report.Members, seen(s))
		perSecond += s.Load.PerSecond
	}
	d.report.OwnLoad = r.cfg.Ask != nil && (req.Load == LoadOn || req.Load == LoadAuto && perSecond < float64(req.Rate))
	return d
}

func seen(s member.Status) Seen {
	return Seen{
		Name: s.Spec.Name, State: s.State, Priority: s.Spec.Priority, Rated: s.Spec.Rated, PerSecond: s.Load.PerSecond,
		Firmware: s.Device.Firmware, Serial: s.Device.Serial,
	}
}

// recoveryWait is how long a drill waits for the member: longer than the limit, so that a late return is measured, too.
func recoveryWait(req Request) time.Duration { return 2 * req.Limits.Recovery.Std() }

// play is the drill in its steps.
func (d *run) play(ctx context.Context) {
	defer close(d.done)
	defer d.cancel()
	req := d.report.Request
	// 1. Watch what happens from now on.
	if h := d.r.cfg.Cluster.History(1); len(h) > 0 {
		d.lastSeq = h[0].Seq
	}
	unwatch := d.r.cfg.Cluster.Observe(d.meter.record)
	endLoad := d.startLoad(ctx)
	d.step("begin", "")
	// 2. Measure without the fault.
	d.enter(phaseBefore)
	cause := d.measure(ctx, req.Before.Std())
	if cause == "" {
		cause = d.unfit()
	}
	// 3. The fault, measured until its time is over or something speaks against going on.
	if cause == "" {
		if err := d.inject(); err != nil {
			cause = err.Error()
		} else {
			cause = d.measure(ctx, req.During.Std())
			d.clear(cause)
		}
	}
	d.open()
	// 4. Wait until the member is back, put it into its former place, and measure again.
	if !d.injectedAt.IsZero() {
		d.enter(phaseReturn)
		if back := d.awaitReturn(ctx, recoveryWait(req)); back && d.restore(ctx) && cause == "" {
			d.enter(phaseAfter)
			cause = d.measure(ctx, req.After.Std())
		}
	}
	// 5. Judge and keep the report.
	endLoad()
	unwatch()
	d.stopped = ctx.Err() != nil
	d.finish(cause)
}

// enter begins a phase.
func (d *run) enter(phase int) { d.enterAt(phase, time.Now()) }

func (d *run) enterAt(phase int, now time.Time) {
	d.entries[phase] = now
	d.meter.enter(phase, now)
	d.mu.Lock()
	d.phase, d.entered = phase, now
	d.mu.Unlock()
}

// measure waits and looks. It returns why the drill must end before its time, or "".
func (d *run) measure(ctx context.Context, length time.Duration) (cause string) {
	end, tick := time.NewTimer(length), time.NewTicker(lookEvery)
	defer end.Stop()
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return causeService
		case cause := <-d.early:
			return cause
		case <-end.C:
			_, _ = d.look() // an error is the member's absence, which the verdict tells
			return ""
		case <-tick.C:
			_, _ = d.look()
			if cause := d.against(); cause != "" {
				return cause
			}
		}
	}
}

// inject begins the fault. The cluster ends it by itself somewhat later than planned, should this process hang.
func (d *run) inject() error {
	req := d.report.Request
	now := time.Now()
	d.injectedAt = now
	d.meter.enter(phaseDuring, now) // before the fault, so that its first victim counts
	err := d.r.cfg.Cluster.Inject(d.order(), req.Member, member.Fault{Kind: req.Kind, Delay: req.Delay, Until: now.Add(req.During.Std() + faultSlack)})
	if err != nil {
		d.injectedAt = time.Time{}
		d.meter.enter(phaseBefore, now)
		return err
	}
	d.enterAt(phaseDuring, now)
	d.stepAt(now, "fault", string(req.Kind))
	return nil
}

// clear ends the fault.
func (d *run) clear(cause string) {
	d.clearedAt = time.Now()
	if err := d.r.cfg.Cluster.Clear(d.order(), d.target); err != nil && !member.IsRefusal(err, member.Conflict) { // a conflict: it has ended already
		d.r.cfg.Log.Error("HSM drill: the fault could not be cleared, it ends by itself", "drill", d.id, "cause", err)
	}
	d.step("clear", cause)
}

// open tells Stop that the fault is no more.
func (d *run) open() { close(d.cleared) }

package drill

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/keyward/keyward/hsmclient/member"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is a cluster whose member is found suspect and taken out after fixed times, in the time of a synctest bubble.
type fake struct {
	suspectAfter, decideAfter, backAfter time.Duration // 0: never
	backAs                               member.State
	failing                              func(now time.Time) bool // nil: no request fails; called with mu held
	injectErr, setErr                    error

	mu        sync.Mutex
	members   []member.Status
	history   []member.Switch // newest first
	observers map[int]func(member.Outcome)
	fault     *member.Fault
	generation, served,
	asked int
	orders []member.Act
}

func newFake(members ...member.Status) *fake {
	return &fake{
		members: members, observers: map[int]func(member.Outcome){}, backAs: member.Standby,
		suspectAfter: 40 * time.Millisecond, decideAfter: 260 * time.Millisecond, backAfter: 703 * time.Millisecond,
	}
}

// hsm is a member with places for 96 requests.
func hsm(name string, state member.State) member.Status {
	return member.Status{
		Spec: member.Spec{Name: name, Domain: "live", Priority: 1, Rated: 1000}, State: state, Since: time.Now(),
		Device: member.Device{Firmware: "0007-E000", Serial: "S-" + name}, Load: member.Load{Places: 96},
	}
}

func (f *fake) Engine() member.Engine { return member.Engine{Name: "online", Instance: "posp-1"} }

func (f *fake) Members() []member.Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]member.Status(nil), f.members...)
}

func (f *fake) Member(name string) (member.Status, error) {
	for _, s := range f.Members() {
		if s.Spec.Name == name {
			return s, nil
		}
	}
	return member.Status{}, member.Refuse(member.NotFound, "list the members", "there is no member %q", name)
}

func (f *fake) History(limit int) []member.Switch {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]member.Switch(nil), f.history[:min(limit, len(f.history))]...)
}

// become is a switch with its announcement. The caller holds mu.
func (f *fake) become(name string, to member.State, by, reason string) {
	for i := range f.members {
		m := &f.members[i]
		if m.Spec.Name != name {
			continue
		}
		for _, phase := range []member.Phase{member.Before, member.After} {
			f.history = append([]member.Switch{{
				Seq: uint64(len(f.history) + 1), At: time.Now(), Phase: phase, Domain: "live", Member: name, What: "state", From: string(m.State), To: string(to),
				By: by, Reason: reason,
			}}, f.history...)
		}
		m.State, m.Since = to, time.Now()
	}
}

func (f *fake) Inject(act member.Act, name string, fault member.Fault) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.injectErr != nil {
		return f.injectErr
	}
	f.orders = append(f.orders, act)
	f.generation++
	generation := f.generation
	f.fault = &fault
	f.setFault(name, &fault)
	later := func(after time.Duration, to member.State, reason string) {
		if after == 0 {
			return
		}
		go func() {
			time.Sleep(after) // in the bubble
			f.mu.Lock()
			defer f.mu.Unlock()
			if f.generation == generation {
				f.become(name, to, "cluster", reason)
			}
		}()
	}
	if fault.Kind == member.FaultWrongLMK {
		later(f.decideAfter, member.Fenced, "LMK check value <0000000000000000>")
		return nil
	}
	later(f.suspectAfter, member.Suspect, "heartbeat: no answer")
	later(f.decideAfter, member.Down, "dial: connection refused")
	return nil
}

func (f *fake) setFault(name string, fault *member.Fault) {
	for i := range f.members {
		if f.members[i].Spec.Name == name {
			f.members[i].Fault = fault
		}
	}
}

func (f *fake) Clear(act member.Act, name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.orders = append(f.orders, act)
	f.generation++
	f.fault = nil
	f.setFault(name, nil)
	for _, s := range f.members {
		if s.Spec.Name != name || healthy(s.State) || f.backAfter == 0 {
			continue
		}
		go func() {
			time.Sleep(f.backAfter) // in the bubble
			f.mu.Lock()
			defer f.mu.Unlock()
			f.become(name, f.backAs, "cluster", "passed 3 probes")
		}()
	}
	return nil
}

func (f *fake) SetState(_ context.Context, act member.Act, name string, to member.State) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.setErr != nil {
		return f.setErr
	}
	f.become(name, to, act.By, act.Reason)
	return nil
}

func (f *fake) Observe(fn func(member.Outcome)) (stop func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := len(f.observers)
	f.observers[n] = fn
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.observers, n)
	}
}

// request ends one request: members take turns; one that has fallen to a silent member is repeated elsewhere.
func (f *fake) request(drill bool) error {
	f.mu.Lock()
	f.served++
	now := time.Now()
	var able []member.Status
	for _, s := range f.members {
		if s.State == member.Working {
			able = append(able, s)
		}
	}
	o := member.Outcome{Ended: now, Domain: "live", Result: "ok", Drill: drill, Took: time.Duration(400+f.served%7*30) * time.Microsecond}
	switch {
	case len(able) == 0 || f.failing != nil && f.failing(now):
		o.Result = "unavailable"
	default:
		m := able[f.served%len(able)]
		o.First, o.Last = m.Spec.Name, m.Spec.Name
		if f.fault != nil && m.Fault != nil && f.fault.Kind != member.FaultWrongLMK {
			o.Repeated, o.Last, o.Took = true, "other", 35*time.Millisecond
			if f.fault.Kind == member.FaultSlow {
				o.Repeated, o.Last, o.Took = false, o.First, 15*time.Millisecond
			}
		}
	}
	watching := make([]func(member.Outcome), 0, len(f.observers))
	for _, fn := range f.observers {
		watching = append(watching, fn)
	}
	if drill {
		f.asked++
	}
	f.mu.Unlock()
	for _, fn := range watching {
		fn(o)
	}
	if o.Result != "ok" {
		return errors.New("no member")
	}
	return nil
}

// ask is the own load.
func (f *fake) ask(ctx context.Context, domain string) error {
	if !member.IsForDrill(ctx) || domain != "live" {
		return fmt.Errorf("own load is not marked, or in domain %q", domain)
	}
	return f.request(true)
}

// run makes traffic of perSecond until the returned function is called.
func (f *fake) run(perSecond int) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		time.Sleep(1700 * time.Microsecond) // in the bubble: nothing else happens at the same instant
		tick := time.NewTicker(time.Second / time.Duration(perSecond))
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				_ = f.request(false) // the drill counts
			}
		}
	})
	return func() { cancel(); running.Wait() }
}

// bubble runs a test in its own time.
func bubble(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, test)
}

func newRunner(t *testing.T, f *fake, dir string) *Runner {
	t.Helper()
	r, err := New(Config{Cluster: f, Ask: f.ask, Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	r.newID = func(now time.Time) string { return now.UTC().Format("20060102-150405-") + "0001" }
	t.Cleanup(func() {
		if err := r.Close(context.Background()); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Hour) // in the bubble: what the fake has begun ends
	})
	return r
}

// faulty says whether the fault is in place, state where the first member is.
func (f *fake) faulty() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.fault != nil
}

func (f *fake) state() member.State { return f.Members()[0].State }

// over waits for the end of a drill and gives its report.
func over(t *testing.T, r *Runner, id string) Report {
	t.Helper()
	for range 100_000 {
		p, err := r.Progress(id)
		if err != nil {
			t.Fatal(err)
		}
		if p.Phase == PhaseOver {
			synctest.Wait()
			rep, err := r.Report(id)
			if err != nil {
				t.Fatal(err)
			}
			return rep
		}
		time.Sleep(100 * time.Millisecond) // in the bubble
	}
	t.Fatal("the drill does not end")
	return Report{}
}

package drill

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyward/keyward/hsmclient/member"
)

var operator = member.Act{By: "li.wei"}

func start(t *testing.T, r *Runner, act member.Act, req Request) Progress {
	t.Helper()
	p, err := r.Start(act, req)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// check gives the named check of a report.
func check(t *testing.T, rep Report, name string) Check {
	t.Helper()
	i := slices.IndexFunc(rep.Checks, func(c Check) bool { return c.Name == name })
	if i < 0 {
		t.Fatalf("no check %q in %+v", name, rep.Checks)
	}
	return rep.Checks[i]
}

func TestDrillPasses(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(hsm("a", member.Working), hsm("b", member.Working))
		f.members[0].Load.PerSecond, f.members[1].Load.PerSecond = 100, 100
		defer f.run(200)()
		r := newRunner(t, f, "")
		p := start(t, r, operator, Request{Member: "a", Kind: member.FaultRefuse})
		if p.Phase != "before" || p.Verdict != Running {
			t.Errorf("begins as %+v", p)
		}
		time.Sleep(10 * time.Second)
		p, err := r.Progress(p.ID)
		if err != nil || p.Phase != "during" || p.State != member.Down || p.Part < 0.35 || p.Part > 0.45 || p.Times.DetectionMS == nil {
			t.Errorf("after 10 s: %+v, %v", p, err)
		}
		rep := over(t, r, p.ID)
		if rep.Verdict != Passed {
			t.Fatalf("verdict %s: %s %+v", rep.Verdict, rep.Cause, rep.Checks)
		}
		for name, got := range map[string]*float64{"detection": rep.Times.DetectionMS, "decided": rep.Times.DecidedMS, "recovery": rep.Times.RecoveryMS} {
			want := map[string]float64{"detection": 40, "decided": 260, "recovery": 703}[name]
			if got == nil || *got != want {
				t.Errorf("%s: %v, want %v", name, got, want)
			}
		}
		if got := *rep.Times.SwitchMS; got <= 0 || got > 40 {
			t.Errorf("switch after %v ms; the last repeat was before the member became suspect", got)
		}
		if *rep.Times.RestoredMS < 700 || f.state() != member.Working {
			t.Errorf("not restored: %v, %s", *rep.Times.RestoredMS, f.state())
		}
		during := rep.Phases[phaseDuring]
		if during.Traffic.Retried == 0 || during.Traffic.Failed != 0 || during.Own.all() != 0 || rep.OwnLoad {
			t.Errorf("during: %+v", during)
		}
		if n := during.Traffic.all(); n < 2990 || n > 3010 {
			t.Errorf("%d requests in 15 s at 200 a second", n)
		}
		for _, act := range f.orders {
			if act.By != "li.wei" || !strings.HasPrefix(act.Reason, "drill 2000") {
				t.Errorf("ordered in the name of %+v", act)
			}
		}
	})
}

func TestOwnLoad(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(hsm("a", member.Working), hsm("b", member.Working))
		r := newRunner(t, f, "")
		rep := over(t, r, start(t, r, operator, Request{Member: "a", Kind: member.FaultBlackHole, Rate: 50}).ID)
		if rep.Verdict != Passed || !rep.OwnLoad || rep.JudgedBy != "own" {
			t.Errorf("%s, own load %v, judged by %s: %+v", rep.Verdict, rep.OwnLoad, rep.JudgedBy, rep.Checks)
		}
		if n := rep.Phases[phaseDuring].Own.all(); n < 700 || n > 800 || rep.Phases[phaseDuring].Traffic.all() != 0 {
			t.Errorf("%+v", rep.Phases[phaseDuring])
		}
		asked := f.asked
		time.Sleep(time.Minute)
		if f.asked != asked || len(f.observers) != 0 {
			t.Error("the drill goes on after its end")
		}
	})
}

func TestVerdicts(t *testing.T) {
	for name, s := range map[string]struct {
		change  func(*fake)
		req     Request
		verdict Result
		failed  string // the check that must have failed
	}{
		"late detection": {func(f *fake) { f.suspectAfter, f.decideAfter = 3*time.Second, 4*time.Second }, Request{}, Failed, "detection"},
		"no detection":   {func(f *fake) { f.suspectAfter, f.decideAfter = 0, 0 }, Request{}, Failed, "detection"},
		"only suspect":   {func(f *fake) { f.decideAfter = 0 }, Request{}, Failed, "taken_out"},
		"never back":     {func(f *fake) { f.backAfter = 0 }, Request{}, Failed, "recovery"},
		"late back":      {func(f *fake) { f.backAfter = 31 * time.Second }, Request{}, Failed, "recovery"},
		"not restored":   {func(f *fake) { f.setErr = errors.New("refused") }, Request{}, Failed, "restored"},
		"fenced":         {nil, Request{Kind: member.FaultWrongLMK}, Passed, ""},
		"slow, working":  {func(f *fake) { f.suspectAfter, f.decideAfter = 0, 0 }, Request{Kind: member.FaultSlow}, Passed, ""},
		"too slow":       {func(f *fake) { f.suspectAfter, f.decideAfter = 0, 0 }, Request{Kind: member.FaultSlow, Limits: Limits{LatencyFloor: member.Duration(time.Millisecond)}}, Failed, "latency"},
		"tight switch":   {nil, Request{Limits: Limits{Switch: member.Duration(5 * time.Millisecond)}}, Failed, "switch"},
		"one fails": {func(f *fake) {
			began := time.Now()
			f.failing = func(now time.Time) bool {
				d := now.Sub(began)
				return d > 5010*time.Millisecond && d <= 5030*time.Millisecond
			}
		}, Request{}, Failed, "failed"},
		"one may fail": {func(f *fake) {
			began := time.Now()
			f.failing = func(now time.Time) bool {
				d := now.Sub(began)
				return d > 5010*time.Millisecond && d <= 5030*time.Millisecond
			}
		}, Request{Limits: Limits{Failed: 5}}, Passed, ""},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				f := newFake(hsm("a", member.Working), hsm("b", member.Working))
				if s.change != nil {
					s.change(f)
				}
				defer f.run(100)()
				r := newRunner(t, f, "")
				req := s.req
				req.Member = "a"
				if req.Kind == "" {
					req.Kind = member.FaultRefuse
				}
				rep := over(t, r, start(t, r, operator, req).ID)
				if rep.Verdict != s.verdict {
					t.Errorf("verdict %s: %+v", rep.Verdict, rep.Checks)
				}
				if s.failed != "" && check(t, rep, s.failed).Result != Failed {
					t.Errorf("%+v", check(t, rep, s.failed))
				}
			})
		})
	}
}

// The ways in which a drill ends early: the member is put back at once in each.
func TestEarlyEnds(t *testing.T) {
	const at = 7 * time.Second // two seconds into the fault
	for name, s := range map[string]struct {
		req     Request
		happens func(t *testing.T, f *fake, r *Runner, id string)
		within  time.Duration // until the fault has ended
		verdict Result
		cause   string
	}{
		"stopped": {Request{}, func(t *testing.T, f *fake, r *Runner, id string) {
			if _, err := r.Stop(member.Act{By: "chen", Reason: "enough"}, id); err != nil {
				t.Error(err)
			}
			if f.faulty() {
				t.Error("Stop returned before the fault had ended")
			}
		}, 0, Incomplete, "stopped by chen: enough"},
		"connection gone": {Request{Lease: member.Duration(3 * time.Second)}, func(*testing.T, *fake, *Runner, string) {}, 4 * time.Second, Incomplete, "operator's connection"},
		"requests fail": {Request{AbortAfter: 5}, func(_ *testing.T, f *fake, _ *Runner, _ string) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.failing = func(time.Time) bool { return f.fault != nil }
		}, time.Second, Failed, "requests of the running system have failed"},
		"another member fails": {Request{}, func(_ *testing.T, f *fake, _ *Runner, _ string) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.become("b", member.Suspect, "cluster", "really")
		}, 100 * time.Millisecond, Failed, "no other member"},
		"service stops": {Request{}, func(t *testing.T, _ *fake, r *Runner, _ string) {
			if err := r.Close(t.Context()); err != nil {
				t.Error(err)
			}
		}, 0, Incomplete, "the service stopped"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				f := newFake(hsm("a", member.Working), hsm("b", member.Working))
				defer f.run(100)()
				r := newRunner(t, f, "")
				s.req.Member, s.req.Kind = "a", member.FaultBlackHole
				id := start(t, r, operator, s.req).ID
				for range int(at / time.Second) {
					time.Sleep(time.Second)
					if _, err := r.Progress(id); err != nil { // an operator looks on
						t.Fatal(err)
					}
				}
				if !f.faulty() {
					t.Fatal("the fault is not in place")
				}
				s.happens(t, f, r, id)
				time.Sleep(s.within)
				if f.faulty() {
					t.Error("the fault is still in place")
				}
				rep := over(t, r, id)
				if rep.Verdict != s.verdict || !strings.Contains(rep.Cause, s.cause) {
					t.Errorf("%s: %s; want %s: %s", rep.Verdict, rep.Cause, s.verdict, s.cause)
				}
				if s.verdict == Incomplete && name != "service stops" && f.state() != member.Working {
					t.Errorf("the member is %s", f.state())
				}
				again, err := r.Stop(operator, id)
				if err != nil || again.Verdict != s.verdict {
					t.Errorf("stopped after its end: %+v, %v", again, err)
				}
			})
		})
	}
}

// A drill that does not find a sound system takes nothing out.
func TestNothingIsTakenOut(t *testing.T) {
	for name, change := range map[string]func(*fake){
		"requests fail before": func(f *fake) { f.failing = func(time.Time) bool { return true } },
		"inject is refused":    func(f *fake) { f.injectErr = member.Refuse(member.Unsafe, "n", "no") },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				f := newFake(hsm("a", member.Working), hsm("b", member.Working))
				change(f)
				defer f.run(100)()
				r := newRunner(t, f, "")
				rep := over(t, r, start(t, r, operator, Request{Member: "a", Kind: member.FaultRefuse}).ID)
				if rep.Verdict != Incomplete || rep.Cause == "" || len(f.orders) != 0 || len(rep.Phases) != 1 {
					t.Errorf("%s: %s, %d orders, %d phases", rep.Verdict, rep.Cause, len(f.orders), len(rep.Phases))
				}
			})
		})
	}
}

func TestRefusals(t *testing.T) {
	bubble(t, func(t *testing.T) {
		busy := hsm("a", member.Working)
		busy.Load.PerSecond = 950
		faulty := hsm("d", member.Working)
		faulty.Fault = &member.Fault{Kind: member.FaultSlow}
		places := hsm("p", member.Working)
		places.Spec.Domain, places.Spec.Rated, places.Load.InFlight = "places", 0, 90
		other := hsm("q", member.Working)
		other.Spec.Domain, other.Spec.Rated = "places", 0
		alone := hsm("e", member.Working)
		alone.Spec.Domain = "alone"
		spare := hsm("f", member.Standby)
		spare.Spec.Domain = "alone"
		f := newFake(busy, hsm("b", member.Working), hsm("c", member.Down), faulty, alone, spare, places, other)
		f.members[3].Spec.Domain = "faulty"
		r := newRunner(t, f, "")
		good := Request{Member: "b", Kind: member.FaultRefuse}
		for name, s := range map[string]struct {
			change func(*Request)
			kind   member.RefusalKind
			text   string
		}{
			"unknown":      {func(q *Request) { q.Member = "x" }, member.NotFound, "no member"},
			"kind":         {func(q *Request) { q.Kind = "burn" }, member.Invalid, "burn"},
			"load":         {func(q *Request) { q.Load = "much" }, member.Invalid, "much"},
			"delay":        {func(q *Request) { q.Delay = 1 }, member.Invalid, "delay"},
			"too long":     {func(q *Request) { q.During = member.Duration(time.Hour) }, member.Invalid, "during"},
			"negative":     {func(q *Request) { q.Before = -1 }, member.Invalid, "before"},
			"rate":         {func(q *Request) { q.Rate = 2000 }, member.Invalid, "rate"},
			"lease":        {func(q *Request) { q.Lease = 1 }, member.Invalid, "lease"},
			"factor":       {func(q *Request) { q.Limits.LatencyFactor = 0.5 }, member.Invalid, "latency_factor"},
			"down already": {func(q *Request) { q.Member = "c" }, member.Conflict, "down"},
			"faulty":       {func(q *Request) { q.Member = "d" }, member.Conflict, "already"},
			"last working": {func(q *Request) { q.Member = "e" }, member.Unsafe, "last working member of domain alone: add or mend another member, or force the drill; f would be engaged"},
			"too busy":     {func(*Request) {}, member.Unsafe, "could not carry the present load: 950 of 1000 commands per second"},
			"no places":    {func(q *Request) { q.Member = "p" }, member.Unsafe, "90 of 96 places"},
		} {
			req := good
			s.change(&req)
			if name == "too busy" {
				req.Member = "a"
			}
			_, err := r.Start(operator, req)
			if !member.IsRefusal(err, s.kind) || !strings.Contains(err.Error(), s.text) {
				t.Errorf("%s: %v", name, err)
			}
		}
		forced := operator
		forced.Force = true
		p := start(t, r, forced, Request{Member: "e", Kind: member.FaultRefuse})
		if _, err := r.Start(operator, good); !member.IsRefusal(err, member.Conflict) {
			t.Errorf("a second drill: %v", err)
		}
		if _, err := r.Report(p.ID); !member.IsRefusal(err, member.Conflict) {
			t.Errorf("the report of a running drill: %v", err)
		}
		if rep := over(t, r, p.ID); !rep.Forced {
			t.Error("the report does not say that it was forced")
		}
		if _, err := r.Progress("../../etc/passwd"); !member.IsRefusal(err, member.NotFound) {
			t.Errorf("a strange id: %v", err)
		}
		if err := r.Close(context.Background()); err != nil {
			t.Error(err)
		}
		if _, err := r.Start(operator, good); !member.IsRefusal(err, member.Conflict) {
			t.Errorf("after Close: %v", err)
		}
	})
}

// Reports outlive the process, the oldest go, and one of a drill that the process did not survive says so.
func TestReportsAreKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "drills")
	bubble(t, func(t *testing.T) {
		f := newFake(hsm("a", member.Working), hsm("b", member.Working))
		r, err := New(Config{Cluster: f, Ask: f.ask, Dir: dir, Keep: 3})
		if err != nil {
			t.Fatal(err)
		}
		var ids []string
		for range 4 {
			id := start(t, r, operator, Request{Member: "a", Kind: member.FaultRefuse}).ID
			ids = append(ids, id)
			over(t, r, id)
		}
		last := start(t, r, operator, Request{Member: "b", Kind: member.FaultRefuse}).ID
		if list := r.List(); len(list) != 3 || list[0].ID != last || list[0].Phase != "before" || list[1].ID != ids[3] {
			t.Errorf("the list is %+v", list)
		}
		crashed, err := os.ReadFile(filepath.Join(dir, last+".json"))
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		defer time.Sleep(time.Hour) // in the bubble: what the fake has begun ends
		if err := os.WriteFile(filepath.Join(dir, last+".json"), crashed, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "20000101-000000-ffff.json"), []byte("{broken"), 0o600); err != nil {
			t.Fatal(err)
		}
		again, err := New(Config{Cluster: f, Dir: dir, Keep: 3})
		if err != nil {
			t.Fatal(err)
		}
		list := again.List()
		if len(list) != 3 || list[0].ID != last || list[0].Verdict != Incomplete || !strings.Contains(list[0].Cause, "the service ended") {
			t.Errorf("after the restart: %+v", list)
		}
		if rep, err := again.Report(ids[3]); err != nil || rep.Verdict != Passed || len(rep.Points) == 0 {
			t.Errorf("a kept report: %v, %v", rep.Verdict, err)
		}
		if _, err := again.Report(ids[0]); !member.IsRefusal(err, member.NotFound) {
			t.Errorf("a dropped report: %v", err)
		}
		if _, err := again.Start(operator, Request{Member: "a", Kind: member.FaultRefuse, Load: LoadOn}); !member.IsRefusal(err, member.Invalid) {
			t.Errorf("own load without a key: %v", err)
		}
	})
}

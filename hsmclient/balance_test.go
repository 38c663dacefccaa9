package hsmclient_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/keyward/keyward/hsmclient"
	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/member"
	"github.com/keyward/keyward/sim/hsm"
)

// held keeps requests under way until let go.
type held struct {
	c       *hsmclient.Cluster
	callers sync.WaitGroup
	devices []*fakeDevice
}

// hold makes the devices keep the answers of RD until release: the answer is not sent, so that the request waits for its time-out, or
// here for the reset of its connection, after which it is asked again and answered.
func hold(c *hsmclient.Cluster, devices ...*fakeDevice) *held {
	h := &held{c: c, devices: devices}
	for _, d := range devices {
		d.answer(func(code, _ string, _ int) string {
			if code == "RD" {
				return ""
			}
			return "00"
		})
	}
	return h
}

// ask sends n requests and waits until they are under way or waiting.
func (h *held) ask(t *testing.T, n int) {
	t.Helper()
	before := h.busy()
	for range n {
		h.callers.Go(func() { _, _ = h.c.Random(context.Background(), 1) })
	}
	eventually(t, "the requests are there", func() bool { return h.busy() == before+n })
}

func (h *held) busy() (n int) {
	e := h.c.Engine()
	for _, d := range e.Domains {
		n += d.InFlight + d.Waiting
	}
	return n
}

// release lets the requests end.
func (h *held) release(t *testing.T) {
	t.Helper()
	for _, d := range h.devices {
		d.answer(nil)
	}
	for _, d := range h.c.Engine().Domains {
		for _, kind := range []member.QueueKind{member.Requests, member.Responses} {
			if _, err := h.c.ClearQueue(member.Act{By: "test", Force: true}, d.Domain, kind); err != nil {
				t.Error(err)
			}
		}
	}
	h.callers.Wait()
}

// inFlight gives how many requests are under way on each member.
func inFlight(c *hsmclient.Cluster) map[string]int {
	found := map[string]int{}
	for _, s := range c.Members() {
		found[s.Spec.Name] = s.Load.InFlight
	}
	return found
}

// calm keeps heartbeats out of tests that hold answers.
var calm = hsmclient.Probing{Every: time.Hour}

func fakes(t *testing.T, cfg hsmclient.Config, change func(a, b *member.Spec)) (*hsmclient.Cluster, *fakeDevice, *fakeDevice) {
	t.Helper()
	a, b := newFakeDevice(t), newFakeDevice(t)
	sa, sb := fakeSpec("a", a), fakeSpec("b", b)
	sa.Depth, sb.Depth = 2, 2 // 4 places each
	change(&sa, &sb)
	cfg.Probing, cfg.Timeout = calm, patience
	return startFakes(t, cfg, sa, sb), a, b
}

// The member of the better priority gets all until it is full; then the other one gets the rest; only then callers wait.
func TestPriorityAndOverflow(t *testing.T) {
	t.Parallel()
	c, a, b := fakes(t, hsmclient.Config{}, func(_, b *member.Spec) { b.Priority = 2 })
	h := hold(c, a, b)
	for _, step := range []struct{ ask, a, b, waiting int }{{4, 4, 0, 0}, {3, 4, 3, 0}, {1, 4, 4, 0}, {2, 4, 4, 2}} {
		h.ask(t, step.ask)
		if got := inFlight(c); got["a"] != step.a || got["b"] != step.b || c.Engine().Domains[0].Waiting != step.waiting {
			t.Errorf("after %d more: %v, want %+v", step.ask, got, step)
		}
	}
	h.release(t)
}

// Within a priority the least busy by its weight is next.
func TestWeight(t *testing.T) {
	t.Parallel()
	c, a, b := fakes(t, hsmclient.Config{}, func(a, b *member.Spec) { a.Weight, a.Depth, b.Depth = 3, 16, 16 })
	h := hold(c, a, b)
	h.ask(t, 16)
	if got := inFlight(c); got["a"] != 12 || got["b"] != 4 {
		t.Errorf("%v, want 12 and 4", got)
	}
	if err := c.Modify(act, "b", member.Change{Weight: ptr(3)}); err != nil {
		t.Fatal(err)
	}
	h.ask(t, 8)
	if got := inFlight(c); got["a"] != 12 || got["b"] != 12 {
		t.Errorf("%v, want 12 and 12", got)
	}
	h.release(t)
}

// Of a device that is rated, no more requests wait inside it than it does in half of the heartbeat's time-out.
func TestRatedPlaces(t *testing.T) {
	t.Parallel()
	c, _, _ := fakes(t, hsmclient.Config{}, func(a, b *member.Spec) { a.Rated, a.Depth, b.Rated = 60, 16, 100000 })
	for name, want := range map[string]int{"a": 21, "b": 4} {
		if s, err := c.Member(name); err != nil || s.Load.Places != want {
			t.Errorf("%s: %d places, want %d (%v)", name, s.Load.Places, want, err)
		}
	}
}

// A standby member gets nothing while the working one is there, everything when it is gone, and steps back after the hold-down.
func TestStandby(t *testing.T) {
	t.Parallel()
	a, b := device(t, hsm.Config{}), device(t, hsm.Config{})
	sb := spec("b", b)
	sb.Role = member.Standby
	c := start(t, hsmclient.Config{Members: []member.Spec{spec("a", a), sb}, Probing: quick, Readmit: member.Working, HoldDown: 300 * time.Millisecond})
	waitStates(t, c, map[string]member.State{"a": member.Working, "b": member.Standby})
	for range 20 {
		if err := randoms(c); err != nil {
			t.Fatal(err)
		}
	}
	if n := count(b, "N0"); n > 0 {
		t.Fatalf("the standby member got %d commands", n)
	}
	setFaults(t, a, hsm.Faults{Refuse: true, Reset: true})
	for range 20 {
		if err := randoms(c); err != nil {
			t.Fatal(err)
		}
	}
	if !inOrder(c, " standby_engaged standby>engaged before", " standby_engaged standby>engaged after") {
		t.Errorf("the history: %q", switches(c))
	}
	setFaults(t, a, hsm.Faults{})
	waitStates(t, c, map[string]member.State{"a": member.Working})
	back := time.Now()
	if !c.Engine().Domains[0].StandbyEngaged {
		t.Error("it stepped back at once")
	}
	eventually(t, "it steps back", func() bool { return !c.Engine().Domains[0].StandbyEngaged })
	if took := time.Since(back); took < 200*time.Millisecond {
		t.Errorf("it stepped back after %s", took)
	}
	if s, err := c.Member("b"); err != nil || s.State != member.Standby {
		t.Errorf("%+v, %v", s, err)
	}
}

// Below a floor of two, one working member alone is helped.
func TestFloor(t *testing.T) {
	t.Parallel()
	a, b := newFakeDevice(t), newFakeDevice(t)
	sb := fakeSpec("b", b)
	sb.Role = member.Standby
	c := startFakes(t, hsmclient.Config{Domains: []hsmclient.Domain{{Name: domain, Floor: 2}}}, fakeSpec("a", a), sb)
	eventually(t, "standby is engaged", func() bool { return c.Engine().Domains[0].StandbyEngaged })
	for range 20 {
		if err := randoms(c); err != nil {
			t.Fatal(err)
		}
	}
	if a.count("RD8") == 0 || b.count("RD8") == 0 {
		t.Errorf("%d and %d", a.count("RD8"), b.count("RD8"))
	}
}

// When all places of the working member are taken, the standby member steps in for the next request, and back when it is calm.
func TestStandbyWhenSaturated(t *testing.T) {
	t.Parallel()
	c, a, b := fakes(t, hsmclient.Config{HoldDown: 200 * time.Millisecond}, func(_, b *member.Spec) { b.Role = member.Standby })
	h := hold(c, a, b)
	h.ask(t, 4)
	if c.Engine().Domains[0].StandbyEngaged {
		t.Error("engaged before it was needed")
	}
	h.ask(t, 2)
	if got := inFlight(c); got["a"] != 4 || got["b"] != 2 {
		t.Errorf("%v, want 4 and 2", got)
	}
	h.release(t)
	eventually(t, "it steps back", func() bool { return !c.Engine().Domains[0].StandbyEngaged })
}

// A request that a member could not do may go to a standby member, which may have the licence.
func TestLicenceOnStandby(t *testing.T) {
	t.Parallel()
	c, a, b := fakes(t, hsmclient.Config{}, func(_, b *member.Spec) { b.Role = member.Standby })
	a.answer(func(code, _ string, _ int) string {
		if code == "RD" {
			return "68"
		}
		return "00"
	})
	if err := randoms(c); err != nil || b.count("RD8") != 1 {
		t.Errorf("%v, b was asked %d times", err, b.count("RD8"))
	}
}

// Commands go to the domain of their keys; keys of two domains, an unknown domain and no key at all are refused; the translation
// between domains goes to the new one.
func TestDomains(t *testing.T) {
	t.Parallel()
	old, young := device(t, hsm.Config{}), device(t, hsm.Config{LMKSeed: "another"})
	sy := spec("young", young)
	sy.Domain = "new"
	c := start(t, hsmclient.Config{DefaultDomain: domain, Domains: []hsmclient.Domain{{Name: "new"}, {Name: domain}}, Members: []member.Spec{spec("old", old), sy}})
	waitStates(t, c, map[string]member.State{"old": member.Working, "young": member.Working})
	ko, ky := tdesKey(t, old), tdesKey(t, young)
	ky.Domain = "new"
	for _, key := range []struct {
		d *hsm.Device
		k *hsm.Device
	}{{old, young}, {young, old}} {
		k := ko
		if key.d == young {
			k = ky
		}
		before := count(key.k, "BU")
		if got, err := c.CheckValue(t.Context(), k); err != nil || !got.Matches("08D7B4FB629D0885") {
			t.Errorf("%s: %s, %v", k.Domain, got, err)
		}
		if count(key.k, "BU") != before {
			t.Errorf("%s: the other domain was asked", k.Domain)
		}
	}
	if err := randoms(c); err != nil {
		t.Error(err)
	}
	mixed := ky
	mixed.Domain = "no such"
	if _, err := c.CheckValue(t.Context(), mixed); command.ClassOf(err) != command.CallerFault {
		t.Errorf("unknown domain: %v", err)
	}
	if _, err := c.TranslatePIN(t.Context(), command.PINTranslation{From: ko, To: ky}); command.ClassOf(err) != command.CallerFault {
		t.Errorf("keys of two domains: %v", err)
	}
	if _, err := c.TranslateLMK(t.Context(), ko, "no such"); command.ClassOf(err) != command.CallerFault {
		t.Errorf("translation to nowhere: %v", err)
	}
	e := c.Engine()
	if len(e.Domains) != 2 || e.Domains[0].Domain != "new" || e.Domains[0].LMKCheck == e.Domains[1].LMKCheck {
		t.Errorf("%+v", e.Domains)
	}
}

package hsmclient_test

import (
	"strings"
	"testing"
	"time"

	"github.com/keyward/keyward/hsmclient"
	"github.com/keyward/keyward/hsmclient/member"
)

// Each fault takes the member out in its way, the others carry on, the device itself is not asked meanwhile, and the member comes back
// when the fault is cleared.
func TestInject(t *testing.T) {
	t.Parallel()
	for kind, want := range map[member.FaultKind]member.State{
		member.FaultRefuse: member.Down, member.FaultBlackHole: member.Down, member.FaultSlow: member.Down, member.FaultWrongLMK: member.Fenced,
	} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			c, a, _ := fakePair(t, hsmclient.Config{Timeout: 500 * time.Millisecond, Probing: hsmclient.Probing{Every: 50 * time.Millisecond, Timeout: 200 * time.Millisecond, BackoffMin: 20 * time.Millisecond, BackoffMax: 50 * time.Millisecond}})
			f := member.Fault{Kind: kind, Until: time.Now().Add(time.Minute)}
			if kind == member.FaultSlow {
				f.Delay = member.Duration(2 * time.Second)
			}
			if err := c.Inject(act, "a", f); err != nil {
				t.Fatal(err)
			}
			if err := c.Inject(act, "a", f); !member.IsRefusal(err, member.Conflict) {
				t.Errorf("twice: %v", err)
			}
			if err := c.Inject(act, "b", f); !member.IsRefusal(err, member.Unsafe) {
				t.Errorf("the other one too: %v", err)
			}
			for range 10 {
				if err := randoms(c); err != nil {
					t.Error(err)
				}
			}
			waitStates(t, c, map[string]member.State{"a": want})
			s, err := c.Member("a")
			if err != nil || s.Fault == nil || s.Fault.Kind != kind {
				t.Errorf("%+v, %v", s.Fault, err)
			}
			before := a.count("RD9")
			for range 10 {
				if _, err := c.Random(t.Context(), 9); err != nil {
					t.Error(err)
				}
			}
			if a.count("RD9") != before {
				t.Error("the device was asked")
			}
			if err := c.Clear(act, "a"); err != nil {
				t.Error(err)
			}
			waitStates(t, c, map[string]member.State{"a": member.Standby})
		})
	}
}

// A fault ends by itself.
func TestInjectEnds(t *testing.T) {
	t.Parallel()
	c, _, _ := fakePair(t, hsmclient.Config{Probing: quick})
	if err := c.Inject(act, "a", member.Fault{Kind: member.FaultRefuse, Until: time.Now().Add(200 * time.Millisecond)}); err != nil {
		t.Fatal(err)
	}
	waitStates(t, c, map[string]member.State{"a": member.Standby})
	if s, err := c.Member("a"); err != nil || s.Fault != nil {
		t.Errorf("%+v, %v", s.Fault, err)
	}
	if !inOrder(c, "a fault >refuse before", "a fault >refuse after", "a state working>suspect after", "a state suspect>down after", "a fault refuse> after", "a state down>standby before", "a state down>standby after") {
		t.Errorf("%q", strings.Join(switches(c), "\n"))
	}
}

// The switches are told in order, each before and after.
func TestSwitchesAreTold(t *testing.T) {
	t.Parallel()
	told := make(chan member.Switch, 100)
	a := newFakeDevice(t)
	c := startFakes(t, hsmclient.Config{OnSwitch: func(s member.Switch) { told <- s }}, fakeSpec("a", a))
	if err := c.Modify(member.Act{By: "anna", Reason: "test"}, "a", member.Change{Priority: ptr(7)}); err != nil {
		t.Fatal(err)
	}
	var last member.Switch
	for last.What != "priority" || last.Phase != member.After {
		select {
		case s := <-told:
			if s.Seq != last.Seq+1 || s.At.IsZero() {
				t.Errorf("%+v after %+v", s, last)
			}
			last = s
		case <-time.After(patience):
			t.Fatal("not told")
		}
	}
	if last.From != "1" || last.To != "7" || last.By != "anna" || last.Reason != "test" || last.Member != "a" {
		t.Errorf("%+v", last)
	}
	if newest := c.History(1); len(newest) != 1 || newest[0] != last {
		t.Errorf("%+v", newest)
	}
}

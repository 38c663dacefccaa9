package hsmclient_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyward/keyward/hsmclient"
	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/member"
)

// Everything that is refused is refused with its kind, says what to do, and changes nothing.
func TestRefusals(t *testing.T) {
	t.Parallel()
	c, a, b := fakePair(t, hsmclient.Config{MaxMembers: 3, Probing: calm})
	ctx := t.Context()
	dead := newFakeDevice(t)
	_ = dead.listener.Close()
	spec := func(change func(*member.Spec)) member.Spec {
		s := fakeSpec("c", a)
		change(&s)
		return s
	}
	none := func(*member.Spec) {}
	until := time.Now().Add(time.Minute)
	before := len(switches(c))
	for name, r := range map[string]struct {
		kind member.RefusalKind
		err  error
	}{
		"add, name taken":         {member.Conflict, c.Add(ctx, act, spec(func(s *member.Spec) { s.Name = "a" }))},
		"add, no name":            {member.Invalid, c.Add(ctx, act, spec(func(s *member.Spec) { s.Name = "" }))},
		"add, priority above":     {member.Invalid, c.Add(ctx, act, spec(func(s *member.Spec) { s.Priority = 17 }))},
		"add, negative priority":  {member.Invalid, c.Add(ctx, act, spec(func(s *member.Spec) { s.Priority = -1 }))},
		"add, unknown domain":     {member.Invalid, c.Add(ctx, act, spec(func(s *member.Spec) { s.Domain = "x" }))},
		"add, unknown driver":     {member.Invalid, c.Add(ctx, act, spec(func(s *member.Spec) { s.Driver = "x" }))},
		"add, no answer":          {member.Unsafe, c.Add(ctx, act, spec(func(s *member.Spec) { s.Addr = dead.listener.Addr().String() }))},
		"remove, unknown":         {member.NotFound, c.Remove(ctx, act, "x")},
		"state, unknown member":   {member.NotFound, c.SetState(ctx, act, "x", member.Working)},
		"state, none":             {member.Invalid, c.SetState(ctx, act, "a", member.Down)},
		"priority 0":              {member.Invalid, c.Modify(act, "a", member.Change{Priority: ptr(0)})},
		"priority above":          {member.Invalid, c.Modify(act, "a", member.Change{Priority: ptr(17)})},
		"weight 0":                {member.Invalid, c.Modify(act, "a", member.Change{Weight: ptr(0)})},
		"rated negative":          {member.Invalid, c.Modify(act, "a", member.Change{Rated: ptr(-1)})},
		"probe command":           {member.Invalid, c.Modify(act, "a", member.Change{Probe: ptr("NC")})}, // the fake driver has no choice
		"modify, unknown":         {member.NotFound, c.Modify(act, "x", member.Change{})},
		"fault, unknown member":   {member.NotFound, c.Inject(act, "x", member.Fault{Kind: member.FaultRefuse, Until: until})},
		"fault, unknown kind":     {member.Invalid, c.Inject(act, "a", member.Fault{Kind: "x", Until: until})},
		"fault, too long":         {member.Invalid, c.Inject(act, "a", member.Fault{Kind: member.FaultRefuse, Until: time.Now().Add(time.Hour)})},
		"fault, over":             {member.Invalid, c.Inject(act, "a", member.Fault{Kind: member.FaultRefuse})},
		"fault, slow by nothing":  {member.Invalid, c.Inject(act, "a", member.Fault{Kind: member.FaultSlow, Until: until})},
		"clear what is not there": {member.Conflict, c.Clear(act, "a")},
		"start what runs":         {member.Conflict, c.StartEngine(act)},
		"no journal":              {member.Conflict, c.SetJournal(act, false)},
		"queue, unknown domain":   {member.NotFound, second(c.ClearQueue(act, "x", member.Requests))},
		"queue, unknown kind":     {member.Invalid, second(c.ClearQueue(act, domain, "x"))},
		"list, twice the same":    {member.Conflict, c.Apply(ctx, act, []member.Spec{fakeSpec("a", a), fakeSpec("a", b)})},
		"list, wrong entry":       {member.Invalid, c.Apply(ctx, act, []member.Spec{fakeSpec("a", a), spec(func(s *member.Spec) { s.Priority = 99 })})},
		"probe, unknown":          {member.NotFound, second(c.Probe(ctx, "x"))},
		"member, unknown":         {member.NotFound, second(c.Member("x"))},
	} {
		if !member.IsRefusal(r.err, r.kind) || !strings.Contains(r.err.Error(), ": ") {
			t.Errorf("%s: %v", name, r.err)
		}
	}
	if after := len(switches(c)); after != before {
		t.Errorf("%d switches came from refused operations: %q", after-before, switches(c))
	}
	if err := c.Add(ctx, act, spec(none)); err != nil {
		t.Fatal(err)
	}
	if err := c.Add(ctx, act, spec(func(s *member.Spec) { s.Name = "d" })); !member.IsRefusal(err, member.Conflict) {
		t.Errorf("one too many: %v", err)
	}
}

func second[T any](_ T, err error) error { return err }

// The last working member is not removed, drained, fenced or taken into a drill, unless forced.
func TestLastWorkingMember(t *testing.T) {
	t.Parallel()
	a := newFakeDevice(t)
	c := startFakes(t, hsmclient.Config{}, fakeSpec("a", a))
	for name, err := range map[string]error{
		"remove": c.Remove(t.Context(), act, "a"),
		"drain":  c.SetState(t.Context(), act, "a", member.Draining),
		"fence":  c.SetState(t.Context(), act, "a", member.Fenced),
		"drill":  c.Inject(act, "a", member.Fault{Kind: member.FaultRefuse, Until: time.Now().Add(time.Minute)}),
	} {
		if !member.IsRefusal(err, member.Unsafe) || !strings.Contains(err.Error(), "last working member") {
			t.Errorf("%s: %v", name, err)
		}
	}
	force := member.Act{By: "test", Force: true}
	if err := c.Remove(t.Context(), force, "a"); err != nil {
		t.Error(err)
	}
	if err := randoms(c); command.ClassOf(err) != command.Unavailable || !strings.Contains(err.Error(), "has no member") {
		t.Errorf("without members: %v", err)
	}
	if err := c.Add(t.Context(), act, fakeSpec("a", a)); err != nil {
		t.Error(err)
	}
	if err := randoms(c); err != nil {
		t.Errorf("with a member again: %v", err)
	}
}

// Drain refuses when the rest could not carry what is under way now.
func TestDrainNeedsRoom(t *testing.T) {
	t.Parallel()
	c, a, b := fakes(t, hsmclient.Config{}, func(_, _ *member.Spec) {})
	h := hold(c, a, b)
	h.ask(t, 6)
	if err := c.SetState(t.Context(), act, "a", member.Draining); !member.IsRefusal(err, member.Unsafe) || !strings.Contains(err.Error(), "could not carry the present load") {
		t.Errorf("got %v", err)
	}
	h.release(t)
	eventually(t, "it is allowed", func() bool { return c.SetState(t.Context(), act, "a", member.Draining) == nil })
}

// Draining waits until nothing is under way; a bounded wait says what is still there, and the member stays draining.
func TestDrainWaits(t *testing.T) {
	t.Parallel()
	c, a, b := fakes(t, hsmclient.Config{}, func(_, b *member.Spec) { b.Priority = 2 })
	h := hold(c, a, b)
	h.ask(t, 2)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	err := c.SetState(ctx, act, "a", member.Draining)
	if err == nil || !strings.Contains(err.Error(), "2 requests are still under way") {
		t.Errorf("got %v", err)
	}
	waitStates(t, c, map[string]member.State{"a": member.Draining})
	h.ask(t, 1)
	if got := inFlight(c); got["a"] != 2 || got["b"] != 1 {
		t.Errorf("a draining member got a request: %v", got)
	}
	h.release(t)
	if err := c.SetState(t.Context(), act, "a", member.Draining); err != nil {
		t.Error(err)
	}
	if err := c.SetState(t.Context(), act, "a", member.Working); err != nil {
		t.Error(err)
	}
	waitStates(t, c, map[string]member.State{"a": member.Working})
}

// Members are added, removed, drained, fenced, made standby and working, and change priority and weight, under load: no request fails.
func TestOperationsUnderLoad(t *testing.T) {
	t.Parallel()
	c, a, _ := fakePair(t, hsmclient.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	var callers sync.WaitGroup
	for range 16 {
		callers.Go(func() {
			for ctx.Err() == nil {
				if err := randoms(c); err != nil {
					t.Errorf("a request failed: %v", err)
					return
				}
			}
		})
	}
	force := member.Act{By: "test", Force: true} // the load of the test may be more than one member has places for
	for i := range 60 {
		for _, err := range []error{
			c.Add(ctx, act, fakeSpec(fmt.Sprintf("c%d", i), a)),
			c.SetState(ctx, force, "b", member.Draining),
			c.Modify(act, "a", member.Change{Priority: ptr(1 + i%3), Weight: ptr(1 + i%5)}),
			c.SetState(ctx, act, "b", member.Standby),
			c.SetState(ctx, force, "a", member.Fenced),
			c.SetState(ctx, act, "a", member.Working),
			c.SetState(ctx, act, "b", member.Working),
			c.Remove(ctx, force, fmt.Sprintf("c%d", i)),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	cancel()
	callers.Wait()
}

// A list is brought about: what is missing is added even when it is dead, what is too much goes, what differs changes, an address changes
// without a lost request.
func TestApply(t *testing.T) {
	t.Parallel()
	c, a, b := fakePair(t, hsmclient.Config{})
	moved, dead := newFakeDevice(t), newFakeDevice(t)
	_ = dead.listener.Close()
	ctx, cancel := context.WithCancel(t.Context())
	var callers sync.WaitGroup
	for range 4 {
		callers.Go(func() {
			for ctx.Err() == nil {
				if err := randoms(c); err != nil {
					t.Errorf("a request failed: %v", err)
					return
				}
			}
		})
	}
	sa, sb, sd := fakeSpec("a", moved), fakeSpec("b", b), fakeSpec("d", dead)
	sb.Priority, sb.Role = 5, member.Standby
	if err := c.Apply(ctx, act, []member.Spec{sa, sb, sd}); err != nil {
		t.Fatal(err)
	}
	waitStates(t, c, map[string]member.State{"a": member.Working, "b": member.Standby, "d": member.Down})
	specs := c.Specs()
	if len(specs) != 3 || specs[0].Addr != sa.Addr || specs[1].Priority != 5 || specs[1].Role != member.Standby {
		t.Errorf("%+v", specs)
	}
	eventually(t, "the new device works", func() bool { return moved.count("RD8") > 0 })
	before := a.count("RD8")
	history := len(c.History(1000))
	if err := c.Apply(ctx, act, specs); err != nil { // the same again changes nothing
		t.Error(err)
	}
	if n := len(c.History(1000)) - history; n != 2 {
		t.Errorf("%d entries of the history for nothing, want the two of apply itself: %q", n, switches(c)[history:])
	}
	// The only working member cannot be moved to a dead address.
	sa.Addr = dead.listener.Addr().String()
	if err := c.Apply(ctx, act, []member.Spec{sa, specs[1]}); !member.IsRefusal(err, member.Unsafe) {
		t.Errorf("moved to nowhere: %v", err)
	}
	if _, err := c.Member("d"); !member.IsRefusal(err, member.NotFound) {
		t.Errorf("d is still there: %v", err)
	}
	if a.count("RD8") != before {
		t.Error("the device that was replaced still gets requests")
	}
	cancel()
	callers.Wait()
}

package hsmclient_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyward/keyward/hsmclient"
	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/driver"
	"github.com/keyward/keyward/hsmclient/exchangelog"
	"github.com/keyward/keyward/hsmclient/member"
	"github.com/keyward/keyward/sim/hsm"
)

// under is a cluster under load with all that is written down.
type under struct {
	*testing.T
	c       *hsmclient.Cluster
	load    *load
	ledger  *ledger
	devices map[string]*hsm.Device
}

// underLoad starts members of the names and traffic that reaches all of them.
func underLoad(t *testing.T, cfg hsmclient.Config, names ...string) *under {
	t.Helper()
	u := &under{T: t, ledger: &ledger{}, devices: map[string]*hsm.Device{}}
	for _, name := range names {
		u.devices[name] = device(t, hsm.Config{HistorySize: deviceHistory})
		one := spec(name, u.devices[name])
		one.Channels, one.Depth = 3, 8
		cfg.Members = append(cfg.Members, one)
	}
	sent := &sentLabels{count: map[string]int{}}
	cfg.Drivers = map[string]driver.Maker{"racal": sent.make}
	cfg.Journal, cfg.OnSwitch = u.ledger, u.ledger.onSwitch
	u.c = start(t, cfg)
	u.load = newLoad(t, u.c, sent)
	u.load.noDeadlines = true
	u.all(member.Working)
	u.load.run(1, 16, 0)
	t.Cleanup(u.load.stop)
	for _, name := range names {
		u.served(name, time.Time{})
	}
	return u
}

// all waits until all members are in the state.
func (u *under) all(want member.State) {
	u.Helper()
	eventually(u.T, "all members are "+string(want), func() bool {
		return !slices.ContainsFunc(u.c.Members(), func(s member.Status) bool { return s.State != want })
	})
}

// is waits until a member is in one of the states.
func (u *under) is(name string, want ...member.State) {
	u.Helper()
	eventually(u.T, fmt.Sprintf("%s is one of %v", name, want), func() bool {
		s, err := u.c.Member(name)
		return err == nil && slices.Contains(want, s.State)
	})
}

// served waits until the member has answered requests of the load that began after a moment.
func (u *under) served(name string, after time.Time) {
	u.Helper()
	eventually(u.T, name+" answers requests", func() bool {
		exchanges, _ := u.ledger.all()
		n := 0
		for _, e := range exchanges {
			if e.Member == name && hostCommands[e.For] != "" && slices.Contains(verdicts, e.Result) && e.At.After(after) {
				n++
			}
		}
		return n >= 20
	})
}

// end ends the traffic and checks what must hold whatever has happened.
func (u *under) end() {
	u.Helper()
	u.load.stop()
	for _, f := range u.load.broken() {
		u.Error(f)
	}
	checkQuiet(u.T, u.c)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := u.c.Stop(ctx); err != nil {
		u.Error(err)
	}
	exchanges, switches := u.ledger.all()
	checkSwitches(u.T, switches)
	checkTraffic(u.T, exchanges, switches)
	checkJournal(u.T, exchanges, u.devices, u.load, 0)
}

// when gives when a member became one of the states for the first time after a moment.
func (u *under) when(name string, after time.Time, states ...member.State) time.Time {
	_, switches := u.ledger.all()
	for _, s := range switches {
		if s.Member == name && s.What == "state" && s.Phase == member.After && s.At.After(after) && slices.Contains(states, member.State(s.To)) {
			return s.At
		}
	}
	u.Fatalf("%s has never become one of %v", name, states)
	return time.Time{}
}

// A member is killed under load by a reset of all its connections, again and again. No repeatable request fails, no other one is sent twice,
// traffic flows on, and the member is back by itself.
func TestKilledUnderLoad(t *testing.T) {
	t.Parallel()
	u := underLoad(t, hsmclient.Config{Readmit: member.Working, Probing: quickProbing}, "a", "b", "c")
	for range 4 {
		killed := time.Now()
		setFaults(t, u.devices["b"], hsm.Faults{Reset: true, Refuse: true})
		u.is("b", member.Down)
		u.served("a", killed)
		u.served("c", killed)
		mended := time.Now()
		setFaults(t, u.devices["b"], hsm.Faults{})
		u.is("b", member.Working)
		u.served("b", mended)
	}
	u.end()
}

// quickProbing has small pauses, and time-outs that a busy machine keeps.
var quickProbing = hsmclient.Probing{Every: 50 * time.Millisecond, Timeout: time.Second, BackoffMin: 10 * time.Millisecond, BackoffMax: 100 * time.Millisecond, AdmitTimes: 2}

// A member swallows everything, with requests on it. They end elsewhere, no new one goes there once it is suspect, and it comes back.
func TestBlackHoleUnderLoad(t *testing.T) {
	t.Parallel()
	u := underLoad(t, hsmclient.Config{Readmit: member.Working, Probing: quickProbing}, "a", "b")
	began := time.Now()
	setFaults(t, u.devices["b"], hsm.Faults{BlackHole: true})
	u.is("b", member.Down)
	suspect := u.when("b", began, member.Suspect)
	if took := suspect.Sub(began); took > patience/2 {
		t.Errorf("suspect after %s", took)
	}
	u.served("a", suspect)
	mended := time.Now()
	setFaults(t, u.devices["b"], hsm.Faults{})
	u.is("b", member.Working)
	u.served("b", mended)
	u.end()
	exchanges, _ := u.ledger.all()
	retried := 0
	for _, e := range exchanges {
		if e.Member == "b" && hostCommands[e.For] != "" && e.Result == exchangelog.NoAnswer {
			retried++
		}
	}
	if retried == 0 {
		t.Error("no request was on the member when it fell silent")
	}
}

// All members but one die one after the other, each in another way: still no wrong answer and no lost request.
func TestAllButOneDie(t *testing.T) {
	t.Parallel()
	u := underLoad(t, hsmclient.Config{Timeout: time.Second, Readmit: member.Working, Probing: quickProbing}, "a", "b", "c", "d", "e")
	died := map[string]hsm.Faults{
		"b": {Refuse: true}, "c": {BlackHole: true}, "d": {AcceptThenClose: true, CloseAfter: 1}, "e": {ErrorCodes: map[string]string{"NC": "41", "M6": "41", "M8": "41", "BU": "41"}},
	}
	for _, name := range []string{"b", "c", "d", "e"} {
		setFaults(t, u.devices[name], died[name])
		u.is(name, member.Suspect, member.Down)
		u.load.barrier(t) // whoever was hit may be hit once more, not twice
	}
	last := time.Now()
	u.served("a", last)
	for name := range died {
		setFaults(t, u.devices[name], hsm.Faults{})
	}
	u.all(member.Working)
	for name := range u.devices {
		u.served(name, last)
	}
	u.end()
}

// All members die: a clear typed error at once for whoever asks, a bounded queue however many ask, nobody left hanging; and recovery by
// itself when one member returns.
func TestAllDie(t *testing.T) {
	t.Parallel()
	const queue, callers = 50, 2000
	u := underLoad(t, hsmclient.Config{MaxWaiting: queue, Readmit: member.Standby, Probing: quickProbing}, "a", "b")
	u.load.stop() // from here on requests fail
	for _, d := range u.devices {
		setFaults(t, d, hsm.Faults{Reset: true, Refuse: true})
	}
	u.is("a", member.Down)
	u.is("b", member.Down)

	began := time.Now()
	_, err := u.c.Random(context.Background(), 8) // no deadline of its own
	var e *command.Error
	if !errors.As(err, &e) || e.Class != command.Unavailable || !strings.Contains(err.Error(), "a: down") || !strings.Contains(err.Error(), "b: down") {
		t.Errorf("the error is %v", err)
	}
	if took := time.Since(began); took > 2*time.Second { // far below any time-out, far above what a busy machine needs
		t.Errorf("it came after %s", took)
	}

	goroutines := runtime.NumGoroutine()
	var asking sync.WaitGroup
	for range callers {
		asking.Go(func() {
			if _, err := u.c.Random(context.Background(), 8); command.ClassOf(err) != command.Unavailable {
				t.Errorf("one of many got %v", err)
			}
		})
	}
	asking.Wait()
	checkNow(t, u.c, queue)
	if n := runtime.NumGoroutine(); n > goroutines+callers/10 {
		t.Errorf("%d goroutines were left behind", n-goroutines)
	}

	setFaults(t, u.devices["b"], hsm.Faults{})
	eventually(t, "requests are answered again", func() bool { return randoms(u.c) == nil })
	if s, err := u.c.Member("b"); err != nil || s.State != member.Standby {
		t.Errorf("b came back as %s, %v; it serves as an engaged standby", s.State, err)
	}
	exchanges, switches := u.ledger.all()
	checkTraffic(t, exchanges, switches)
}

// While all members are gone, the queue takes no more than it may, and the less urgent are put out first.
func TestQueueIsBoundedUnderLoad(t *testing.T) {
	t.Parallel()
	const queue = 20
	d := device(t, hsm.Config{})
	one := spec("a", d)
	one.Channels, one.Depth = 1, 2
	c := start(t, hsmclient.Config{Members: []member.Spec{one}, MaxWaiting: queue})
	setFaults(t, d, hsm.Faults{Hold: []string{"N0"}})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	results := make(chan error, 10*queue)
	ask := func(n int, p command.Priority) {
		for range n {
			go func() {
				_, err := c.Random(command.WithPriority(ctx, p), 8)
				results <- err
			}()
		}
	}
	waiting := func() (n int) {
		for _, class := range c.Queues()[0].Requests {
			n += class.Waiting
		}
		return n
	}
	ask(2, command.Transaction)
	waitHeld(t, d)
	eventually(t, "both places are taken", func() bool { return c.Members()[0].Load.InFlight == 2 })
	ask(queue, command.Background)
	eventually(t, "the queue is full", func() bool { return waiting() == queue })
	ask(2*queue, command.Transaction) // half of them put background out, half find no place
	refused := 0
	for range 2 * queue {
		if err := <-results; command.ClassOf(err) != command.Unavailable {
			t.Fatalf("got %v", err)
		}
		refused++
	}
	if n := waiting(); n != queue || c.Queues()[0].Shed != uint64(refused) {
		t.Errorf("%d wait, %d were shed of %d refused", n, c.Queues()[0].Shed, refused)
	}
	setFaults(t, d, hsm.Faults{})
	for range queue + 2 {
		if err := <-results; err != nil {
			t.Errorf("an urgent request failed: %v", err)
		}
	}
}

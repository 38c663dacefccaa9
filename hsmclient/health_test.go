package hsmclient_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyward/keyward/hsmclient"
	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/member"
	"github.com/keyward/keyward/sim/hsm"
)

// switches gives the history from the oldest on, as "member what from>to phase".
func switches(c *hsmclient.Cluster) []string {
	var list []string
	for _, s := range c.History(1000) {
		list = append([]string{s.Member + " " + s.What + " " + s.From + ">" + s.To + " " + string(s.Phase)}, list...)
	}
	return list
}

// inOrder says that the entries are in the history in this order.
func inOrder(c *hsmclient.Cluster, want ...string) bool {
	for _, s := range switches(c) {
		if len(want) > 0 && s == want[0] {
			want = want[1:]
		}
	}
	return len(want) == 0
}

// The channels that are there go silent, a new connection is answered: the member is suspect, and back as it was. Every change is
// announced and reported.
func TestSuspectAndBack(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	c, a, _ := fakePair(t, hsmclient.Config{Probing: quick, Registerer: reg})
	a.mu.Lock()
	old := a.total
	a.mu.Unlock()
	a.answer(func(_, _ string, connection int) string {
		if connection <= old {
			return ""
		}
		return "00"
	})
	eventually(t, "it was suspect and is back", func() bool {
		return inOrder(c, "a state working>suspect before", "a state working>suspect after", "a state suspect>working before", "a state suspect>working after")
	})
	s, err := c.Member("a")
	if err != nil || s.State != member.Working || s.Reason != "" {
		t.Errorf("%+v, %v", s, err)
	}
	if got := value(t, reg, "keyward_hsm_probe_misses_total"); got < 1 {
		t.Error("no missed heartbeat was counted")
	}
	eventually(t, "the channels are new", func() bool { s, err := c.Member("a"); return err == nil && s.Load.ChannelsOpen == 2 })
	if err := randoms(c); err != nil {
		t.Error(err)
	}
}

// A black hole: out within one heartbeat and its time-out, no request goes there afterwards, those in flight are answered elsewhere; it
// comes back as standby.
func TestBlackHoleIsOut(t *testing.T) {
	t.Parallel()
	c, a, b := fakePair(t, hsmclient.Config{Probing: hsmclient.Probing{Every: 200 * time.Millisecond, Timeout: 300 * time.Millisecond, BackoffMin: 20 * time.Millisecond, BackoffMax: 100 * time.Millisecond}})
	hole := func(string, string, int) string { return "" }
	a.answer(hole)
	began := time.Now()
	var inFlight sync.WaitGroup
	for range 8 {
		inFlight.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			if _, err := c.Random(ctx, 1); err != nil {
				t.Errorf("in flight: %v", err)
			}
		})
	}
	waitStates(t, c, map[string]member.State{"a": member.Down})
	t.Logf("down after %s", time.Since(began))
	inFlight.Wait()
	s, err := c.Member("a")
	if err != nil || s.Reason == "" || s.Probing.NextAt.IsZero() || s.Load.ChannelsOpen != 0 {
		t.Errorf("%+v, %v", s, err)
	}
	before := len(a.counts("RD9"))
	for range 50 {
		if _, err := c.Random(t.Context(), 9); err != nil {
			t.Fatal(err)
		}
	}
	if len(a.counts("RD9")) != before || b.count("RD9") != 50 {
		t.Errorf("a request went into the black hole")
	}
	a.answer(nil)
	waitStates(t, c, map[string]member.State{"a": member.Standby})
}

// All members die: a typed error at once, which says why; the first one back is found within two seconds, however long the pauses of
// second probing are otherwise.
func TestAllDeadAndRecovery(t *testing.T) {
	t.Parallel()
	a, b := device(t, hsm.Config{}), device(t, hsm.Config{})
	c := start(t, hsmclient.Config{Members: []member.Spec{spec("a", a), spec("b", b)}, Probing: hsmclient.Probing{BackoffMin: time.Minute, BackoffMax: time.Hour}})
	waitStates(t, c, map[string]member.State{"a": member.Working, "b": member.Working})
	setFaults(t, a, hsm.Faults{Refuse: true, Reset: true})
	setFaults(t, b, hsm.Faults{Refuse: true, Reset: true})
	waitStates(t, c, map[string]member.State{"a": member.Down, "b": member.Down})
	began := time.Now()
	err := randoms(c)
	if took := time.Since(began); command.ClassOf(err) != command.Unavailable || took > time.Second || !strings.Contains(err.Error(), "a: down") {
		t.Errorf("after %s: %v", took, err)
	}
	began = time.Now()
	setFaults(t, b, hsm.Faults{})
	eventually(t, "commands work", func() bool { return randoms(c) == nil })
	if took := time.Since(began); took > 4*time.Second { // 2 s on a machine that is not busy with other tests
		t.Errorf("back after %s", took)
	} else {
		t.Logf("back after %s", took)
	}
}

// A device that accepts and then closes is down, is asked with growing pauses, and does not eat the budget of connections.
func TestAcceptsThenCloses(t *testing.T) {
	t.Parallel()
	a, b := device(t, hsm.Config{}), device(t, hsm.Config{})
	s := spec("a", a)
	s.Channels, s.Connections = 3, 4
	c := start(t, hsmclient.Config{Members: []member.Spec{s, spec("b", b)}, Probing: quick, Readmit: member.Working})
	waitStates(t, c, map[string]member.State{"a": member.Working, "b": member.Working})
	setFaults(t, a, hsm.Faults{AcceptThenClose: true})
	setFaults(t, a, hsm.Faults{Refuse: true})
	setFaults(t, a, hsm.Faults{AcceptThenClose: true})
	waitStates(t, c, map[string]member.State{"a": member.Down})
	for range 20 {
		if err := randoms(c); err != nil {
			t.Fatal(err)
		}
	}
	setFaults(t, a, hsm.Faults{})
	waitStates(t, c, map[string]member.State{"a": member.Working})
	eventually(t, "all its channels are open", func() bool { s, err := c.Member("a"); return err == nil && s.Load.ChannelsOpen == 3 })
	if n := a.Counters().ConnectionsOpen; n > 4 {
		t.Errorf("%d connections are open, the budget is 4", n)
	}
}

// Answers later than the heartbeat may take, lost answers, answers with another request's header: never a wrong result, and no caller
// without an answer while another member is healthy.
func TestSickMembers(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]hsm.Faults{
		"slow":           {LatencyMS: 1000},
		"answers some":   {AnswerPercent: 40},
		"other's header": {SwapHeaderEvery: 5},
		"duplicates":     {DuplicateEvery: 5},
		"cut answers":    {CutEvery: 7},
		"closes":         {CloseAfter: 10, Reset: true},
		"stalls":         {Stall: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, a, _ := pair(t, hsmclient.Config{Timeout: 500 * time.Millisecond, Probing: hsmclient.Probing{Every: 50 * time.Millisecond, Timeout: 200 * time.Millisecond, BackoffMin: 20 * time.Millisecond}})
			setFaults(t, a, f)
			var callers sync.WaitGroup
			for i := range 8 {
				callers.Go(func() {
					for n := range 40 {
						want := 1 + (i*40+n)%200
						got, err := c.Random(context.Background(), want)
						if err != nil || len(got) != want {
							t.Errorf("%d bytes instead of %d, %v", len(got), want, err)
						}
					}
				})
			}
			callers.Wait()
		})
	}
}

// A canary key finds the device that answers well-formed nonsense.
func TestWrongResultsAreFound(t *testing.T) {
	t.Parallel()
	d := device(t, hsm.Config{})
	key := tdesKey(t, d)
	c := start(t, hsmclient.Config{Members: []member.Spec{spec("a", d)}, Domains: []hsmclient.Domain{{Name: domain, Canary: key}}})
	setFaults(t, d, hsm.Faults{WrongResultEvery: 1})
	result, err := c.Probe(t.Context(), "a")
	if err != nil || result.OK || result.State != member.Fenced || !strings.Contains(result.Problem, "known-answer test") {
		t.Errorf("%+v, %v", result, err)
	}
	setFaults(t, d, hsm.Faults{})
	if result, err = c.Probe(t.Context(), "a"); err != nil || !result.OK || result.State != member.Standby {
		t.Errorf("after repair: %+v, %v", result, err)
	}
}

// News from another process: the member is looked at, and fenced only for what is found.
func TestProbeSoon(t *testing.T) {
	t.Parallel()
	d := device(t, hsm.Config{})
	c := start(t, hsmclient.Config{Members: []member.Spec{spec("a", d)}, Probing: hsmclient.Probing{Every: time.Hour}})
	before := count(d, "NC")
	c.ProbeSoon("a", "fenced elsewhere")
	c.ProbeSoon("nobody", "fenced elsewhere")
	eventually(t, "it was asked", func() bool { return count(d, "NC") > before })
	if s, err := c.Member("a"); err != nil || s.State != member.Working {
		t.Errorf("%+v, %v", s, err)
	}
	setFaults(t, d, hsm.Faults{LMKSeed: "another"})
	c.ProbeSoon("a", "fenced elsewhere")
	waitStates(t, c, map[string]member.State{"a": member.Fenced})
}

// Without monitoring no heartbeat is sent, and a dead member is found all the same, by its requests.
func TestMonitoringOff(t *testing.T) {
	t.Parallel()
	c, a, _ := fakePair(t, hsmclient.Config{Probing: quick, Timeout: 600 * time.Millisecond})
	if err := c.SetMonitoring(act, false); err != nil {
		t.Fatal(err)
	}
	if err := c.SetMonitoring(act, false); !member.IsRefusal(err, member.Conflict) {
		t.Errorf("twice: %v", err)
	}
	a.answer(func(string, string, int) string { return "" })
	for range 8 {
		if err := randoms(c); err != nil {
			t.Error(err)
		}
	}
	waitStates(t, c, map[string]member.State{"a": member.Down})
	a.answer(nil)
	waitStates(t, c, map[string]member.State{"a": member.Standby})
	if err := c.SetMonitoring(act, true); err != nil {
		t.Error(err)
	}
}

package hsmclient_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/keyward/keyward/hsmclient"
	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/exchangelog"
	"github.com/keyward/keyward/hsmclient/member"
)

// notes is a journal in memory.
type notes struct {
	mu   sync.Mutex
	list []exchangelog.Exchange
}

func (n *notes) Record(e exchangelog.Exchange) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.list = append(n.list, e)
}

// of gives the records that match.
func (n *notes) of(match func(exchangelog.Exchange) bool) (found []exchangelog.Exchange) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, e := range n.list {
		if match(e) {
			found = append(found, e)
		}
	}
	return found
}

// Every exchange is in the journal once: as many as the devices were asked, each with a serial number of its own, with results, and
// probes with channel 0 or their channel.
func TestJournal(t *testing.T) {
	t.Parallel()
	journal := &notes{}
	c, a, b := fakePair(t, hsmclient.Config{Journal: journal, Probing: hsmclient.Probing{Every: 20 * time.Millisecond}, Instance: "i1", Timeout: patience})
	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() {
			for range 50 {
				if _, err := c.Random(context.Background(), 7); err != nil {
					t.Error(err)
				}
			}
		})
	}
	callers.Wait()
	asked := a.count("RD7") + b.count("RD7")
	found := journal.of(func(e exchangelog.Exchange) bool { return e.Command == "RD" })
	if asked != 400 || len(found) != 400 {
		t.Errorf("%d asked, %d journalled", asked, len(found))
	}
	serials := map[string]bool{}
	for _, e := range journal.of(func(exchangelog.Exchange) bool { return true }) {
		serials[e.Serial.String()] = true
	}
	if all := len(journal.of(func(exchangelog.Exchange) bool { return true })); len(serials) > all || len(serials) < 400 {
		t.Errorf("%d serial numbers for %d records", len(serials), all)
	}
	for _, e := range found {
		if e.Group != domain || e.For != "random" || e.Sent != 3 || e.Received != 5 || e.Result != "00" || e.Channel < 1 || e.Channel > 2 || e.Took <= 0 || e.At.IsZero() || e.Member != "a" && e.Member != "b" {
			t.Fatalf("%+v", e)
		}
	}
	for _, channel := range []int{0, 1} {
		if len(journal.of(func(e exchangelog.Exchange) bool {
			return e.For == "probe" && e.Command == "NC" && e.Channel == channel
		})) == 0 {
			t.Errorf("no probe on channel %d", channel)
		}
	}
	if e := c.Engine(); !e.Journal || e.Serial < 400 || e.Instance != "i1" {
		t.Errorf("%+v", e)
	}
}

// A request that is repeated elsewhere: no answer here, the answer there, and what comes late is dropped.
func TestJournalOfLateAnswers(t *testing.T) {
	t.Parallel()
	journal := &notes{}
	c, a, _ := fakePair(t, hsmclient.Config{Journal: journal, Probing: calm, Timeout: 200 * time.Millisecond})
	if err := c.Modify(act, "b", member.Change{Priority: ptr(2)}); err != nil {
		t.Fatal(err)
	}
	late := make(chan struct{})
	a.answer(func(code, _ string, _ int) string {
		if code == "RD" {
			<-late
		}
		return "00"
	})
	if _, err := c.Random(t.Context(), 3); err != nil {
		t.Error(err)
	}
	close(late)
	eventually(t, "the late answer is noted", func() bool {
		return len(journal.of(func(e exchangelog.Exchange) bool {
			return e.Member == "a" && e.Command == "RD" && e.Result == exchangelog.Dropped && e.Received == 5
		})) == 1
	})
	for name, want := range map[string]string{"a": exchangelog.NoAnswer, "b": "00"} {
		if len(journal.of(func(e exchangelog.Exchange) bool { return e.Member == name && e.Command == "RD" && e.Result == want })) != 1 {
			t.Errorf("%s: no record with %s: %+v", name, want, journal.list)
		}
	}
}

// The journal is switched off and on.
func TestJournalSwitch(t *testing.T) {
	t.Parallel()
	journal := &notes{}
	c, _, _ := fakePair(t, hsmclient.Config{Journal: journal, Probing: calm})
	if err := c.SetJournal(act, false); err != nil {
		t.Fatal(err)
	}
	before := len(journal.of(func(exchangelog.Exchange) bool { return true }))
	if err := randoms(c); err != nil {
		t.Fatal(err)
	}
	if after := len(journal.of(func(exchangelog.Exchange) bool { return true })); after != before || c.Engine().Journal {
		t.Errorf("%d records while off", after-before)
	}
	if err := c.SetJournal(act, true); err != nil {
		t.Fatal(err)
	}
	if err := randoms(c); err != nil {
		t.Fatal(err)
	}
	if len(journal.of(func(exchangelog.Exchange) bool { return true })) == before {
		t.Error("nothing while on")
	}
}

// Those who watch hear of every request, which members it was on and whether it was repeated.
func TestObserve(t *testing.T) {
	t.Parallel()
	c, a, _ := fakePair(t, hsmclient.Config{Probing: calm})
	if err := c.Modify(act, "b", member.Change{Priority: ptr(2)}); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var heard []member.Outcome
	stop := c.Observe(func(o member.Outcome) { mu.Lock(); heard = append(heard, o); mu.Unlock() })
	a.answer(func(code, text string, _ int) string {
		switch {
		case code == "RD" && text == "1":
			return "41"
		case text == "2":
			return "15"
		}
		return "00"
	})
	if _, err := c.Random(member.ForDrill(t.Context()), 1); err != nil {
		t.Error(err)
	}
	waitStates(t, c, map[string]member.State{"a": member.Working})
	if _, err := c.Random(t.Context(), 2); command.ClassOf(err) != command.CallerFault {
		t.Error(err)
	}
	stop()
	if err := randoms(c); err != nil {
		t.Error(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(heard) != 2 || heard[0].First != "a" || heard[0].Last != "b" || !heard[0].Repeated || heard[0].Result != "ok" || !heard[0].Drill || heard[0].Took <= 0 || heard[0].Domain != domain ||
		heard[1].Repeated || heard[1].Result != "caller_fault" || heard[1].Drill || heard[1].First != "a" {
		t.Errorf("%+v", heard)
	}
}

package hsmclient_test

import (
	"strings"
	"testing"

	"github.com/keyward/keyward/hsmclient"
	"github.com/keyward/keyward/hsmclient/member"
)

// A suspect that takes no new connection, because others hold all that it accepts, but answers on those that are there is alive.
func TestSuspectWithoutFreeConnection(t *testing.T) {
	t.Parallel()
	c, a, _ := fakePair(t, hsmclient.Config{Probing: quick})
	a.mu.Lock()
	old := a.total
	a.mu.Unlock()
	faulty := true
	a.answer(func(code, _ string, connection int) string {
		switch {
		case connection > old:
			return "close"
		case code == "RD" && faulty:
			faulty = false
			return "41"
		}
		return "00"
	})
	for faultSeen := false; !faultSeen; {
		if err := randoms(c); err != nil {
			t.Fatal(err)
		}
		a.mu.Lock()
		faultSeen = !faulty
		a.mu.Unlock()
	}
	eventually(t, "it was suspect and is back", func() bool {
		return inOrder(c, "a state working>suspect after", "a state suspect>working after")
	})
	if s, err := c.Member("a"); err != nil || s.State != member.Working || s.Load.ChannelsOpen != 2 {
		t.Errorf("%+v, %v", s, err)
	}
}

// Who has fenced a member by hand, and why, is shown; it stays out whatever it answers, until it is told another state.
func TestFencedByHand(t *testing.T) {
	t.Parallel()
	c, a, _ := fakePair(t, hsmclient.Config{Probing: quick})
	if err := c.SetState(t.Context(), member.Act{By: "anna", Reason: "odd noise"}, "a", member.Fenced); err != nil {
		t.Fatal(err)
	}
	if result, err := c.Probe(t.Context(), "a"); err != nil || !result.OK || result.State != member.Fenced {
		t.Errorf("%+v, %v", result, err)
	}
	a.reset()
	eventually(t, "it has new channels or none", func() bool { s, err := c.Member("a"); return err == nil && s.State == member.Fenced })
	before := len(a.counts("RD5"))
	for range 20 {
		if _, err := c.Random(t.Context(), 5); err != nil {
			t.Fatal(err)
		}
	}
	s, err := c.Member("a")
	if err != nil || s.State != member.Fenced || !strings.Contains(s.Reason, "anna") || !strings.Contains(s.Reason, "odd noise") || len(a.counts("RD5")) != before {
		t.Errorf("%+v, %v", s, err)
	}
	if err := c.SetState(t.Context(), act, "a", member.Working); err != nil {
		t.Fatal(err)
	}
	waitStates(t, c, map[string]member.State{"a": member.Working})
}

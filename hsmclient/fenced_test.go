package hsmclient_test

import (
	"testing"

	"github.com/keyward/keyward/hsmclient"
	"github.com/keyward/keyward/hsmclient/member"
	"github.com/keyward/keyward/sim/hsm"
)

// A member that was fenced by hand and saved is fenced after a restart, and at others that take the list over, until somebody sets its
// state.
func TestFencedByHandIsSaved(t *testing.T) {
	t.Parallel()
	a, b := device(t, hsm.Config{}), device(t, hsm.Config{})
	act := member.Act{By: "li.na", Reason: "opened without a witness"}
	c := start(t, hsmclient.Config{Members: []member.Spec{spec("a", a), spec("b", b)}})
	waitStates(t, c, map[string]member.State{"a": member.Working, "b": member.Working})
	if err := c.SetState(t.Context(), act, "b", member.Fenced); err != nil {
		t.Fatal(err)
	}
	saved := c.Specs()
	if saved[1].Role != member.Fenced {
		t.Fatalf("saved as %q", saved[1].Role)
	}

	other := start(t, hsmclient.Config{Members: []member.Spec{spec("a", a), spec("b", b)}})
	waitStates(t, other, map[string]member.State{"a": member.Working, "b": member.Working})
	if err := other.Apply(t.Context(), act, saved); err != nil {
		t.Fatal(err)
	}
	restarted := start(t, hsmclient.Config{Members: saved})
	for name, c := range map[string]*hsmclient.Cluster{"another": other, "restarted": restarted} {
		waitStates(t, c, map[string]member.State{"a": member.Working, "b": member.Fenced})
		if err := c.SetState(t.Context(), act, "b", member.Working); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		waitStates(t, c, map[string]member.State{"b": member.Working})
		if got := c.Specs()[1].Role; got != member.Working {
			t.Errorf("%s: told to be %q", name, got)
		}
	}
}

// A list without any member of a domain ends that domain, because its keys have moved; the default domain does not end so.
func TestListEndsADomain(t *testing.T) {
	t.Parallel()
	a, b := device(t, hsm.Config{}), device(t, hsm.Config{})
	old := spec("b", b)
	old.Domain = "old"
	c := start(t, hsmclient.Config{Members: []member.Spec{spec("a", a), old}, Domains: []hsmclient.Domain{{Name: domain}, {Name: "old"}}})
	waitStates(t, c, map[string]member.State{"a": member.Working, "b": member.Working})
	if err := c.Apply(t.Context(), member.Act{By: "list"}, []member.Spec{old}); !member.IsRefusal(err, member.Unsafe) {
		t.Errorf("the default domain was ended: %v", err)
	}
	if err := c.Apply(t.Context(), member.Act{By: "list"}, []member.Spec{spec("a", a)}); err != nil {
		t.Errorf("the old domain was not ended: %v", err)
	}
	if n := len(c.Members()); n != 1 {
		t.Errorf("%d members", n)
	}
}

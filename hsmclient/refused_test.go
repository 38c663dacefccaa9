package hsmclient_test

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyward/keyward/hsmclient"
	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/member"
	"github.com/keyward/keyward/sim/hsm"
)

// A member that refuses a command for want of a licence looks idle all the time. It is not preferred for that: it gets a few requests to
// begin with and one now and then, no caller sees it, its status and the metrics say why. Put right, it gets work again by itself.
func TestMemberThatRefusesIsNotPreferred(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	c, a, b := fakePair(t, hsmclient.Config{Probing: calm, Registerer: reg})
	a.answer(func(code, _ string, _ int) string {
		if code == "RD" {
			return "68"
		}
		return "00"
	})
	began := time.Now()
	for range 200 {
		if err := randoms(c); err != nil {
			t.Fatal(err)
		}
	}
	asked := 0
	for _, n := range a.counts("RD") {
		asked += n
	}
	if most := 6 + int(time.Since(began)/time.Second); asked < 3 || asked > most {
		t.Errorf("it was asked %d times, at most %d are right", asked, most)
	}
	s, err := c.Member("a")
	if err != nil || !strings.Contains(s.Warning, "refuses random (answers 68 to RD)") || s.State != member.Working {
		t.Errorf("%+v, %v", s, err)
	}
	if s, err := c.Member("b"); err != nil || s.Warning != "" {
		t.Errorf("%+v, %v", s, err)
	}
	if got := value(t, reg, "keyward_hsm_member_failed_total"); got != float64(asked) {
		t.Errorf("the metric counts %v failures, want %d", got, asked)
	}
	if got := value(t, reg, "keyward_hsm_member_warning"); got != 1 {
		t.Errorf("%v members are warned about", got)
	}
	// Alone it is asked all the same, and the caller hears what it says.
	b.answer(func(string, string, int) string { return "68" })
	if err := randoms(c); command.ClassOf(err) != command.NoLicence {
		t.Error(err)
	}
	b.answer(nil)
	a.answer(nil)
	eventually(t, "it gets work again", func() bool {
		if err := randoms(c); err != nil {
			t.Fatal(err)
		}
		s, err := c.Member("a")
		return err == nil && s.Warning == ""
	})
}

// One device under two names is refused, unless forced, and then warned about; so it is when the configuration has it.
func TestSameDeviceTwice(t *testing.T) {
	t.Parallel()
	a := device(t, hsm.Config{Serial: "TWICE"})
	c := start(t, hsmclient.Config{Members: []member.Spec{spec("a", a)}, Probing: quick})
	err := c.Add(t.Context(), member.Act{By: "test"}, spec("b", a))
	if !member.IsRefusal(err, member.Unsafe) || !strings.Contains(err.Error(), "the same device as a: both have the serial number TWICE") {
		t.Fatalf("added: %v", err)
	}
	if err := c.Add(t.Context(), member.Act{By: "test", Force: true}, spec("b", a)); err != nil {
		t.Fatal(err)
	}
	both := func(c *hsmclient.Cluster) {
		t.Helper()
		waitStates(t, c, map[string]member.State{"a": member.Working, "b": member.Working})
		for _, s := range c.Members() {
			if !strings.Contains(s.Warning, "serial number TWICE") {
				t.Errorf("%s: %q", s.Spec.Name, s.Warning)
			}
		}
	}
	both(c)
	both(start(t, hsmclient.Config{Members: []member.Spec{spec("a", a), spec("b", a)}, Probing: quick}))
}

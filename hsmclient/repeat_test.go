package hsmclient_test

import (
	"context"
	"testing"

	"github.com/keyward/keyward/hsmclient"
	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/member"
	"github.com/keyward/keyward/sim/hsm"
)

// pair starts two devices and a cluster in which both work.
func pair(t *testing.T, cfg hsmclient.Config) (c *hsmclient.Cluster, a, b *hsm.Device) {
	t.Helper()
	a, b = device(t, hsm.Config{}), device(t, hsm.Config{})
	cfg.Members = []member.Spec{spec("a", a), spec("b", b)}
	c = start(t, cfg)
	waitStates(t, c, map[string]member.State{"a": member.Working, "b": member.Working})
	return c, a, b
}

// waitStates waits until the members are in these states.
func waitStates(t testing.TB, c *hsmclient.Cluster, want map[string]member.State) {
	t.Helper()
	eventually(t, "the members are as they should be", func() bool {
		for name, state := range want {
			if s, err := c.Member(name); err != nil || s.State != state {
				return false
			}
		}
		return true
	})
}

// A member's fault is repeated once on another member, the caller's never, a missing licence on another member too.
func TestRepeats(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]struct {
		codeA, codeB string
		want         command.Class // 0: no error
		sent         int           // to both members together, for one command
	}{
		"fault of one":     {"41", "", 0, 2},
		"no licence":       {"68", "", 0, 2},
		"fault of both":    {"41", "42", command.MemberFault, 2},
		"no licence twice": {"67", "68", command.NoLicence, 2},
		"licence, fault":   {"68", "41", command.MemberFault, 2},
		"the caller's":     {"15", "15", command.CallerFault, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, a, b := pair(t, hsmclient.Config{})
			if err := c.Modify(member.Act{By: "test"}, "b", member.Change{Priority: ptr(2)}); err != nil { // a is asked first
				t.Fatal(err)
			}
			setFaults(t, a, hsm.Faults{ErrorCodes: map[string]string{"N0": s.codeA}})
			if s.codeB != "" {
				setFaults(t, b, hsm.Faults{ErrorCodes: map[string]string{"N0": s.codeB}})
			}
			_, err := c.Random(context.Background(), 8)
			if (err == nil) != (s.want == 0) || err != nil && command.ClassOf(err) != s.want {
				t.Errorf("got %v", err)
			}
			eventually(t, "the devices have noted the commands", func() bool { return count(a, "N0")+count(b, "N0") >= s.sent })
			if sent := count(a, "N0") + count(b, "N0"); sent != s.sent {
				t.Errorf("%d commands were sent, want %d", sent, s.sent)
			}
		})
	}
}

// A command is sent twice at most, however many members there are.
func TestRepeatedOnce(t *testing.T) {
	t.Parallel()
	var specs []member.Spec
	var devices []*fakeDevice
	for _, name := range []string{"a", "b", "c", "d"} {
		d := newFakeDevice(t)
		devices, specs = append(devices, d), append(specs, fakeSpec(name, d))
	}
	c := startFakes(t, hsmclient.Config{Probing: calm}, specs...)
	for _, d := range devices {
		d.answer(func(code, _ string, _ int) string {
			if code == "RD" {
				return "41"
			}
			return "00"
		})
	}
	if err := randoms(c); command.ClassOf(err) != command.MemberFault {
		t.Errorf("got %v", err)
	}
	sent := 0
	for _, d := range devices {
		sent += d.count("RD8")
	}
	if sent != 2 {
		t.Errorf("sent %d times, want twice", sent)
	}
}

func ptr[T any](v T) *T { return &v }

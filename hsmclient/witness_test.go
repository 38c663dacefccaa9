package hsmclient_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/keyward/keyward/hsmclient"
	"github.com/keyward/keyward/hsmclient/member"
	"github.com/keyward/keyward/sim/hsm"
)

// A device without the LMK can repeat the check value, the firmware and the answer to the known-answer test, but not MAC what it has
// never seen: the witness, another member, gives it away. It gets no command. A genuine one is admitted beside it.
func TestWitness(t *testing.T) {
	t.Parallel()
	genuine, second, behind := device(t, hsm.Config{}), device(t, hsm.Config{}), device(t, hsm.Config{})
	// Before the proxy nobody can see that the device behind it is genuine: its MACs are spoilt, all else is as it should be.
	p := newProxy(t, behind.Addr("all").String())
	spoil := func(f []byte) ([]byte, bool) {
		if at := bytes.Index(f, []byte("M700")); at == 6 { // length 2, label 4
			f[at+4] = '0' + (f[at+4]-'0'+1)%10
		}
		return f, false
	}
	p.damage.Store(&spoil)
	false1 := spec("false", behind)
	false1.Addr = p.listener.Addr().String()
	cfg := hsmclient.Config{
		Members: []member.Spec{spec("a", genuine)}, Probing: hsmclient.Probing{Every: time.Hour},
		Domains: []hsmclient.Domain{{Name: domain, Canary: tdesKey(t, genuine)}},
	}
	c := start(t, cfg)
	if err := c.Add(t.Context(), member.Act{By: "test"}, false1); !member.IsRefusal(err, member.Unsafe) && !member.IsRefusal(err, member.Invalid) && !member.IsRefusal(err, member.Conflict) {
		t.Errorf("added without force: %v", err)
	}
	if err := c.Add(t.Context(), member.Act{By: "test", Force: true}, false1); err != nil {
		t.Fatal(err)
	}
	waitStates(t, c, map[string]member.State{"false": member.Fenced})
	if s, _ := c.Member("false"); !strings.Contains(s.Reason, "the MACs of false and a over the same data differ") {
		t.Errorf("the reason is %q", s.Reason)
	}
	if err := c.Add(t.Context(), member.Act{By: "test"}, spec("b", second)); err != nil {
		t.Fatal(err)
	}
	waitStates(t, c, map[string]member.State{"a": member.Working, "b": member.Working})
	for range 20 {
		if err := randoms(c); err != nil {
			t.Fatal(err)
		}
	}
	if n := count(behind, "N0"); n > 0 {
		t.Errorf("the false device got %d commands", n)
	}
	if count(behind, "M6") == 0 || count(second, "M6") == 0 {
		t.Error("no MAC was asked for")
	}
}

// Members that start together: one is admitted first, and is the witness of the others.
func TestWitnessAtStart(t *testing.T) {
	t.Parallel()
	var devices []*hsm.Device
	var specs []member.Spec
	for _, name := range []string{"a", "b", "c"} {
		d := device(t, hsm.Config{})
		devices = append(devices, d)
		specs = append(specs, spec(name, d))
	}
	c := start(t, hsmclient.Config{
		Members: specs, Probing: hsmclient.Probing{Every: time.Hour}, Domains: []hsmclient.Domain{{Name: domain, Canary: tdesKey(t, devices[0])}},
	})
	waitStates(t, c, map[string]member.State{"a": member.Working, "b": member.Working, "c": member.Working})
	asked := 0
	for _, d := range devices {
		asked += count(d, "M6")
	}
	if asked < 4 {
		t.Errorf("%d MACs in all: two members need a witness, two MACs each", asked)
	}
}

package hsmclient_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/keyward/keyward/hsmclient"
	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/member"
	"github.com/keyward/keyward/sim/hsm"
)

// spoilMACs makes every MAC that comes through a proxy another one; all else is as it should be.
func spoilMACs(p *proxy) {
	spoil := func(f []byte) ([]byte, bool) {
		if at := bytes.Index(f, []byte("M700")); at == 6 { // length 2, label 4
			f[at+4] = "123456789ABCDEF0"[strings.IndexByte("0123456789ABCDEF", f[at+4])]
		}
		return f, false
	}
	p.damage.Store(&spoil)
}

// proxied starts members a, b, … of one LMK domain with a canary key, all working, the last of them behind a proxy.
func proxied(t *testing.T, n int) (*hsmclient.Cluster, *proxy) {
	t.Helper()
	var specs []member.Spec
	want := map[string]member.State{}
	var d *hsm.Device
	for i := range n {
		d = device(t, hsm.Config{})
		s := spec(string(rune('a'+i)), d)
		specs = append(specs, s)
		want[s.Name] = member.Working
	}
	p := newProxy(t, d.Addr("all").String())
	specs[n-1].Addr = p.listener.Addr().String()
	c := start(t, hsmclient.Config{Members: specs, Probing: quick, Domains: []hsmclient.Domain{{Name: domain, Canary: tdesKey(t, d)}}})
	waitStates(t, c, want)
	return c, p
}

// A device that begins to compute wrongly is found by its heartbeats: it fails the known-answer test, whoever looked at it.
func TestWrongResultsAreFoundByHeartbeats(t *testing.T) {
	t.Parallel()
	a, b := device(t, hsm.Config{}), device(t, hsm.Config{})
	c := start(t, hsmclient.Config{Members: []member.Spec{spec("a", a), spec("b", b)}, Probing: quick, Domains: []hsmclient.Domain{{Name: domain, Canary: tdesKey(t, a)}}})
	waitStates(t, c, map[string]member.State{"a": member.Working, "b": member.Working})
	setFaults(t, b, hsm.Faults{WrongResultEvery: 1})
	waitStates(t, c, map[string]member.State{"a": member.Working, "b": member.Fenced})
	if s, _ := c.Member("b"); !strings.Contains(s.Reason, "known-answer test") {
		t.Errorf("the reason is %q", s.Reason)
	}
	setFaults(t, b, hsm.Faults{})
	waitStates(t, c, map[string]member.State{"a": member.Working, "b": member.Standby})
}

// Three members, one of which computes wrong MACs though it passes its known-answer test: the minority is fenced, whichever of them is
// examined first.
func TestMinorityIsFenced(t *testing.T) {
	t.Parallel()
	c, p := proxied(t, 3)
	spoilMACs(p)
	waitStates(t, c, map[string]member.State{"a": member.Working, "b": member.Working, "c": member.Fenced})
	if s, _ := c.Member("c"); !strings.Contains(s.Reason, "over the same data differ") || !strings.Contains(s.Reason, "computes as") {
		t.Errorf("the reason is %q", s.Reason)
	}
}

// Of two nobody knows which one is wrong: both serve on and both are alarmed about, until they agree again.
func TestTwoThatDisagree(t *testing.T) {
	t.Parallel()
	c, p := proxied(t, 2)
	spoilMACs(p)
	warned := func(want bool) func() bool {
		return func() bool {
			for _, s := range c.Members() {
				if s.State != member.Working {
					t.Fatalf("%s is %s: %s", s.Spec.Name, s.State, s.Reason)
				}
				if strings.Contains(s.Warning, "its MACs differ") != want {
					return false
				}
			}
			return true
		}
	}
	eventually(t, "both are warned about", warned(true))
	if result, err := c.Probe(t.Context(), "a"); err != nil || result.State != member.Working {
		t.Errorf("a probe of the one that may be right: %+v, %v", result, err)
	}
	p.damage.Store(nil)
	eventually(t, "the warnings are gone", warned(false))
}

// seldom is a rhythm without heartbeats during a test.
var seldom = hsmclient.Probing{Every: time.Hour}

// twoWithKeys starts two members without heartbeats and gives a MAC under a key of theirs.
func twoWithKeys(t *testing.T) (c *hsmclient.Cluster, a, b *hsm.Device, in command.MACInput) {
	t.Helper()
	a, b = device(t, hsm.Config{}), device(t, hsm.Config{})
	key := tdesKey(t, a)
	c = start(t, hsmclient.Config{
		Members: []member.Spec{spec("a", a), spec("b", b)}, Probing: seldom, Domains: []hsmclient.Domain{{Name: domain, LMKCheck: hsmclient.TestLMKCheck, Canary: key}},
	})
	waitStates(t, c, map[string]member.State{"a": member.Working, "b": member.Working})
	return c, a, b, command.MACInput{Key: key, Algorithm: command.MACAlg3, Data: []byte("0123456789ABCDEF")}
}

// A device whose LMK is another one than a moment ago: no request is lost, the first code that speaks of it has the device examined.
func TestWrongLMKCostsNoRequest(t *testing.T) {
	t.Parallel()
	c, _, b, in := twoWithKeys(t)
	setFaults(t, b, hsm.Faults{LMKSeed: "another"})
	for range 20 {
		if _, err := c.MAC(t.Context(), in); err != nil {
			t.Error(err)
		}
	}
	waitStates(t, c, map[string]member.State{"a": member.Working, "b": member.Fenced})
}

// A bad key of the caller gets the same code from both members: it is asked for twice, and nobody is examined.
func TestBadKeyIsTheCallers(t *testing.T) {
	t.Parallel()
	c, a, b, in := twoWithKeys(t)
	in.Key.Cryptogram = "U" + strings.Repeat("0123456789ABCDEF", 2)
	in.Key.KCV = ""
	examined, asked := count(a, "NC")+count(b, "NC"), count(a, "M6")+count(b, "M6")
	_, err := c.MAC(t.Context(), in)
	if command.ClassOf(err) != command.CallerFault {
		t.Fatal(err)
	}
	if n := count(a, "M6") + count(b, "M6") - asked; n != 2 {
		t.Errorf("the device was asked %d times", n)
	}
	if n := count(a, "NC") + count(b, "NC") - examined; n != 0 {
		t.Errorf("%d examinations", n)
	}
}

// MACs that do not verify on one member alone have it examined; those of a forger, which verify nowhere, do not.
func TestRunOfMismatches(t *testing.T) {
	t.Parallel()
	c, a, b, in := twoWithKeys(t)
	mac, err := c.MAC(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	examined := count(a, "NC") + count(b, "NC")
	for range 30 {
		if ok, err := c.VerifyMAC(t.Context(), in, make([]byte, len(mac))); ok || err != nil {
			t.Fatal(ok, err)
		}
	}
	if n := count(a, "NC") + count(b, "NC") - examined; n != 0 {
		t.Errorf("%d examinations for a forger", n)
	}
	setFaults(t, b, hsm.Faults{WrongResultEvery: 1})
	eventually(t, "the member is fenced", func() bool {
		if _, err := c.VerifyMAC(t.Context(), in, mac); err != nil {
			t.Fatal(err)
		}
		s, err := c.Member("b")
		return err == nil && s.State == member.Fenced
	})
}

package hsmclient_test

import (
	"context"
	"strings"
	"testing"

	"github.com/keyward/keyward/hsmclient"
	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/driver"
	"github.com/keyward/keyward/hsmclient/member"
	"github.com/keyward/keyward/hsmclient/racal"
	"github.com/keyward/keyward/sim/hsm"
)

// A member whose settings are for keys of another form than its domain's is refused, forced or not, in a list and in the configuration.
func TestOtherKeyFormIsRefused(t *testing.T) {
	t.Parallel()
	a, b := device(t, hsm.Config{}), device(t, hsm.Config{})
	c := start(t, hsmclient.Config{Members: []member.Spec{spec("a", a)}})
	for name, settings := range map[string]map[string]string{
		"key blocks": {"lmk": "keyblock"}, "types": {"legacy_types": "true"}, "set": {"variant_set": "sjj1310"},
	} {
		other := spec("b", b)
		other.Settings = settings
		for _, force := range []bool{false, true} {
			err := c.Add(t.Context(), member.Act{By: "test", Force: force}, other)
			if !member.IsRefusal(err, member.Conflict) || !strings.Contains(err.Error(), "but a of LMK domain test works with keys under a variant LMK (lmk variant)") {
				t.Errorf("%s, forced %t: %v", name, force, err)
			}
		}
		if err := c.Apply(t.Context(), act, []member.Spec{spec("a", a), other}); !member.IsRefusal(err, member.Conflict) {
			t.Errorf("%s in a list: %v", name, err)
		}
		cfg := hsmclient.Config{Domains: []hsmclient.Domain{{Name: domain}}, Drivers: map[string]driver.Maker{"racal": racal.Make}, Members: []member.Spec{spec("a", a), other}}
		if _, err := hsmclient.New(cfg); !member.IsRefusal(err, member.Conflict) {
			t.Errorf("%s in the configuration: %v", name, err)
		}
	}
	if n := len(c.Members()); n != 1 {
		t.Errorf("%d members", n)
	}
}

// secretive is a driver that does not tell the form of its keys.
type secretive struct {
	driver.Driver
	driver.Opener
	driver.MACer
}

// What a driver refuses for its member's own settings is asked of another member, and counted on the one that refused.
func TestRefusalOfAMemberIsNotTheCallers(t *testing.T) {
	t.Parallel()
	a, b := device(t, hsm.Config{}), device(t, hsm.Config{})
	wrong := spec("b", b)
	wrong.Settings = map[string]string{"lmk": "keyblock"}
	c := start(t, hsmclient.Config{Members: []member.Spec{spec("a", a), wrong}, Probing: seldom, Drivers: map[string]driver.Maker{"racal": func(s map[string]string) (driver.Driver, error) {
		d, err := racal.Make(s)
		opener, _ := d.(driver.Opener)
		macer, _ := d.(driver.MACer)
		return secretive{d, opener, macer}, err
	}}})
	waitStates(t, c, map[string]member.State{"a": member.Working, "b": member.Working})
	in := command.MACInput{Key: tdesKey(t, a), Algorithm: command.MACAlg3, Data: []byte("01234567")}
	for range 10 {
		if _, err := c.MAC(context.Background(), in); err != nil {
			t.Fatal(err)
		}
	}
	if s, err := c.Member("b"); err != nil || s.Traffic.Failed["no_licence"] == 0 {
		t.Errorf("not counted: %+v, %v", s.Traffic, err)
	}
}

// An address that no device can have is refused, forced or not.
func TestAddressWithoutAPort(t *testing.T) {
	t.Parallel()
	a := device(t, hsm.Config{})
	c := start(t, hsmclient.Config{Members: []member.Spec{spec("a", a)}})
	for _, addr := range []string{"10.3.0.14", ":1500", "10.3.0.14:", "10.3.0.14:x", "10.3.0.14:70000"} {
		s := spec("b", a)
		s.Addr = addr
		if err := c.Add(t.Context(), member.Act{By: "test", Force: true}, s); !member.IsRefusal(err, member.Invalid) {
			t.Errorf("%s: %v", addr, err)
		}
	}
}

// A connection that fails is told with its address once.
func TestAddressIsSaidOnce(t *testing.T) {
	t.Parallel()
	a, gone := device(t, hsm.Config{}), newProxy(t, "")
	c := start(t, hsmclient.Config{Members: []member.Spec{spec("a", a)}})
	dead := spec("b", a)
	dead.Addr = gone.listener.Addr().String()
	if err := gone.listener.Close(); err != nil {
		t.Fatal(err)
	}
	err := c.Add(t.Context(), member.Act{By: "test"}, dead)
	if !member.IsRefusal(err, member.Unsafe) || strings.Count(err.Error(), dead.Addr) != 1 || strings.Count(err.Error(), "connection refused") != 1 {
		t.Error(err)
	}
}

package hsmconfig_test

import (
	"strings"
	"testing"

	"github.com/keyward/keyward/hsmclient/member"
	"github.com/keyward/keyward/internal/hsmconfig"
	"github.com/keyward/keyward/internal/service"
)

// TestJoining: a member that an operator adds or a saved list names is where the configuration wants devices, and no library is loaded that
// it does not name.
func TestJoining(t *testing.T) {
	t.Parallel()
	configured := []member.Spec{{Name: "a", Addr: "10.1.0.1:1500"}, {Name: "t", Addr: "/usr/lib/token.so"}}
	places := []string{"10.3.0.0/24", "hsm.internal", "fd00::/8", "/opt/vendor/p11.so"}
	for _, test := range []struct {
		addr        string
		free, bound bool // without and with places
	}{
		{"10.3.0.7:1500", true, true}, {"10.4.0.7:1500", true, false}, {"10.1.0.1:1501", true, true}, {"HSM.internal:1500", true, true},
		{"evil.hsm.internal:1500", true, false}, {"[fd00::1]:1500", true, true}, {"[::ffff:10.3.0.7]:1500", true, true}, {"[2001:db8::1]:1500", true, false},
		{"/usr/lib/token.so", true, true}, {"/usr/lib/../lib/token.so", true, true}, {"/opt/vendor/p11.so", false, true}, {"/tmp/evil.so", false, false},
		{"/opt/vendor/p11.so/../evil.so", false, false}, {"/tmp/evil.so:1", false, false},
	} {
		for named, want := range map[bool]bool{false: test.free, true: test.bound} {
			c := hsmconfig.Config{}
			if named {
				c.Places = places
			}
			err := c.Joining(service.Dev, configured)(member.Spec{Name: "x", Addr: test.addr})
			if (err == nil) != want || err != nil && !strings.Contains(err.Error(), "hsm.places") {
				t.Errorf("%s, places named: %v: %v", test.addr, named, err)
			}
		}
	}
	c := hsmconfig.Config{Places: places}
	if err := c.Joining(service.Production, nil)(member.Spec{Name: "x", Addr: "10.3.0.7:1500"}); err == nil || !strings.Contains(err.Error(), "is plain") {
		t.Errorf("a plain line in production: %v", err)
	}
}

// TestLineOfJoining: in production a member's own word for its line does not count, whoever wrote it.
func TestLineOfJoining(t *testing.T) {
	t.Parallel()
	files := func(ca, name string) *member.TLS {
		return &member.TLS{Cert: "/etc/c.pem", Key: "/etc/c.key", CA: ca, ServerName: name}
	}
	configured := []member.Spec{
		{Name: "a", Addr: "10.3.0.1:1500", Private: true}, {Name: "b", Addr: "10.3.0.2:2500", TLS: files("/etc/hsm-ca.pem", "b.hsm")},
		{Name: "t", Addr: "/usr/lib/token.so"},
	}
	c := hsmconfig.Config{
		Places: []string{"10.3.0.0/24"}, PrivatePlaces: []string{"10.9.0.0/24", "cage.internal"},
		TLS: &hsmconfig.TLS{CA: "/etc/group-ca.pem"},
	}
	const private, tls, place = "hsm.private_places", "its tls is not the configuration's", "hsm.places"
	for _, test := range []struct {
		name string
		spec member.Spec
		want string // in the refusal, empty: let in
	}{
		{"a configured member on a private line", configured[0], ""},
		{"its host, another port", member.Spec{Addr: "10.3.0.1:1501", Private: true}, ""},
		{"declares its own line private", member.Spec{Addr: "10.3.0.7:1500", Private: true}, private},
		{"a configured member by TLS turned plain", member.Spec{Addr: "10.3.0.2:2500", Private: true}, private},
		{"in a private network", member.Spec{Addr: "10.9.0.7:1500", Private: true}, ""},
		{"at a private host", member.Spec{Addr: "cage.internal:1500", Private: true}, ""},
		{"a plain line in a private network, not declared", member.Spec{Addr: "10.9.0.7:1500"}, "is plain"},
		{"elsewhere", member.Spec{Addr: "10.4.0.7:1500", Private: true}, place},
		{"files of a configured member", member.Spec{Addr: "10.3.0.7:2500", TLS: files("/etc/hsm-ca.pem", "")}, ""},
		{"and its name", member.Spec{Addr: "10.3.0.7:2500", TLS: files("/etc/hsm-ca.pem", "b.hsm")}, ""},
		{"and another name", member.Spec{Addr: "10.3.0.7:2500", TLS: files("/etc/hsm-ca.pem", "posv")}, tls},
		{"another authority", member.Spec{Addr: "10.3.0.7:2500", TLS: files("/tmp/own-ca.pem", "")}, tls},
		{"files of two", member.Spec{Addr: "10.3.0.7:2500", TLS: files("/etc/group-ca.pem", "")}, tls},
		{"the files of the group", member.Spec{Addr: "10.3.0.7:2500", TLS: &member.TLS{CA: "/etc/group-ca.pem"}}, ""},
		{"another authority in a private network", member.Spec{Addr: "10.9.0.7:2500", Private: true, TLS: files("/tmp/own-ca.pem", "")}, tls},
		{"a configured library", configured[2], ""},
	} {
		test.spec.Name = "x"
		err := c.Joining(service.Production, configured)(test.spec)
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
		if err := (hsmconfig.Config{}).Joining(service.Dev, configured)(test.spec); err != nil {
			t.Errorf("%s, outside production: %v", test.name, err)
		}
	}
	// Without places a device may be anywhere, but its line is still not its own matter.
	open := hsmconfig.Config{}.Joining(service.Production, configured)
	if err := open(member.Spec{Name: "x", Addr: "10.4.0.7:1500", Private: true}); err == nil || !strings.Contains(err.Error(), private) {
		t.Errorf("a private line without places: %v", err)
	}
	if err := open(member.Spec{Name: "x", Addr: "10.4.0.7:2500", TLS: files("/etc/hsm-ca.pem", "")}); err != nil {
		t.Errorf("TLS without places: %v", err)
	}
}

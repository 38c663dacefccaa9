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

package hsmclient_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyward/keyward/hsmclient"
	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/driver"
	"github.com/keyward/keyward/hsmclient/member"
	"github.com/keyward/keyward/hsmclient/racal"
	"github.com/keyward/keyward/keys"
	"github.com/keyward/keyward/keys/secret"
	"github.com/keyward/keyward/sim/hsm"
)

// tdesKey is a published test key with its check value.
func tdesKey(t testing.TB, d *hsm.Device) keys.Wrapped {
	t.Helper()
	key := wrapOn(d)(t, keys.MACKey, keys.TDES, secret.New([]byte("\x01\x23\x45\x67\x89\xAB\xCD\xEF\xFE\xDC\xBA\x98\x76\x54\x32\x10")))
	key.KCV = "08D7B4FB629D0885"
	return key
}

// fencedWith waits until a member is fenced and looks at the reason, and at what callers are told.
func fencedWith(t *testing.T, c *hsmclient.Cluster, name string, want ...string) {
	t.Helper()
	waitStates(t, c, map[string]member.State{name: member.Fenced})
	s, err := c.Member(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range want {
		if !strings.Contains(s.Reason, w) {
			t.Errorf("the reason lacks %q: %s", w, s.Reason)
		}
	}
	if err := randoms(c); command.ClassOf(err) != command.Unavailable || !strings.Contains(err.Error(), want[0]) {
		t.Errorf("a command says: %v", err)
	}
}

// Another LMK, the public test LMK where it is refused, a firmware that is not on the list, and a wrong answer to the known-answer
// test: the member is fenced and gets nothing.
func TestFencing(t *testing.T) {
	t.Parallel()
	canary := func(d *hsm.Device, kcv keys.KCV) keys.Wrapped {
		key := tdesKey(t, d)
		key.KCV = kcv
		return key
	}
	for name, c := range map[string]struct {
		device hsm.Config
		domain func(*hsm.Device) hsmclient.Domain
		refuse bool
		want   []string
	}{
		"public test LMK": {refuse: true, want: []string{"public test LMK", "2686047444912422"}},
		"public test LMK for key blocks": {device: hsm.Config{LMKSeed: "another", DefaultLMK: "01"}, refuse: true,
			want: []string{"public test LMK", "DB3FB663EE8D2B66"}},
		"another LMK": {device: hsm.Config{LMKSeed: "another"}, domain: func(*hsm.Device) hsmclient.Domain {
			return hsmclient.Domain{LMKCheck: hsmclient.TestLMKCheck}
		}, want: []string{"LMK check value", "domain test has 2686047444912422"}},
		"firmware": {domain: func(*hsm.Device) hsmclient.Domain { return hsmclient.Domain{Firmware: []string{"0001-08*", "0002-*"}} },
			want: []string{`firmware "0001-0900"`, "0001-08*, 0002-*"}},
		"canary, other value": {domain: func(d *hsm.Device) hsmclient.Domain {
			return hsmclient.Domain{Canary: canary(d, "0000000000000000")}
		}, want: []string{"known-answer test", "another check value"}},
		"canary, refused": {domain: func(d *hsm.Device) hsmclient.Domain {
			key := canary(d, "08D7B4FB629D0885")
			key.Cryptogram = "U" + strings.Repeat("0123456789ABCDEF", 2)
			return hsmclient.Domain{Canary: key}
		}, want: []string{"known-answer test", "it answered"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := device(t, c.device)
			domainOf := hsmclient.Domain{}
			if c.domain != nil {
				domainOf = c.domain(d)
			}
			domainOf.Name = domain
			cluster := begin(t, hsmclient.Config{Members: []member.Spec{spec("a", d)}, RefuseTestLMK: c.refuse, Domains: []hsmclient.Domain{domainOf}})
			fencedWith(t, cluster, "a", c.want...)
			if n := count(d, "N0"); n > 0 {
				t.Errorf("it got %d commands", n)
			}
		})
	}
}

// Firmware on the list, one of several, and a canary key that computes right: the member is admitted after as many passes as configured.
func TestAdmission(t *testing.T) {
	t.Parallel()
	d := device(t, hsm.Config{})
	key := tdesKey(t, d)
	s := spec("a", d)
	s.Probe = "B2"
	c := start(t, hsmclient.Config{
		Members: []member.Spec{s}, Probing: hsmclient.Probing{AdmitTimes: 5, Every: time.Hour},
		Domains: []hsmclient.Domain{{Name: domain, Firmware: []string{"9999-*", "0001-0900"}, Canary: key}},
	})
	eventually(t, "the device has noted five known-answer tests", func() bool { return count(d, "BU") == 5 })
	got, err := c.Member("a")
	if err != nil || got.State != member.Working || got.Device.Firmware != "0001-0900" || got.Device.LMKCheck != hsmclient.TestLMKCheck {
		t.Errorf("%+v, %v", got, err)
	}
}

// Without a configured value the first member's counts; one that deviates gets no work.
func TestDeviatingMemberGetsNoWork(t *testing.T) {
	t.Parallel()
	a, b := device(t, hsm.Config{}), device(t, hsm.Config{LMKSeed: "another"})
	setFaults(t, b, hsm.Faults{Refuse: true})
	c := start(t, hsmclient.Config{Members: []member.Spec{spec("a", a), spec("b", b)}})
	setFaults(t, b, hsm.Faults{})
	waitStates(t, c, map[string]member.State{"b": member.Fenced})
	for range 20 {
		if err := randoms(c); err != nil {
			t.Fatal(err)
		}
	}
	if n := count(b, "N0"); n > 0 {
		t.Errorf("the deviating member got %d commands", n)
	}
}

// An LMK that changes while the member is connected is found by the heartbeat. It leaves the fence, as standby, when the LMK is right
// again; standby is engaged because nobody else is there.
func TestChangedLMKIsFound(t *testing.T) {
	t.Parallel()
	d := device(t, hsm.Config{})
	c := start(t, hsmclient.Config{Members: []member.Spec{spec("a", d)}, Probing: quick})
	setFaults(t, d, hsm.Faults{LMKSeed: "another"})
	fencedWith(t, c, "a", "LMK check value")
	setFaults(t, d, hsm.Faults{})
	waitStates(t, c, map[string]member.State{"a": member.Standby})
	eventually(t, "it works again", func() bool { return randoms(c) == nil })
	if e := c.Engine(); !e.Domains[0].StandbyEngaged {
		t.Errorf("standby is not engaged: %+v", e.Domains)
	}
}

// quick is a rhythm for tests that wait for probing.
var quick = hsmclient.Probing{Every: 50 * time.Millisecond, Timeout: 500 * time.Millisecond, BackoffMin: 20 * time.Millisecond, BackoffMax: 100 * time.Millisecond}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	good := func() hsmclient.Config {
		return hsmclient.Config{Domains: []hsmclient.Domain{{Name: "d"}}, Drivers: map[string]driver.Maker{"racal": racal.Make},
			Members: []member.Spec{{Name: "a", Addr: "127.0.0.1:1"}}}
	}
	for name, change := range map[string]func(*hsmclient.Config){
		"no domain":             func(c *hsmclient.Config) { c.Domains = nil },
		"domain, no name":       func(c *hsmclient.Config) { c.Domains[0].Name = "" },
		"domain twice":          func(c *hsmclient.Config) { c.Domains = append(c.Domains, c.Domains[0]) },
		"unknown default":       func(c *hsmclient.Config) { c.DefaultDomain = "x" },
		"no driver":             func(c *hsmclient.Config) { c.Drivers = nil },
		"unknown driver":        func(c *hsmclient.Config) { c.Members[0].Driver = "x" },
		"unknown setting":       func(c *hsmclient.Config) { c.Members[0].Settings = map[string]string{"x": "y"} },
		"member, no name":       func(c *hsmclient.Config) { c.Members[0].Name = "" },
		"member, odd name":      func(c *hsmclient.Config) { c.Members[0].Name = "a b" },
		"member, no addr":       func(c *hsmclient.Config) { c.Members[0].Addr = "" },
		"member, other domain":  func(c *hsmclient.Config) { c.Members[0].Domain = "x" },
		"same name twice":       func(c *hsmclient.Config) { c.Members = append(c.Members, c.Members[0]) },
		"too many channels":     func(c *hsmclient.Config) { c.Members[0].Channels = 64 },
		"no spare connection":   func(c *hsmclient.Config) { c.Members[0].Channels, c.Members[0].Connections = 4, 4 },
		"negative priority":     func(c *hsmclient.Config) { c.Members[0].Priority = -1 },
		"priority above":        func(c *hsmclient.Config) { c.Members[0].Priority = 17 },
		"role":                  func(c *hsmclient.Config) { c.Members[0].Role = member.Down },
		"probe command":         func(c *hsmclient.Config) { c.Members[0].Probe = "RA" },
		"TLS file missing":      func(c *hsmclient.Config) { c.Members[0].TLS = &member.TLS{CA: "no such file"} },
		"readmit":               func(c *hsmclient.Config) { c.Readmit = member.Fenced },
		"canary without value":  func(c *hsmclient.Config) { c.Domains[0].Canary = keys.Wrapped{Cryptogram: "U"} },
		"broken LMK check":      func(c *hsmclient.Config) { c.Domains[0].LMKCheck = "xyz" },
		"test LMK, refused":     func(c *hsmclient.Config) { c.Domains[0].LMKCheck, c.RefuseTestLMK = hsmclient.TestLMKCheck, true },
		"block test LMK":        func(c *hsmclient.Config) { c.Domains[0].LMKCheck, c.RefuseTestLMK = "DB3FB663EE8D2B66", true },
		"more than drivers can": func(c *hsmclient.Config) { c.Domains[0].Needs = command.CanStoreKey },
	} {
		cfg := good()
		change(&cfg)
		if _, err := hsmclient.New(cfg); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	reg := prometheus.NewRegistry()
	cfg := good()
	cfg.Registerer = reg
	one, err := hsmclient.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := hsmclient.New(cfg); err == nil {
		t.Error("two clusters of one name were registered")
	}
	if err := one.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if two, err := hsmclient.New(cfg); err != nil {
		t.Errorf("the names were not given back: %v", err)
	} else if err := two.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

// bare is a driver that can do nothing but diagnose.
type bare struct {
	driver.Driver
	driver.Opener
}

func TestLackingCapability(t *testing.T) {
	t.Parallel()
	d := device(t, hsm.Config{})
	c := start(t, hsmclient.Config{Members: []member.Spec{spec("a", d)}, Drivers: map[string]driver.Maker{"racal": func(map[string]string) (driver.Driver, error) {
		made, err := racal.Make(nil)
		opener, ok := made.(driver.Opener)
		if err != nil || !ok {
			return nil, fmt.Errorf("the driver opens no channels, or %w", err)
		}
		return bare{made, opener}, nil
	}}})
	_, err := c.CheckValue(t.Context(), keys.Wrapped{Domain: domain, Cryptogram: "U"})
	if command.ClassOf(err) != command.NoLicence {
		t.Errorf("got %v", err)
	}
	if _, err := c.Diagnose(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestLifecycle(t *testing.T) {
	t.Parallel()
	d := device(t, hsm.Config{})
	c, err := hsmclient.New(hsmclient.Config{Domains: []hsmclient.Domain{{Name: domain}}, Drivers: map[string]driver.Maker{"racal": racal.Make}, Members: []member.Spec{spec("a", d)}})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.Start(t.Context()); err == nil {
		t.Error("started twice")
	}
	waitMember(t, c)
	// Stop waits for the command in progress, refuses new ones, and is idempotent.
	setFaults(t, d, hsm.Faults{Hold: []string{"N0"}})
	inProgress, stopped := make(chan error, 1), make(chan error, 1)
	go func() { inProgress <- randoms(c) }()
	waitHeld(t, d)
	bounded, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	go func() { stopped <- c.Stop(bounded) }()
	eventually(t, "new commands are refused", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		_, err := c.Random(ctx, 8)
		return err != nil && strings.Contains(err.Error(), "stopped")
	})
	d.Release("N0")
	setFaults(t, d, hsm.Faults{})
	if err := <-inProgress; err != nil {
		t.Errorf("the command in progress: %v", err)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if err := c.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

// Stop does not wait for ever.
func TestStopIsBounded(t *testing.T) {
	t.Parallel()
	d := device(t, hsm.Config{})
	c, err := hsmclient.New(hsmclient.Config{Domains: []hsmclient.Domain{{Name: domain}}, Drivers: map[string]driver.Maker{"racal": racal.Make}, Members: []member.Spec{spec("a", d)}, Timeout: patience})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	waitMember(t, c)
	setFaults(t, d, hsm.Faults{Hold: []string{"N0"}})
	result := make(chan error, 1)
	go func() { result <- randoms(c) }()
	waitHeld(t, d)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := c.Stop(ctx); err == nil {
		t.Error("Stop did not say that a command was in progress")
	}
	if err := <-result; err == nil {
		t.Error("the command in progress succeeded without an answer")
	}
	if err := c.Stop(t.Context()); err != nil { // the rest
		t.Error(err)
	}
}

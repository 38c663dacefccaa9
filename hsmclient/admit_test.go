package hsmclient_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyward/keyward/hsmclient"
	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/driver"
	"github.com/keyward/keyward/hsmclient/racal"
	"github.com/keyward/keyward/keys"
	"github.com/keyward/keyward/sim/hsm"
)

// refusedWith waits until the client says why it has no member.
func refusedWith(t *testing.T, c *hsmclient.Client, want ...string) {
	t.Helper()
	eventually(t, "the refusal is told", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		err := c.Wait(ctx)
		if err == nil {
			return false
		}
		for _, w := range want {
			if !strings.Contains(err.Error(), w) {
				return false
			}
		}
		return true
	})
	if err := randoms(c); command.ClassOf(err) != command.Unavailable || !strings.Contains(err.Error(), want[0]) {
		t.Errorf("a command says: %v", err)
	}
}

func TestTestLMKIsRefused(t *testing.T) {
	t.Parallel()
	d := device(t, hsm.Config{})
	c := begin(t, hsmclient.Config{Members: []hsmclient.Member{member("a", d)}, RefuseTestLMK: true})
	refusedWith(t, c, "public test LMK", "2686047444912422", "a")
}

func TestOtherLMKIsRefused(t *testing.T) {
	t.Parallel()
	d := device(t, hsm.Config{LMKSeed: "another"})
	c := begin(t, hsmclient.Config{Members: []hsmclient.Member{member("a", d)}, LMKCheck: hsmclient.TestLMKCheck})
	refusedWith(t, c, "LMK check value", "domain test has 2686047444912422")
}

// Without a configured value the first member's counts; one that deviates gets no work.
func TestDeviatingMemberGetsNoWork(t *testing.T) {
	t.Parallel()
	a, b := device(t, hsm.Config{}), device(t, hsm.Config{LMKSeed: "another"})
	setFaults(t, b, hsm.Faults{Refuse: true})
	c := start(t, hsmclient.Config{Members: []hsmclient.Member{member("a", a), member("b", b)}})
	setFaults(t, b, hsm.Faults{})
	eventually(t, "b was diagnosed", func() bool { return count(b, "NC") > 0 })
	for range 20 {
		if err := randoms(c); err != nil {
			t.Fatal(err)
		}
	}
	if n := count(b, "N0"); n > 0 {
		t.Errorf("the deviating member got %d commands", n)
	}
}

// An LMK that changes while the member is connected is found by the sign of life.
func TestChangedLMKIsFound(t *testing.T) {
	t.Parallel()
	d := device(t, hsm.Config{})
	c := start(t, hsmclient.Config{Members: []hsmclient.Member{member("a", d)}, ProbeEvery: 30 * time.Millisecond})
	setFaults(t, d, hsm.Faults{LMKSeed: "another"})
	refusedWith(t, c, "LMK check value")
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	good := func() hsmclient.Config {
		return hsmclient.Config{Domain: "d", Driver: racal.New(racal.Options{}), Members: []hsmclient.Member{{Name: "a", Addr: "127.0.0.1:1"}}}
	}
	for name, change := range map[string]func(*hsmclient.Config){
		"no domain":         func(c *hsmclient.Config) { c.Domain = "" },
		"no driver":         func(c *hsmclient.Config) { c.Driver = nil },
		"no member":         func(c *hsmclient.Config) { c.Members = nil },
		"member, no name":   func(c *hsmclient.Config) { c.Members[0].Name = "" },
		"member, no addr":   func(c *hsmclient.Config) { c.Members[0].Addr = "" },
		"same name twice":   func(c *hsmclient.Config) { c.Members = append(c.Members, c.Members[0]) },
		"too many channels": func(c *hsmclient.Config) { c.Members[0].Channels = 65 },
		"broken LMK check":  func(c *hsmclient.Config) { c.LMKCheck = "xyz" },
		"test LMK, refused": func(c *hsmclient.Config) { c.LMKCheck, c.RefuseTestLMK = hsmclient.TestLMKCheck, true },
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
		t.Error("two clients of one name were registered")
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
type bare struct{ driver.Driver }

func TestLackingCapability(t *testing.T) {
	t.Parallel()
	d := device(t, hsm.Config{})
	c := start(t, hsmclient.Config{Driver: bare{racal.New(racal.Options{})}, Members: []hsmclient.Member{member("a", d)}})
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
	cfg := hsmclient.Config{Domain: domain, Driver: racal.New(racal.Options{}), Members: []hsmclient.Member{member("a", d)}}
	c, err := hsmclient.New(cfg)
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
	c, err := hsmclient.New(hsmclient.Config{Domain: domain, Driver: racal.New(racal.Options{}), Members: []hsmclient.Member{member("a", d)}, Timeout: patience})
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
}

package core_test

import (
	"context"
	"testing"
	"time"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/internal/posp/host/core"
	"github.com/keyward/keyward/internal/txn"
	"github.com/keyward/keyward/keys"
)

// awayDomain is an HSM without devices of one LMK domain.
type awayDomain struct {
	core.HSM
	domain string
	class  command.Class
}

func (a awayDomain) MAC(ctx context.Context, in command.MACInput) ([]byte, error) {
	if in.Key.Domain == a.domain {
		return nil, &command.Error{Class: a.class, Command: "M6"}
	}
	return a.HSM.MAC(ctx, in)
}

func (a awayDomain) VerifyMAC(ctx context.Context, in command.MACInput, expect []byte) (bool, error) {
	if in.Key.Domain == a.domain {
		return false, &command.Error{Class: a.class, Command: "M8"}
	}
	return a.HSM.VerifyMAC(ctx, in, expect)
}

// TestTwins: while keys move between LMK domains, the twin of the zone MAC key serves when its domain has no device, and the zone PIN key is
// given in the domain that is asked for.
func TestTwins(t *testing.T) {
	t.Parallel()
	twin := func(c *core.Config) {
		zpk, zak := c.ZPK, c.ZAK
		zpk.Domain, zak.Domain = "test-2", "test-2"
		c.ZPKTwins, c.ZAKTwins = keys.Twins{zpk}, keys.Twins{zak}
	}
	b := newBank(t)
	h := newHost(t, awayDomain{newHSM(t), "test", command.Unavailable}, b.Addr(), twin)
	for end := time.Now().Add(patience); h.Ready() != nil; time.Sleep(time.Millisecond) { // polling
		if time.Now().After(end) {
			t.Fatalf("not ready: %v", h.Ready())
		}
	}
	if r := h.Exchange(t.Context(), purchase(t, 1)); r.Outcome != txn.Answered || r.Reply.Code != "00" {
		t.Errorf("answered %+v", r)
	}
	for _, domain := range []string{"test", "test-2"} {
		if k, err := h.Zone().PINIn(domain); err != nil || k.Domain != domain || k.Usage != keys.ZonePIN {
			t.Errorf("in %s: %v, %v", domain, k, err)
		}
	}
	if _, err := h.Zone().PINIn("test-3"); err == nil {
		t.Error("a zone PIN key in a domain that nobody configured")
	}
	// A refusal of the key itself is not covered up.
	refused := newHost(t, awayDomain{newHSM(t), "test", command.CallerFault}, b.Addr(), twin)
	if r := refused.Exchange(t.Context(), purchase(t, 2)); r.Outcome != txn.NotSent {
		t.Errorf("answered %+v", r)
	}
	for name, change := range map[string]func(*core.Config){
		"same domain": func(c *core.Config) { c.ZPKTwins = keys.Twins{c.ZPK} },
		"zak as zpk":  func(c *core.Config) { c.ZPKTwins = c.ZAKTwins },
		"no key":      func(c *core.Config) { c.ZAKTwins = keys.Twins{{Domain: "x", Usage: keys.ZoneMAC}} },
	} {
		cfg := config("127.0.0.1:1")
		twin(&cfg)
		change(&cfg)
		if _, err := core.New(cfg, newHSM(t)); err == nil {
			t.Errorf("%s: made", name)
		}
	}
}

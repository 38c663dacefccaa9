package hsmclient_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/keyward/keyward/hsmclient"
	"github.com/keyward/keyward/hsmclient/driver"
	"github.com/keyward/keyward/hsmclient/hsmtest"
	"github.com/keyward/keyward/hsmclient/member"
	"github.com/keyward/keyward/hsmclient/racal"
	"github.com/keyward/keyward/keys"
	"github.com/keyward/keyward/keys/secret"
	"github.com/keyward/keyward/sim/hsm"
)

// TestMain looks for goroutines that were left behind. Toxiproxy leaves some of its own when a connection breaks while bytes are in its pipes.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/Shopify/toxiproxy/v2/toxics.(*ToxicStub).Run"),
		goleak.IgnoreAnyFunction("github.com/Shopify/toxiproxy/v2.(*ToxicLink).read"), goleak.IgnoreAnyFunction("github.com/Shopify/toxiproxy/v2.(*ToxicLink).write"))
}

const (
	domain = "test"
	// patience bounds every wait of a test; only a broken client needs it all.
	patience = 15 * time.Second
)

// serials gives every device its own number.
var serials atomic.Int32

// device starts a simulated HSM with one port that allows everything.
func device(tb testing.TB, cfg hsm.Config) *hsm.Device {
	tb.Helper()
	if cfg.Serial == "" {
		cfg.Serial = fmt.Sprintf("T%d", serials.Add(1))
	}
	cfg.Ports = []hsm.Port{{Name: "all", Addr: "127.0.0.1:0", Allow: hsm.AllCommands()}}
	d, err := hsm.New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	if err := d.Start(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := d.Stop(ctx); err != nil {
			tb.Error(err)
		}
	})
	return d
}

func setFaults(tb testing.TB, d *hsm.Device, f hsm.Faults) {
	tb.Helper()
	if err := d.SetFaults(f); err != nil {
		tb.Fatal(err)
	}
}

// spec names a device in a cluster's configuration.
func spec(name string, d *hsm.Device) member.Spec {
	return member.Spec{Name: name, Addr: d.Addr("all").String(), Channels: 1, Depth: 64}
}

// start makes and starts a client and waits for a member.
func start(tb testing.TB, cfg hsmclient.Config) *hsmclient.Cluster {
	tb.Helper()
	c := begin(tb, cfg)
	waitMember(tb, c)
	return c
}

// waitMember waits until a member is admitted.
func waitMember(tb testing.TB, c *hsmclient.Cluster) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	if err := c.Wait(ctx); err != nil {
		tb.Fatal(err)
	}
}

// waitHeld waits until the device withholds the answer of an N0.
func waitHeld(tb testing.TB, d *hsm.Device) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	if err := d.WaitHeld(ctx, "N0"); err != nil {
		tb.Fatalf("no N0 is withheld: %v", err)
	}
}

// begin is start without waiting.
func begin(tb testing.TB, cfg hsmclient.Config) *hsmclient.Cluster {
	tb.Helper()
	if cfg.Domains == nil {
		cfg.Domains = []hsmclient.Domain{{Name: domain}}
	}
	if cfg.Drivers == nil {
		cfg.Drivers = map[string]driver.Maker{"racal": racal.Make}
	}
	c, err := hsmclient.New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	if err := c.Start(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := c.Stop(ctx); err != nil {
			tb.Error(err)
		}
	})
	return c
}

// wrapOn is the key ceremony of a simulated device.
func wrapOn(d *hsm.Device) func(testing.TB, keys.Usage, keys.Algorithm, secret.Key) keys.Wrapped {
	return hsmtest.UnderVariantLMK(d, false).Wrap(domain)
}

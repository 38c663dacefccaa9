package hsmclient_test

import (
	"testing"

	"github.com/keyward/keyward/hsmclient"
	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/driver"
	"github.com/keyward/keyward/hsmclient/hsmtest"
	"github.com/keyward/keyward/hsmclient/member"
	"github.com/keyward/keyward/hsmclient/racal"
	"github.com/keyward/keyward/sim/hsm"
)

// TestConformance runs the suite over a cluster of two devices of one LMK, with each form of keys and each set of commands.
func TestConformance(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		device   hsm.Config
		settings map[string]string
		wrap     func(*hsm.Device) hsmtest.Ceremony
		old      func(*testing.T, *hsm.Device) hsmtest.Ceremony
		members  int
	}{
		"variant": {hsm.Config{LMKSeed: "another", OldLMKs: map[string]string{"00": "seed:before"}}, map[string]string{"old_domain": oldDomain}, underVariantLMK,
			func(t *testing.T, _ *hsm.Device) hsmtest.Ceremony {
				return underVariantLMK(device(t, hsm.Config{LMKSeed: "before"}))
			}, 2},
		"keyblock": {hsm.Config{LMKSeed: "another", BlockLMKSeed: "other"}, map[string]string{"lmk": "keyblock", "lmk_id": "01", "old_domain": oldDomain}, inKeyBlocks,
			func(_ *testing.T, d *hsm.Device) hsmtest.Ceremony { return underVariantLMK(d) }, 2},
		// A key that a device keeps is in that device alone.
		"sjj1310":  {hsm.Config{LMKSeed: "another", Set: "sjj1310"}, map[string]string{"variant_set": "sjj1310"}, underChineseLMK, nil, 1},
		"shuffled": {hsm.Config{LMKSeed: "another", Faults: hsm.Faults{Shuffle: true}}, nil, underVariantLMK, nil, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			hsmtest.Run(t, func(t *testing.T) hsmtest.Fixture {
				var members []member.Spec
				var d *hsm.Device
				for _, name := range []string{"hsm1", "hsm2"}[:c.members] {
					d = device(t, c.device)
					m := spec(name, d)
					m.Channels, m.Settings = 2, c.settings
					members = append(members, m)
				}
				wrap := c.wrap(d)
				f := hsmtest.Fixture{Client: start(t, hsmclient.Config{Members: members, RefuseTestLMK: true}), Can: claimed(t, c.settings), Domain: domain,
					Wrap: wrap.Wrap(domain), WrapMAC: wrap.WrapMAC(domain)}
				if c.old != nil {
					f.WrapOld = c.old(t, d).Wrap(oldDomain)
				}
				return f
			})
		})
	}
}

// oldDomain is the domain of the LMK in the devices' key-change storage.
const oldDomain = "before"

func underVariantLMK(d *hsm.Device) hsmtest.Ceremony { return hsmtest.UnderVariantLMK(d, false) }

func underChineseLMK(d *hsm.Device) hsmtest.Ceremony { return hsmtest.UnderVariantLMK(d, true) }

func inKeyBlocks(d *hsm.Device) hsmtest.Ceremony { return hsmtest.InKeyBlocks(d) }

// claimed is what the driver claims with these settings.
func claimed(t *testing.T, settings map[string]string) command.Capability {
	t.Helper()
	made, err := racal.Make(settings)
	if err != nil {
		t.Fatal(err)
	}
	capable, ok := made.(driver.Capable)
	if !ok {
		t.Fatal("the driver claims nothing")
	}
	return capable.Capabilities()
}

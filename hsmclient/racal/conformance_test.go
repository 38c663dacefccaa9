package racal_test

import (
	"context"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/driver"
	"github.com/keyward/keyward/hsmclient/hsmtest"
	"github.com/keyward/keyward/hsmclient/racal"
	"github.com/keyward/keyward/internal/vectors"
	"github.com/keyward/keyward/keys"
	"github.com/keyward/keyward/keys/secret"
	"github.com/keyward/keyward/sim/hsm"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	domain    = "test"
	oldDomain = "before"
	// patience bounds every wait of a test; only broken code needs it all.
	patience = 20 * time.Second
)

func variants(d *hsm.Device) hsmtest.Ceremony { return hsmtest.UnderVariantLMK(d, false) }

func chinese(d *hsm.Device) hsmtest.Ceremony { return hsmtest.UnderVariantLMK(d, true) }

func blocks(d *hsm.Device) hsmtest.Ceremony { return hsmtest.InKeyBlocks(d) }

// device starts a simulated HSM with one port that allows everything.
func device(tb testing.TB, cfg hsm.Config) *hsm.Device {
	tb.Helper()
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

// opener makes a driver from settings.
func opener(tb testing.TB, settings map[string]string) interface {
	driver.Driver
	driver.Opener
} {
	tb.Helper()
	made, err := racal.Make(settings)
	if err != nil {
		tb.Fatal(err)
	}
	d, ok := made.(interface {
		driver.Driver
		driver.Opener
	})
	if !ok {
		tb.Fatal("the driver opens no channels")
	}
	return d
}

// open makes a driver from settings and a channel to the device.
func open(tb testing.TB, d *hsm.Device, settings map[string]string, change ...func(*driver.Target)) hsmtest.Direct {
	tb.Helper()
	to := driver.Target{Name: "hsm1", Addr: d.Addr("all").String(), Depth: 8, FrameTimeout: patience}
	for _, f := range change {
		f(&to)
	}
	made := opener(tb, settings)
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	ch, err := made.Open(ctx, to)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { ch.Close(nil) })
	return hsmtest.Direct{Driver: made, Channel: ch, Domain: domain}
}

// TestConformance runs the suite with each form of keys, each set of commands and each framing.
func TestConformance(t *testing.T) {
	t.Parallel()
	bare := 0
	for name, c := range map[string]struct {
		device   hsm.Config
		settings map[string]string
		wrap     func(*hsm.Device) hsmtest.Ceremony
		old      func(*testing.T, *hsm.Device) hsmtest.Ceremony
	}{
		"variant": {hsm.Config{OldLMKs: map[string]string{"00": "seed:before"}}, map[string]string{"old_domain": oldDomain}, variants,
			func(t *testing.T, _ *hsm.Device) hsmtest.Ceremony {
				return variants(device(t, hsm.Config{LMKSeed: "before"}))
			}},
		"variant, plain to the zone": {hsm.Config{}, map[string]string{"zone_form": "plain"}, variants, nil},
		"keyblock": {hsm.Config{}, map[string]string{"lmk": "keyblock", "lmk_id": "01", "old_domain": oldDomain}, blocks,
			func(_ *testing.T, d *hsm.Device) hsmtest.Ceremony { return variants(d) }},
		"keyblock from keyblock": {hsm.Config{DefaultLMK: "01", OldLMKs: map[string]string{"01": "keyblock:before"}}, map[string]string{"lmk": "keyblock", "old_domain": oldDomain}, blocks,
			func(t *testing.T, _ *hsm.Device) hsmtest.Ceremony {
				return blocks(device(t, hsm.Config{BlockLMKSeed: "before"}))
			}},
		"sjj1310":               {hsm.Config{Set: "sjj1310"}, map[string]string{"variant_set": "sjj1310"}, chinese, nil},
		"no header":             {hsm.Config{HeaderLength: &bare}, map[string]string{"header_length": "0"}, variants, nil},
		"payload rule, no echo": {hsm.Config{LengthRule: "payload"}, map[string]string{"length_rule": "payload", "echo": "false"}, variants, nil},
		"shuffled":              {hsm.Config{Faults: hsm.Faults{Shuffle: true}}, nil, variants, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			hsmtest.Run(t, func(t *testing.T) hsmtest.Fixture {
				d := device(t, c.device)
				wrap, client := c.wrap(d), open(t, d, c.settings)
				capable, ok := client.Driver.(driver.Capable)
				if !ok {
					t.Fatal("the driver claims nothing")
				}
				f := hsmtest.Fixture{Client: client, Can: capable.Capabilities(), Domain: domain, Wrap: wrap.Wrap(domain),
					WrapMAC: wrap.WrapMAC(domain)}
				if c.old != nil {
					f.WrapOld = c.old(t, d).Wrap(oldDomain)
				}
				return f
			})
		})
	}
}

// What the simulated device says of itself.
func TestDiagnosis(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		device   hsm.Config
		settings map[string]string
		want     command.Diagnosis
	}{
		"variant":  {hsm.Config{}, nil, command.Diagnosis{LMKCheck: "2686047444912422", Firmware: "0001-0900", Serial: "SIM000000001"}},
		"keyblock": {hsm.Config{}, map[string]string{"lmk": "keyblock", "lmk_id": "01"}, command.Diagnosis{LMKCheck: "DB3FB663EE8D2B66", Firmware: "0001-0900", Serial: "SIM000000001"}},
		"sjj1310":  {hsm.Config{Set: "sjj1310", Serial: "A1"}, map[string]string{"variant_set": "sjj1310"}, command.Diagnosis{LMKCheck: "2686047444912422", Firmware: "SJJ1310 SIM V1.48 000001", Serial: "A1"}},
	} {
		d := device(t, c.device)
		client := open(t, d, c.settings)
		if got, err := client.Diagnose(t.Context()); err != nil || got != c.want {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		prober, ok := client.Driver.(driver.Prober)
		if !ok {
			t.Fatal("the driver has no probes")
		}
		for _, probe := range []string{"", "B2", "NO"} {
			if err := prober.Probe(t.Context(), talk{client.Channel}, probe); err != nil {
				t.Errorf("%s: probe %q: %v", name, probe, err)
			}
		}
	}
}

// talk is a conversation on a channel.
type talk struct{ driver.Channel }

func (talk) Do(context.Context, string, int, func(context.Context, driver.Channel) (int, string, error)) error {
	return nil
}

// A port without JK, as an online group has it: the diagnosis is there, the serial number is not.
func TestDiagnosisWithoutJK(t *testing.T) {
	t.Parallel()
	d := device(t, hsm.Config{Faults: hsm.Faults{ErrorCodes: map[string]string{"JK": "68"}}})
	if got, err := open(t, d, nil).Diagnose(t.Context()); err != nil || got.Serial != "" || got.LMKCheck == "" {
		t.Errorf("got %+v, %v", got, err)
	}
}

// Published keys under the old test LMK become published keys under the new one (BW).
func TestPublishedMigration(t *testing.T) {
	t.Parallel()
	d := device(t, hsm.Config{LegacyTypes: true, OldLMKs: map[string]string{"00": "test-old"}})
	client := open(t, d, map[string]string{"old_domain": oldDomain, "legacy_types": "true"})
	usages, seen := map[string]keys.Usage{"000": keys.ZoneMaster, "001": keys.ZonePIN, "002": keys.PINKey, "003": keys.MACKey, "008": keys.ZoneMAC}, 0
	for _, v := range vectors.Load(t, "thales_lmk.json").Group(t, "migrate") {
		usage, ok := usages[vectors.Str(v.In, "type")]
		if !ok || vectors.Str(v.In, "new_scheme") != "U" {
			continue
		}
		seen++
		got, err := client.TranslateLMK(t.Context(), keys.Wrapped{Usage: usage, Algorithm: keys.TDES, Domain: oldDomain, Cryptogram: vectors.Str(v.In, "old_key")}, domain)
		if err != nil || got.Cryptogram != vectors.Str(v.Out, "new") {
			t.Errorf("%s: %v", v.ID, err)
		}
	}
	if seen == 0 {
		t.Error("no vector was seen")
	}
	t.Logf("%d vectors", seen)
}

// Published keys under a ZMK (A6), those that the commands of this driver take.
func TestPublishedKeyExchange(t *testing.T) {
	t.Parallel()
	d := device(t, hsm.Config{LegacyTypes: true, IgnoreParity: true})
	client, seen := open(t, d, map[string]string{"legacy_types": "true"}), 0
	for _, v := range vectors.Load(t, "thales_lmk.json").Group(t, "key_exchange") {
		if vectors.Str(v.In, "command") != "A6" || vectors.Str(v.In, "type") != "001" {
			continue
		}
		seen++
		got, err := client.ImportUnderZMK(t.Context(), keys.Wrapped{Usage: keys.ZoneMaster, Algorithm: keys.TDES, Domain: domain, Cryptogram: vectors.Str(v.In, "zmk_under_lmk")},
			command.ZoneKey{Usage: keys.ZonePIN, Algorithm: keys.TDES, Cipher: vectors.Str(v.In, "key_under_zmk"), KCV: keys.KCV(vectors.Str(v.Out, "kcv"))})
		if err != nil || got.Cryptogram != vectors.Str(v.Out, "key_under_lmk") {
			t.Errorf("%s: %v", v.ID, err)
		}
	}
	if seen == 0 {
		t.Error("no vector was seen")
	}
	t.Logf("%d vectors", seen)
}

// Published TR-31 blocks of version B come in under their protection key as ZMK.
func TestPublishedKeyBlocks(t *testing.T) {
	t.Parallel()
	d := device(t, hsm.Config{IgnoreParity: true})
	client, seen := open(t, d, map[string]string{"lmk": "keyblock", "lmk_id": "01"}), 0
	usages := map[string]keys.Usage{"P0": keys.ZonePIN, "K0": keys.TerminalMaster, "D0": keys.TrackKey, "M3": keys.ZoneMAC}
	wrap := blocks(d).Wrap(domain)
	for _, v := range vectors.Load(t, "tr31.json").Group(t, "unwrap") {
		header, _ := v.Out["header"].(map[string]any)
		usage, ok := usages[vectors.Str(header, "usage")]
		kbpk, clear := vectors.Hex(t, v.In, "kbpk"), vectors.Hex(t, v.Out, "key")
		if !ok || vectors.Str(header, "version") != "B" || vectors.Str(header, "algorithm") != "T" || len(kbpk) != 16 || len(clear) != 16 ||
			vectors.Str(v.In, "block")[12:14] != "00" {
			continue // the device takes no optional blocks
		}
		seen++
		zmk := wrap(t, keys.ZoneMaster, keys.TDES, secret.New(kbpk))
		want := wrap(t, usage, keys.TDES, secret.New(clear))
		check, err := client.CheckValue(t.Context(), want)
		if err != nil {
			t.Errorf("%s: %v", v.ID, err)
			continue
		}
		got, err := client.ImportUnderZMK(t.Context(), zmk, command.ZoneKey{Usage: usage, Algorithm: keys.TDES, Cipher: "R" + vectors.Str(v.In, "block")})
		if err != nil || got.KCV != check {
			t.Errorf("%s (%s): %s, %v, want check value %s", v.ID, vectors.Str(v.In, "block")[:16], got, err, check)
		}
	}
	if seen == 0 {
		t.Error("no vector was seen")
	}
	t.Logf("%d vectors", seen)
}

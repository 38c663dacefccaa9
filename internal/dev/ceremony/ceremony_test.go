package ceremony_test

import (
	"context"
	"testing"
	"time"

	"github.com/keyward/keyward/hsmclient"
	"github.com/keyward/keyward/hsmclient/driver"
	"github.com/keyward/keyward/hsmclient/member"
	"github.com/keyward/keyward/hsmclient/racal"
	"github.com/keyward/keyward/internal/dev/ceremony"
	"github.com/keyward/keyward/keys"
	"github.com/keyward/keyward/sim/hsm"
)

// TestProductionRefusesEveryKey: each key of the ceremony is one that a production profile knows as public.
func TestProductionRefusesEveryKey(t *testing.T) {
	t.Parallel()
	held, err := ceremony.Hold()
	if err != nil {
		t.Fatal(err)
	}
	all := append([]ceremony.Key{{Name: "ZPK", Wrapped: held.ZPK}, {Name: "ZAK", Wrapped: held.ZAK}, {Name: "seal", Wrapped: held.Seal}}, held.Store...)
	if len(all) != 11 {
		t.Fatalf("%d keys, want 11", len(all))
	}
	for _, k := range all {
		if k.Cryptogram == "" || k.Domain != ceremony.Domain || k.Version != 1 {
			t.Errorf("%s is incomplete: %v", k.Name, k.Wrapped)
		}
		if keys.RefuseTestKey(k.Name, k.KCV) == nil {
			t.Errorf("%s/%s: production would accept check value %s", k.Name, k.Algorithm, k.KCV)
		}
	}
	for _, check := range []keys.KCV{ceremony.LMKCheck, ceremony.BlockLMKCheck} {
		if keys.RefuseTestKey("LMK", check) == nil {
			t.Errorf("production would accept the public test LMK %s", check)
		}
	}
}

// TestBlockSeal: a device with the key-block LMK computes the check value of the key block, through the driver that the services use.
func TestBlockSeal(t *testing.T) {
	t.Parallel()
	held, err := ceremony.Hold()
	if err != nil {
		t.Fatal(err)
	}
	k := held.BlockSeal
	if k.Domain != ceremony.BlockDomain || k.KCV != held.Seal.KCV || k.Usage != keys.Seal || keys.RefuseTestKey("seal", k.KCV) == nil {
		t.Errorf("%v", k)
	}
	device, err := hsm.New(hsm.Config{Ports: []hsm.Port{
		{Name: "online", Addr: "127.0.0.1:0", Allow: hsm.OnlineCommands()}, {Name: "issuing", Addr: "127.0.0.1:0", Allow: hsm.IssuingCommands()},
		{Name: "migration", Addr: "127.0.0.1:0", Allow: hsm.MigrationCommands()},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := device.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	stop := func(what string, stop func(context.Context) error) {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := stop(ctx); err != nil {
			t.Errorf("stop %s: %v", what, err)
		}
	}
	defer stop("device", device.Stop)
	for _, port := range []string{"online", "issuing", "migration"} {
		for what, test := range map[string]struct {
			kcv  keys.KCV
			want bool
		}{"its check value": {k.KCV, true}, "another one": {"1122334455667788", false}} {
			canary := k
			canary.KCV = test.kcv
			group, err := hsmclient.New(hsmclient.Config{
				Name: port, Drivers: map[string]driver.Maker{"racal": racal.Make},
				Domains: []hsmclient.Domain{{Name: ceremony.BlockDomain, LMKCheck: ceremony.BlockLMKCheck, Canary: canary}},
				Members: []member.Spec{{Name: "kb", Addr: device.Addr(port).String(), Channels: 1, Settings: map[string]string{"lmk": "keyblock", "lmk_id": "01"}}},
			})
			if err != nil {
				t.Fatal(err)
			}
			if err := group.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			state := member.Down
			for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Millisecond) { // polling; there is no signal for fencing
				if state = group.Members()[0].State; state == member.Working || state == member.Fenced {
					break
				}
			}
			if (state == member.Working) != test.want {
				t.Errorf("%s, with %s as the known answer: %s (%s)", port, what, state, group.Members()[0].Reason)
			}
			stop("group", group.Stop)
		}
	}
}

// patience bounds every wait; what is waited for takes milliseconds.
const patience = 30 * time.Second

// TestRepeatable: the sample configurations carry the cryptograms.
func TestRepeatable(t *testing.T) {
	t.Parallel()
	one, err := ceremony.Hold()
	if err != nil {
		t.Fatal(err)
	}
	two, err := ceremony.Hold()
	if err != nil {
		t.Fatal(err)
	}
	if one.ZPK != two.ZPK || one.ZAK != two.ZAK || one.Seal != two.Seal {
		t.Error("two ceremonies give different cryptograms")
	}
}

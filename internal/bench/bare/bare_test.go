package bare_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/keyward/keyward/internal/bench/bare"
	"github.com/keyward/keyward/internal/dev/ceremony"
	"github.com/keyward/keyward/sim/bank"
	"github.com/keyward/keyward/sim/hsm"
	"github.com/keyward/keyward/sim/load"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testWait = 20 * time.Second

type world struct {
	bank   *bank.Bank
	device *hsm.Device
	relay  *bare.Relay
}

func key(t *testing.T, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func start(t *testing.T, masters map[string][]byte) world {
	t.Helper()
	stop := func(stop func(context.Context) error) {
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), testWait)
			defer cancel()
			if err := stop(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	device, err := hsm.New(hsm.Config{Ports: []hsm.Port{{Name: "online", Addr: "127.0.0.1:0", Allow: hsm.OnlineCommands()}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := device.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	stop(device.Stop)
	core, err := bank.New(bank.Config{Addr: "127.0.0.1:0", ZPK: key(t, ceremony.ClearZPK), ZAK: key(t, ceremony.ClearZAK)})
	if err != nil {
		t.Fatal(err)
	}
	if err := core.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	stop(core.Stop)
	keys, err := ceremony.Hold()
	if err != nil {
		t.Fatal(err)
	}
	cfg := bare.Config{
		HSMs: []string{device.Addr("online").String()}, Channels: 2, Bank: core.Addr(), Acquirer: "00010000",
		ZPK: keys.ZPK.Cryptogram, ZAK: keys.ZAK.Cryptogram, Masters: map[string]string{},
	}
	for id, clear := range masters {
		if cfg.Masters[id], err = device.EncryptUnderLMK("80D", "U", clear); err != nil {
			t.Fatal(err)
		}
	}
	relay, err := bare.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(relay.Stop)
	return world{bank: core, device: device, relay: relay}
}

func TestPurchasesReachTheBankOnce(t *testing.T) {
	t.Parallel()
	masters := map[string][]byte{"10000001": bytes.Repeat([]byte{0x13}, 16), "10000002": bytes.Repeat([]byte{0x25}, 16), "10000003": bytes.Repeat([]byte{0x46}, 16)}
	w := start(t, masters)
	var list []*load.Terminal
	for id, clear := range masters {
		term, err := load.NewTerminal(load.Config{TerminalID: id, MerchantID: "104110000000001", MasterKey: clear})
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, term)
	}
	// Fewer connections than terminals: answers find their terminal.
	f, err := load.NewFleet(t.Context(), w.relay.Addr(), 2, list)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Once(load.SignOn); err != nil {
		t.Fatal(err)
	}
	before := w.device.Counters().Requests
	if err := f.Once(load.Purchase); err != nil {
		t.Fatal(err)
	}
	// M8, CA, M6, M8, M6: the same as posp's.
	if asked := w.device.Counters().Requests - before; asked != 5*3 {
		t.Errorf("%d host commands for three purchases, want 15", asked)
	}
	closed := f.Closed(t.Context(), load.Purchase, 0, 50*time.Millisecond)
	open := f.Open(t.Context(), load.Purchase, 200, 0, 50*time.Millisecond)
	if closed.Failed != nil || open.Failed != nil || closed.Done == 0 || open.Done != 10 || len(open.Latency) != 10 {
		t.Errorf("closed %d %v, open %d %v", closed.Done, closed.Failed, open.Done, open.Failed)
	}
	// What was under way when the closed loop ended does not count and was booked all the same: at most one per terminal.
	booked := w.bank.Book().Totals.Booked
	if least := 3 + closed.Done + open.Done; booked < least || booked > least+3 {
		t.Errorf("the bank booked %d, the terminals paid %d", booked, least)
	}
}

func TestStartRefusesADeadHSM(t *testing.T) {
	t.Parallel()
	if _, err := bare.Start(t.Context(), bare.Config{HSMs: []string{"127.0.0.1:1"}, Channels: 1}); err == nil {
		t.Error("started without an HSM")
	}
}

package core_test

import (
	"bytes"
	"context"
	"crypto/cipher"
	"crypto/des"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/internal/posp/host"
	"github.com/keyward/keyward/internal/posp/host/core"
	"github.com/keyward/keyward/internal/posp/host/hosttest"
	"github.com/keyward/keyward/internal/txn"
	"github.com/keyward/keyward/keys"
	"github.com/keyward/keyward/keys/secret"
	"github.com/keyward/keyward/sim/bank"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The zone keys of these tests and the first card of the bank; all are public test values.
const (
	testZPK = "0123456789ABCDEFFEDCBA9876543210"
	testZAK = "76850752AD7307ADE554D06D3BA73279"
	card1   = "6222020000000000018"
	track   = card1 + "=30121010000000000"

	patience = 10 * time.Second // reached only when something is broken
)

// started is when every transaction of these tests begins: shortly before the bank's clock.
var started = time.Date(2026, 11, 21, 15, 59, 58, 0, time.UTC)

// hsm makes and verifies MACs with the clear test key, ISO/IEC 9797-1 algorithm 3, and can be broken.
type hsm struct {
	left, right cipher.Block
	macFails    atomic.Bool
	verifyFails atomic.Bool
}

func newHSM(tb testing.TB) *hsm {
	tb.Helper()
	zak := unhex(tb, testZAK)
	left, err := des.NewCipher(zak[:8])
	if err != nil {
		tb.Fatal(err)
	}
	right, err := des.NewCipher(zak[8:])
	if err != nil {
		tb.Fatal(err)
	}
	return &hsm{left: left, right: right}
}

func (h *hsm) MAC(ctx context.Context, in command.MACInput) ([]byte, error) {
	if h.macFails.Load() {
		return nil, &command.Error{Class: command.Unavailable, Command: "M6"}
	}
	return h.mac(ctx, in)
}

func (h *hsm) mac(ctx context.Context, in command.MACInput) ([]byte, error) {
	if in.Algorithm != command.MACAlg3 || in.Key.Usage != keys.ZoneMAC {
		return nil, &command.Error{Class: command.CallerFault, Command: "M6"}
	}
	x := make([]byte, 8)
	for data := in.Data; len(data) > 0; {
		n := subtle.XORBytes(x, x, data)
		h.left.Encrypt(x, x)
		data = data[n:]
	}
	h.right.Decrypt(x, x)
	h.left.Encrypt(x, x)
	return x, ctx.Err()
}

func (h *hsm) VerifyMAC(ctx context.Context, in command.MACInput, expect []byte) (bool, error) {
	if h.verifyFails.Load() {
		return false, &command.Error{Class: command.Unavailable, Command: "M8"}
	}
	mac, err := h.mac(ctx, in)
	return bytes.Equal(mac, expect), err
}

func unhex(tb testing.TB, s string) []byte {
	tb.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func config(addr string) core.Config {
	return core.Config{
		Name: "bank", Addr: addr, AcquirerID: "00010000", Location: time.UTC,
		ZPK:        keys.Wrapped{Usage: keys.ZonePIN, Algorithm: keys.TDES, Version: 1, Domain: "test", Cryptogram: "U0"},
		ZAK:        keys.Wrapped{Usage: keys.ZoneMAC, Algorithm: keys.TDES, Version: 1, Domain: "test", Cryptogram: "U1"},
		BackoffMin: time.Millisecond, BackoffMax: 20 * time.Millisecond,
		Now: func() time.Time { return started.Add(2 * time.Second) },
	}
}

// newBank starts a bank on a free port.
func newBank(tb testing.TB) *bank.Bank {
	tb.Helper()
	b, err := bank.New(bank.Config{
		Addr: "127.0.0.1:0", ZPK: unhex(tb, testZPK), ZAK: unhex(tb, testZAK),
		Now: func() time.Time { return started.Add(time.Second) },
	})
	if err != nil {
		tb.Fatal(err)
	}
	if err := b.Start(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { stop(tb, b) })
	return b
}

// newHost connects to a bank and waits for the sign-on.
func newHost(tb testing.TB, h core.HSM, addr string, change ...func(*core.Config)) *core.Host {
	tb.Helper()
	cfg := config(addr)
	for _, c := range change {
		c(&cfg)
	}
	one, err := core.New(cfg, h)
	if err != nil {
		tb.Fatal(err)
	}
	if err := one.Start(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { stop(tb, one) })
	return one
}

func stop(tb testing.TB, s interface{ Stop(context.Context) error }) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := s.Stop(ctx); err != nil {
		tb.Errorf("stop: %v", err)
	}
}

func faults(tb testing.TB, b *bank.Bank, f ...bank.Fault) {
	tb.Helper()
	if err := b.SetFaults(f...); err != nil {
		tb.Fatal(err)
	}
}

func purchase(tb testing.TB, n int) host.Request {
	tb.Helper()
	pan, err := secret.ParsePAN(card1)
	if err != nil {
		tb.Fatal(err)
	}
	return host.Request{
		Kind: txn.Purchase, Trace: fmt.Sprintf("%06d", n), RRN: fmt.Sprintf("REF%09d", n), SentAt: started, Terminal: "10000001",
		Merchant: "104110000000001", PAN: pan, ProcCode: "000000", Amount: int64(100 + n), Currency: "156", EntryMode: "022", Condition: "00",
		Track2: secret.NewString(track), Expiry: "3012",
	}
}

// misdeeds are the bank's faults for the behaviours of the suite.
var misdeeds = map[hosttest.Behaviour]bank.FaultKind{
	hosttest.Silent: bank.NoAnswer, hosttest.Loses: bank.LoseRequest, hosttest.WrongMAC: bank.WrongMAC, hosttest.WrongAmount: bank.WrongAmount,
	hosttest.WrongTrace: bank.WrongTrace, hosttest.Cuts: bank.CutFrame, hosttest.Hangs: bank.CloseInstead, hosttest.Doubles: bank.DoubleAnswer,
	hosttest.Holds: bank.Hold,
}

func TestConformance(t *testing.T) {
	t.Parallel()
	conform(t, func(t *testing.T, b *bank.Bank) host.Host { return newHost(t, newHSM(t), b.Addr()) })
}

// conform runs the suite against a bank that is reached by the host that is made.
func conform(t *testing.T, reach func(t *testing.T, b *bank.Bank) host.Host) {
	hosttest.Run(t, func(t *testing.T) hosttest.Peer {
		b := newBank(t)
		h := reach(t, b)
		hosttest.AwaitReady(t, h)
		return hosttest.Peer{
			Host: h,
			Behave: func(how hosttest.Behaviour) {
				switch how {
				case hosttest.Good:
					faults(t, b)
				case hosttest.Gone:
					faults(t, b, bank.Fault{Kind: bank.Down})
					awaitNotReady(t, h)
				default:
					var rules []bank.Fault
					for _, mti := range []string{"0100", "0200", "0220", "0221", "0400", "0401", "0620", "0621"} {
						rules = append(rules, bank.Fault{Kind: misdeeds[how], MTI: mti})
					}
					faults(t, b, rules...)
				}
			},
			AwaitHeld: func() {
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				if err := b.WaitHeld(ctx, ""); err != nil {
					t.Error(err)
				}
			},
			Release:  func() { b.Release() },
			Purchase: func(n int) host.Request { return purchase(t, n) },
			Unaffordable: func(n int) host.Request {
				req := purchase(t, n)
				req.Amount = 999_999_999_99
				return req
			},
			Taken: func() int64 { totals := b.Book().Totals; return totals.BookedAmount - totals.ReversedAmount },
			Kinds: []txn.Kind{
				txn.PurchaseVoid, txn.Refund, txn.PreAuth, txn.PreAuthVoid, txn.Completion, txn.CompletionVoid, txn.CompletionAdvice,
				txn.OfflineSettlement, txn.Adjustment, txn.TipAdjustment, txn.OfflinePurchase, txn.OfflineRefund, txn.ScriptResult,
			},
			Held: func() (held int64) {
				for _, a := range b.Book().Balances {
					held += a.Held
				}
				return held
			},
		}
	})
}

func awaitNotReady(tb testing.TB, h host.Host) {
	tb.Helper()
	tick := time.NewTicker(time.Millisecond) // Ready has no signal: production code never waits for it
	defer tick.Stop()
	for end := time.Now().Add(patience); h.Ready() == nil; <-tick.C {
		if time.Now().After(end) {
			tb.Fatal("still ready")
		}
	}
}

func TestPurchaseAsTheBankSeesIt(t *testing.T) {
	t.Parallel()
	b := newBank(t)
	h := newHost(t, newHSM(t), b.Addr())
	hosttest.AwaitReady(t, h)
	req := purchase(t, 7)
	result := h.Exchange(t.Context(), req)
	r := result.Reply
	if result.Outcome != txn.Answered || !r.Approved() || len(r.AuthCode) != 6 || r.RRN != req.RRN || r.AcquirerID != "00010000" ||
		r.SettlementDate != "1121" || !r.HostTime.Equal(started) {
		t.Errorf("result %+v", result)
	}
	rev := hosttest.UndoOf(req, 1)
	for try := 1; try <= 2; try++ {
		rev.Try = try
		if got := h.Reverse(t.Context(), rev); got.Outcome != txn.Answered || got.Reply.Code != "00" {
			t.Errorf("reversal %d: %+v", try, got)
		}
	}
	var mtis []string
	for _, e := range b.History(0) {
		mtis = append(mtis, e.MTI+e.Network+"/"+e.ResponseCode)
	}
	if got, want := strings.Join(mtis, " "), "0800001/00 0200/00 0400/00 0401/00"; got != want {
		t.Errorf("the bank saw %s, want %s", got, want)
	}
}

func TestBalance(t *testing.T) {
	t.Parallel()
	b := newBank(t)
	h := newHost(t, newHSM(t), b.Addr())
	hosttest.AwaitReady(t, h)
	req := purchase(t, 1)
	req.Kind, req.ProcCode, req.Amount, req.Currency = txn.Balance, "310000", 0, ""
	result := h.Exchange(t.Context(), req)
	if result.Outcome != txn.Answered || result.Reply.Code != "00" || result.Reply.Balance != "0002156C000100000000" {
		t.Errorf("result %+v", result)
	}
}

// TestResponseCodes: known codes are passed on, those of the terminal's own line are replaced, unknown ones are no answer.
func TestResponseCodes(t *testing.T) {
	t.Parallel()
	b := newBank(t)
	h := newHost(t, newHSM(t), b.Addr())
	hosttest.AwaitReady(t, h)
	for i, test := range []struct {
		code, want string
		outcome    txn.Outcome
	}{
		{"96", "96", txn.Answered}, {"12", "12", txn.Answered}, {"51", "51", txn.Answered}, {"A7", "A7", txn.Answered}, {"68", "68", txn.Answered},
		{"A0", "96", txn.Answered}, {"77", "96", txn.Answered}, {"97", "96", txn.Answered},
		{"08", "", txn.Unknown}, {"ZZ", "", txn.Unknown},
	} {
		faults(t, b, bank.Fault{Kind: bank.ForceCode, MTI: "0200", ResponseCode: test.code})
		result := h.Exchange(t.Context(), purchase(t, i+1))
		if result.Outcome != test.outcome || result.Reply.Code != test.want {
			t.Errorf("code %s: %s %q, want %s %q", test.code, result.Outcome, result.Reply.Code, test.outcome, test.want)
		}
	}
	// A refused reversal undid nothing: it stays owed.
	for _, code := range []string{"96", "12", "30", "94"} {
		faults(t, b, bank.Fault{Kind: bank.ForceCode, MTI: "0400", ResponseCode: code})
		if got := h.Reverse(t.Context(), hosttest.UndoOf(purchase(t, 50), 1)); got.Outcome != txn.Unknown || got.Err == nil {
			t.Errorf("reversal answered %s: %+v", code, got)
		}
	}
}

func TestHSMTrouble(t *testing.T) {
	t.Parallel()
	b := newBank(t)
	device := newHSM(t)
	reg := prometheus.NewRegistry()
	h := newHost(t, device, b.Addr(), func(c *core.Config) { c.Registerer = reg })
	hosttest.AwaitReady(t, h)
	device.macFails.Store(true)
	if got := h.Exchange(t.Context(), purchase(t, 1)); got.Outcome != txn.NotSent || command.ClassOf(got.Err) != command.Unavailable {
		t.Errorf("no MAC can be made: %+v", got)
	}
	if got := h.Reverse(t.Context(), hosttest.UndoOf(purchase(t, 1), 1)); got.Outcome != txn.NotSent {
		t.Errorf("no MAC can be made: %+v", got)
	}
	device.macFails.Store(false)
	device.verifyFails.Store(true)
	if got := h.Exchange(t.Context(), purchase(t, 2)); got.Outcome != txn.Unknown || errors.Is(got.Err, host.ErrMAC) {
		t.Errorf("no MAC can be verified: %+v", got)
	}
	device.verifyFails.Store(false)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += "," + l.GetValue()
			}
			values[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	for name, want := range map[string]float64{
		"keyward_host_connected,bank": 1, "keyward_host_exchanges_total,bank,purchase,not_sent": 1,
		"keyward_host_exchanges_total,bank,purchase,unknown": 1, "keyward_host_exchanges_total,bank,reversal,not_sent": 1,
		"keyward_host_refused_answers_total,bank,not_verified": 1,
	} {
		if values[name] != want {
			t.Errorf("metric %s is %v, want %v", name, values[name], want)
		}
	}
}

// TestSignOn: a bank that refuses the sign-on, or whose MAC is wrong, is not ready; the reason is told; it heals by itself.
func TestSignOn(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]bank.Fault{
		"refused":   {Kind: bank.ForceCode, MTI: "0800", ResponseCode: "96"},
		"wrong MAC": {Kind: bank.WrongMAC, MTI: "0800"},
		"cut":       {Kind: bank.CutFrame, MTI: "0800"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBank(t)
			faults(t, b, fault)
			h := newHost(t, newHSM(t), b.Addr())
			awaitSeen(t, b, 2)
			if err := h.Ready(); err == nil || !strings.Contains(err.Error(), "bank") {
				t.Errorf("ready: %v", err)
			}
			if got := h.Exchange(t.Context(), purchase(t, 1)); got.Outcome != txn.NotSent {
				t.Errorf("exchange before the sign-on: %+v", got)
			}
			faults(t, b)
			hosttest.AwaitReady(t, h)
		})
	}
}

// awaitSeen waits until n messages have reached the bank.
func awaitSeen(tb testing.TB, b *bank.Bank, n int) {
	tb.Helper()
	tick := time.NewTicker(time.Millisecond) // the history has no signal
	defer tick.Stop()
	for end := time.Now().Add(patience); len(b.History(0)) < n; <-tick.C {
		if time.Now().After(end) {
			tb.Fatalf("the bank saw %d messages, want %d", len(b.History(0)), n)
		}
	}
}

// TestEcho: a silent line is asked for echoes, and an echo without an answer makes a new connection.
func TestEcho(t *testing.T) {
	t.Parallel()
	b := newBank(t)
	newHost(t, newHSM(t), b.Addr(), func(c *core.Config) { c.EchoEvery, c.EchoTimeout = 20*time.Millisecond, 20*time.Millisecond })
	awaitSeen(t, b, 3)
	seen := b.History(0)
	if seen[1].Network != "301" || seen[2].Network != "301" || seen[1].Connection != seen[0].Connection || seen[1].ResponseCode != "00" {
		t.Errorf("the bank saw %+v", seen)
	}
	faults(t, b, bank.Fault{Kind: bank.NoAnswer, Next: 1})
	first := seen[0].Connection
	tick := time.NewTicker(time.Millisecond) // the history has no signal
	defer tick.Stop()
	for end := time.Now().Add(patience); ; <-tick.C {
		all := b.History(0)
		if last := all[len(all)-1]; last.Connection != first {
			return
		}
		if time.Now().After(end) {
			t.Fatal("no new connection after an echo without an answer")
		}
	}
}

// TestStop: what is under way ends first, then the sign-off, then the connection; afterwards nothing is sent.
func TestStop(t *testing.T) {
	t.Parallel()
	b := newBank(t)
	reg := prometheus.NewRegistry()
	h := newHost(t, newHSM(t), b.Addr(), func(c *core.Config) { c.Registerer = reg })
	hosttest.AwaitReady(t, h)
	faults(t, b, bank.Fault{Kind: bank.Hold, MTI: "0200"})
	var wg sync.WaitGroup
	wg.Go(func() {
		if got := h.Exchange(t.Context(), purchase(t, 1)); got.Outcome != txn.Answered {
			t.Errorf("exchange during stop: %+v", got)
		}
	})
	if err := b.WaitHeld(t.Context(), "0200"); err != nil {
		t.Fatal(err)
	}
	wg.Go(func() { stop(t, h) })
	awaitNotReady(t, h)
	if got := h.Exchange(t.Context(), purchase(t, 2)); got.Outcome != txn.NotSent {
		t.Errorf("exchange after stop: %+v", got)
	}
	b.Release()
	wg.Wait()
	seen := b.History(0)
	if last := seen[len(seen)-1]; last.MTI != "0800" || last.Network != "002" || last.ResponseCode != "00" {
		t.Errorf("the last message was %+v", last)
	}
	if again, err := core.New(config(b.Addr()), newHSM(t)); err != nil || again.Stop(t.Context()) != nil || again.Stop(t.Context()) != nil {
		t.Errorf("stop before start, twice: %v", err)
	}
	if left, err := reg.Gather(); err != nil || len(left) != 0 {
		t.Errorf("%d metrics left, %v", len(left), err)
	}
}

// TestStopIsBounded: a bank that is silent does not hold up the end.
func TestStopIsBounded(t *testing.T) {
	t.Parallel()
	b := newBank(t)
	h := newHost(t, newHSM(t), b.Addr())
	hosttest.AwaitReady(t, h)
	faults(t, b, bank.Fault{Kind: bank.Hold, MTI: "0200"})
	done := make(chan host.Result, 1)
	go func() { done <- h.Exchange(t.Context(), purchase(t, 1)) }()
	if err := b.WaitHeld(t.Context(), "0200"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := h.Stop(ctx); err == nil {
		t.Error("a stop that had to cut an exchange reports nothing")
	}
	if got := <-done; got.Outcome != txn.Unknown {
		t.Errorf("cut exchange: %+v", got)
	}
}

func TestRefusedRequests(t *testing.T) {
	t.Parallel()
	b := newBank(t)
	h := newHost(t, newHSM(t), b.Addr())
	hosttest.AwaitReady(t, h)
	for name, change := range map[string]func(*host.Request){
		"kind":      func(r *host.Request) { r.Kind = txn.Reversal },
		"no card":   func(r *host.Request) { r.PAN = secret.PAN{} },
		"amount":    func(r *host.Request) { r.Amount = -1 },
		"trace":     func(r *host.Request) { r.Trace = "12345" },
		"reference": func(r *host.Request) { r.RRN = "short" },
		"no time":   func(r *host.Request) { r.SentAt = time.Time{} },
		"PIN block": func(r *host.Request) { r.PINBlock = secret.New(make([]byte, 16)) },
		"track":     func(r *host.Request) { r.Track2 = secret.NewString("622202F") },
	} {
		req := purchase(t, 1)
		change(&req)
		if got := h.Exchange(t.Context(), req); got.Outcome != txn.NotSent || got.Err == nil || strings.Contains(got.Err.Error(), "622202") {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if n := len(b.History(0)); n != 1 {
		t.Errorf("the bank saw %d messages, want the sign-on only", n)
	}
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*core.Config){
		"name":     func(c *core.Config) { c.Name = "" },
		"addr":     func(c *core.Config) { c.Addr = "" },
		"zpk":      func(c *core.Config) { c.ZPK = c.ZAK },
		"zak":      func(c *core.Config) { c.ZAK = keys.Wrapped{} },
		"acquirer": func(c *core.Config) { c.AcquirerID = "12A" },
		"format":   func(c *core.Config) { c.PINFormat = command.PINSM4Wide },
	} {
		cfg := config("127.0.0.1:1")
		change(&cfg)
		if _, err := core.New(cfg, newHSM(t)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := core.New(config("127.0.0.1:1"), nil); err == nil {
		t.Error("accepted without an HSM")
	}
	h, err := core.New(config("127.0.0.1:1"), newHSM(t))
	if err != nil {
		t.Fatal(err)
	}
	if zone := h.Zone(); h.Name() != "bank" || zone.Format != command.PINISO0 || zone.PIN.Usage != keys.ZonePIN || h.Ready() == nil {
		t.Errorf("%s %v, ready %v", h.Name(), zone, h.Ready())
	}
}

// TestLogShowsNoSecrets drives the paths that log and looks for card data in what they wrote.
func TestLogShowsNoSecrets(t *testing.T) {
	t.Parallel()
	b := newBank(t)
	var mu sync.Mutex
	var out bytes.Buffer
	h := newHost(t, newHSM(t), b.Addr(), func(c *core.Config) {
		c.Log = slog.New(slog.NewTextHandler(writer(func(p []byte) (int, error) { mu.Lock(); defer mu.Unlock(); return out.Write(p) }), nil))
	})
	hosttest.AwaitReady(t, h)
	for i, kind := range []bank.FaultKind{bank.WrongMAC, bank.WrongAmount, bank.DoubleAnswer, bank.ForceCode} {
		fault := bank.Fault{Kind: kind, MTI: "0200"}
		if kind == bank.ForceCode {
			fault.ResponseCode = "ZZ"
		}
		faults(t, b, fault)
		h.Exchange(t.Context(), purchase(t, i+1))
	}
	stop(t, h)
	mu.Lock()
	defer mu.Unlock()
	if !strings.Contains(out.String(), "not used") || strings.Contains(out.String(), "622202") {
		t.Errorf("log:\n%s", out.String())
	}
}

type writer func([]byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

// BenchmarkExchange is one purchase after another from several goroutines, both MACs in software.
func BenchmarkExchange(b *testing.B) {
	peer := newBank(b)
	h := newHost(b, newHSM(b), peer.Addr())
	hosttest.AwaitReady(b, h)
	var n atomic.Int64
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			i := int(n.Add(1))
			req := purchase(b, i%1_000_000)
			req.RRN, req.Amount = fmt.Sprintf("REF%09d", i), 1
			if got := h.Exchange(b.Context(), req); got.Outcome != txn.Answered {
				b.Fatal(got.Err)
			}
		}
	})
}

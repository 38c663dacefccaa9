package control_test

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyward/keyward/sim/bank"
	"github.com/keyward/keyward/sim/control"
	"github.com/keyward/keyward/sim/control/controlclient"
	"github.com/keyward/keyward/sim/hsm"
	"github.com/keyward/keyward/sim/pos"
)

// ask sends one host command and returns the answer without its length; an error when none came within wait.
func ask(addr, message string, wait time.Duration) (string, error) {
	conn, err := net.DialTimeout("tcp", addr, wait)
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }() // the exchange is over
	_ = conn.SetDeadline(time.Now().Add(wait))
	if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(message))), message...)); err != nil {
		return "", err
	}
	head := make([]byte, 2)
	if _, err := io.ReadFull(conn, head); err != nil {
		return "", err
	}
	answer := make([]byte, binary.BigEndian.Uint16(head))
	_, err = io.ReadFull(conn, answer)
	return string(answer), err
}

func TestBreakAndMend(t *testing.T) {
	t.Parallel()
	b := start(t, testConfig(t))
	addr := b.app.HSMAddr("hsm1", "online").String()
	if b.app.HSMAddr("hsm9", "online") != nil || b.app.HSMAddr("hsm1", "x") != nil {
		t.Error("an address of something that does not exist")
	}
	echo := func(wait time.Duration) error { _, err := ask(addr, "0001NC", wait); return err }
	if err := echo(testWait); err != nil {
		t.Fatal(err)
	}
	for _, how := range []string{"refuse", "reset", "black_hole", "stall", "slow"} {
		status, err := b.BreakHSM(t.Context(), "hsm1", how)
		if err != nil || status.Healthy {
			t.Fatalf("%s: %+v %v", how, status, err)
		}
		// Short, because this wait is the expected end of a silent device.
		if err := echo(200 * time.Millisecond); err == nil {
			t.Errorf("%s: the device answers", how)
		}
		if status, err = b.MendHSM(t.Context(), "hsm1"); err != nil || !status.Healthy {
			t.Fatalf("mend after %s: %+v %v", how, status, err)
		}
		if err := echo(testWait); err != nil {
			t.Errorf("after %s: %v", how, err)
		}
	}
	list, err := b.HSMs(t.Context())
	if err != nil || len(list) != 2 || list[0].Serial != "KW-0001" || list[0].Ports[0].Addr != addr || list[1].Faults.LatencyMS != 1 || !list[1].Healthy {
		t.Errorf("list %+v %v", list, err)
	}
}

func TestMendGoesBackToTheConfiguration(t *testing.T) {
	t.Parallel()
	b := start(t, testConfig(t))
	if s, err := b.SetHSMFaults(t.Context(), "hsm2", hsm.Faults{DropEvery: 2}); err != nil || s.Healthy || s.Faults.DropEvery != 2 || s.Faults.LatencyMS != 0 {
		t.Errorf("%+v %v", s, err)
	}
	if s, err := b.MendHSM(t.Context(), "hsm2"); err != nil || !s.Healthy || s.Faults.DropEvery != 0 || s.Faults.LatencyMS != 1 {
		t.Errorf("%+v %v", s, err)
	}
}

func TestHoldAndRelease(t *testing.T) {
	t.Parallel()
	b := start(t, testConfig(t))
	if held, err := b.WaitHeldHSM(t.Context(), "hsm1", "NC", time.Millisecond); err != nil || held {
		t.Errorf("held before anything was asked: %v %v", held, err)
	}
	if _, err := b.SetHSMFaults(t.Context(), "hsm1", hsm.Faults{Hold: []string{"NC"}}); err != nil {
		t.Fatal(err)
	}
	answered := make(chan error, 1)
	go func() {
		_, err := ask(b.app.HSMAddr("hsm1", "online").String(), "0001NC", testWait)
		answered <- err
	}()
	if held, err := b.WaitHeldHSM(t.Context(), "hsm1", "NC", testWait); err != nil || !held {
		t.Fatalf("not held: %v %v", held, err)
	}
	if n, err := b.ReleaseHSM(t.Context(), "hsm1", "NC"); err != nil || n != 1 {
		t.Errorf("released %d %v", n, err)
	}
	if err := <-answered; err != nil {
		t.Error(err)
	}
	// The port's list is what keeps the groups apart.
	if answer, err := ask(b.app.HSMAddr("hsm1", "online").String(), "0001KR003U", testWait); err != nil || answer != "0001KS68" {
		t.Errorf("KR on the online port: %q %v", answer, err)
	}
	entries, err := b.HSMHistory(t.Context(), "hsm1", 1)
	if err != nil || len(entries) != 1 || entries[0].Command != "KR" || entries[0].Port != "online" {
		t.Errorf("history %+v %v", entries, err)
	}
}

func TestBank(t *testing.T) {
	t.Parallel()
	b := start(t, testConfig(t))
	if err := b.SetBankFaults(t.Context(), bank.Fault{Kind: bank.Down}); err != nil {
		t.Fatal(err)
	}
	if _, err := net.DialTimeout("tcp", b.app.BankAddr(), testWait); err == nil {
		t.Error("a bank that is down accepts connections")
	}
	if err := b.SetBankFaults(t.Context()); err != nil {
		t.Fatal(err)
	}
	conn, err := net.DialTimeout("tcp", b.app.BankAddr(), testWait)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close() // only that it could be opened counts
	book, err := b.BankBook(t.Context())
	if err != nil || len(book.Balances) != 3 || book.Balances[0].PAN != "622202*********0018" {
		t.Errorf("book %+v %v", book, err)
	}
	if history, err := b.BankHistory(t.Context(), 5); err != nil || len(history) != 0 {
		t.Errorf("history %+v %v", history, err)
	}
	if n, err := b.ReleaseBank(t.Context()); err != nil || n != 0 {
		t.Errorf("released %d %v", n, err)
	}
	if err := b.ResetBank(t.Context()); err != nil {
		t.Error(err)
	}
	var refused *controlclient.Error
	if err := b.SetBankFaults(t.Context(), bank.Fault{Kind: "rude"}); !errors.As(err, &refused) || refused.Status != 400 || refused.Detail == "" {
		t.Errorf("error %v", err)
	}
}

func TestCards(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	b := start(t, cfg)
	const number = "60000000000000000007"
	for range 2 { // the second is harmless
		if err := b.BlankCard(t.Context(), number); err != nil {
			t.Fatal(err)
		}
	}
	if list, err := b.Cards(t.Context()); err != nil || len(list) != 1 || list[0] != number {
		t.Errorf("cards %v %v", list, err)
	}
	answer, err := b.Transmit(t.Context(), number, []byte{0x00, 0x84, 0x00, 0x00, 0x04})
	if err != nil || len(answer) != 6 || answer[4] != 0x90 {
		t.Errorf("GET CHALLENGE: %X %v", answer, err)
	}
	if answer, err = b.Transmit(t.Context(), number, []byte{0x00}); err != nil || len(answer) != 2 {
		t.Errorf("a command that is too short: %X %v", answer, err)
	}
	if err := b.ResetCard(t.Context(), number); err != nil {
		t.Error(err)
	}
	for range 250 { // more than is kept
		if _, err := b.Transmit(t.Context(), number, []byte{0x00, 0x84, 0x00, 0x00, 0x04}); err != nil {
			t.Fatal(err)
		}
	}
	history, err := b.CardHistory(t.Context(), number)
	if err != nil || len(history) != 50 || history[0].Header != "00840000" || history[0].Status != "9000" || history[0].AnswerBytes != 6 {
		t.Errorf("history: %d entries %v", len(history), err)
	}
	_, _, all := b.do(t, "GET", "/v1/cards/"+number+"/history?limit=1000", "")
	if n := strings.Count(all, `"header"`); n != 200 {
		t.Errorf("%d entries are kept, want 200", n)
	}
	if _, err := os.Stat(filepath.Join(cfg.Cards.Dir, number+".psam")); err != nil {
		t.Errorf("the card is not on disk: %v", err)
	}
}

func TestTerminalsStay(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	cfg.Terminals.List = []control.Terminal{{TerminalID: "10000001"}}
	binding := control.Terminal{TerminalID: "SHOP0001", MerchantID: "104110000000009", PSAMNo: "60000000000000000009"}
	b := start(t, cfg)
	for range 2 {
		if s, err := b.AddTerminal(t.Context(), binding); err != nil || s.PSAM != binding.PSAMNo || s.Merchant != binding.MerchantID {
			t.Fatalf("add: %+v %v", s, err)
		}
	}
	r, err := b.Terminal(t.Context(), "10000001", "signon", pos.Sale{})
	if err != nil || r.Outcome != pos.OutcomeFailed || r.Error == "" {
		t.Errorf("sign-on without a posp: %+v %v", r, err)
	}
	if h, err := b.TerminalHistory(t.Context(), "10000001"); err != nil || len(h) != 1 {
		t.Errorf("history %+v %v", h, err)
	}
	if err := b.app.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	cfg.Terminals.List = nil
	again := start(t, cfg)
	list, err := again.Terminals(t.Context())
	if err != nil || len(list) != 2 || list[0].ID != "10000001" || list[1].ID != "SHOP0001" || list[1].PSAM != binding.PSAMNo {
		t.Errorf("after a restart: %+v %v", list, err)
	}
	if s, err := again.AddTerminal(t.Context(), control.Terminal{TerminalID: "SHOP0001", MerchantID: binding.MerchantID, PSAMNo: "60000000000000000008"}); err != nil || s.PSAM != "60000000000000000008" {
		t.Errorf("another card: %+v %v", s, err)
	}
}

func TestTraffic(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	cfg.Traffic = control.TrafficConfig{RatePerSecond: 1000, Terminals: []string{"10000001"}}
	b := start(t, cfg)
	s, err := b.Traffic(t.Context())
	if err != nil || !s.Running || s.RatePerSecond != 1000 {
		t.Errorf("from the configuration: %+v %v", s, err)
	}
	// No card, no posp: every command fails, and that is counted.
	deadline := time.Now().Add(testWait)
	for s.Counters.Failed == 0 && time.Now().Before(deadline) {
		if s, err = b.Traffic(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if s.Counters.Failed == 0 {
		t.Error("the generator does nothing")
	}
	if s, err = b.StartTraffic(t.Context(), control.TrafficConfig{RatePerSecond: 1, Terminals: []string{"10000001", "10000002"}}); err != nil || s.RatePerSecond != 1 || len(s.Terminals) != 2 {
		t.Errorf("another setting: %+v %v", s, err)
	}
	if s, err = b.StopTraffic(t.Context()); err != nil || s.Running || s.RatePerSecond != 0 || s.Counters.Failed == 0 {
		t.Errorf("stop: %+v %v", s, err)
	}
	if s, err = b.StopTraffic(t.Context()); err != nil || s.Running {
		t.Errorf("second stop: %+v %v", s, err)
	}
}

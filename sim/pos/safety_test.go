package pos

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestApprovalThatCannotBeKept: the state cannot be saved after an approval, so the purchase is reversed with cause 96.
func TestApprovalThatCannotBeKept(t *testing.T) {
	t.Parallel()
	h := startHost(t)
	cfg := testConfig(t, h)
	dir := filepath.Join(t.TempDir(), "state")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	cfg.StateFile = filepath.Join(dir, "state.json")
	terminal := signedOn(t, cfg)
	h.on(func(q packet) ([]byte, bool) {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
		return h.honest(q), false
	})
	r := terminal.Purchase(t.Context(), testSale())
	if r.Outcome != OutcomeInDoubt || !r.PendingReversal {
		t.Fatalf("%s, pending %v, %s", r.Outcome, r.PendingReversal, r.Error)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	h.on(nil)
	check(t, terminal.Reversal(t.Context()), OutcomeApproved, "00")
	if sent := h.last(); sent.mti != "0400" || sent.fields[39] != "96" {
		t.Errorf("%s with cause %s", sent.mti, sent.fields[39])
	}
}

// TestKeptConnectionIsProbed: the host hangs up while the terminal is idle, or a stray byte arrives; neither puts the next
// purchase in doubt.
func TestKeptConnectionIsProbed(t *testing.T) {
	t.Parallel()
	h := startHost(t)
	cfg := testConfig(t, h)
	cfg.KeepOpen = true
	terminal := signedOn(t, cfg)
	for _, stray := range []string{"", "late"} {
		h.on(func(q packet) ([]byte, bool) { return append(h.honest(q), stray...), true })
		check(t, terminal.Echo(t.Context()), OutcomeApproved, "00")
		h.on(nil)
		// The host's end has closed once the kept connection shows it: read until then, as an idle moment would.
		one := make([]byte, 1)
		if stray == "" {
			if _, err := terminal.conn.Read(one); err == nil {
				t.Fatal("the host did not hang up")
			}
		}
		check(t, terminal.Purchase(t.Context(), testSale()), OutcomeApproved, "00")
	}
}

// TestBalanceAnswerMayHaveAnAmount: there is nothing to compare it with.
func TestBalanceAnswerMayHaveAnAmount(t *testing.T) {
	t.Parallel()
	h := startHost(t)
	terminal := signedOn(t, testConfig(t, h))
	h.on(func(q packet) ([]byte, bool) {
		p := h.reply(q, "00")
		p.fields[4] = "000000000000"
		return h.sealed(p, testMAK), false
	})
	check(t, terminal.Balance(t.Context(), testSale()), OutcomeApproved, "00")
}

// TestBusyTerminal: a command that cannot get the terminal fails and changes nothing that the list shows.
func TestBusyTerminal(t *testing.T) {
	t.Parallel()
	h := startHost(t)
	fleet, _ := testFleet(t, h, "10000001")
	if _, err := fleet.Do(t.Context(), "10000001", commandSignOn, Sale{}); err != nil {
		t.Fatal(err)
	}
	terminal := fleet.all["10000001"].terminal
	<-terminal.slot // somebody else works
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r, err := fleet.Do(ctx, "10000001", commandPurchase, testSale())
	if err != nil || r.Outcome != OutcomeFailed || !strings.Contains(r.Error, "busy") {
		t.Errorf("%s %q %v", r.Outcome, r.Error, err)
	}
	terminal.slot <- struct{}{}
	if s := fleet.Statuses(); !s[0].SignedOn || s[0].Batch != "000001" {
		t.Errorf("status %+v", s[0])
	}
}

// TestRetiredTerminalDoesNothing: after a change of card the old terminal must not use the state file any more.
func TestRetiredTerminalDoesNothing(t *testing.T) {
	t.Parallel()
	h := startHost(t)
	terminal := signedOn(t, testConfig(t, h))
	if err := terminal.retire(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r := terminal.Purchase(t.Context(), testSale()); r.Outcome != OutcomeFailed || h.requests() != "0800" {
		t.Errorf("%s, requests %s", r.Outcome, h.requests())
	}
}

func TestSaleChecks(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*Sale){
		"short PAN":     func(s *Sale) { s.PAN = "123456789012" },
		"letters":       func(s *Sale) { s.PAN = "62220200000000000AB" },
		"short PIN":     func(s *Sale) { s.PIN = "123" },
		"entry":         func(s *Sale) { s.Entry = "chip" },
		"foreign track": func(s *Sale) { s.Track2 = "6222020000000000026D3012220" },
		"no amount":     func(s *Sale) { s.AmountFen = 0 },
		"huge amount":   func(s *Sale) { s.AmountFen = maxAmountFen + 1 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := startHost(t)
			terminal := signedOn(t, testConfig(t, h))
			sale := testSale()
			spoil(&sale)
			if r := terminal.Purchase(t.Context(), sale); r.Outcome != OutcomeFailed || h.requests() != "0800" {
				t.Errorf("%s, requests %s", r.Outcome, h.requests())
			}
		})
	}
}

// TestResultHidesSecrets encodes what a purchase says and looks for what it must not say.
func TestResultHidesSecrets(t *testing.T) {
	t.Parallel()
	h := startHost(t)
	terminal := signedOn(t, testConfig(t, h))
	r := terminal.Purchase(t.Context(), testSale())
	sent := h.last()
	raw, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	if r.Request == nil || r.Answer == nil || r.Request.Raw == "" {
		t.Fatal("no dumps")
	}
	for _, secret := range []string{testPAN, testPIN, sent.fields[35], hexText([]byte(sent.fields[52])), sent.fields[64], hexText([]byte(sent.fields[64])), hexText(testMAK)} {
		if strings.Contains(strings.ToUpper(string(raw)), secret) {
			t.Error("the result shows a secret")
		}
	}
	if s := testSale(); strings.Contains(s.String(), testPAN) || strings.Contains(s.LogValue().String(), testPIN) {
		t.Error("a sale prints its card data")
	}
}

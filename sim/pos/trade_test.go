package pos

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// row is what a command must send, written down from facts/unionpay.md §3 a second time: MTI, F3, F25, 60.1.
type row struct {
	mti, processing, condition, code string
	first                            []string // commands that must be approved before
	undo, stored                     bool
}

var rows = map[string]row{
	"purchase":       {"0200", "000000", "00", "22", nil, true, false},
	"void":           {"0200", "200000", "00", "23", []string{"purchase"}, true, false},
	"refund":         {"0220", "200000", "00", "25", []string{"purchase"}, false, false},
	"preauth":        {"0100", "030000", "06", "10", nil, true, false},
	"preauth-void":   {"0100", "200000", "06", "11", []string{"preauth"}, true, false},
	"complete":       {"0200", "000000", "06", "20", []string{"preauth"}, true, false},
	"complete-void":  {"0200", "200000", "06", "21", []string{"preauth", "complete"}, true, false},
	"advice":         {"0220", "000000", "06", "24", []string{"preauth"}, false, true},
	"offline":        {"0220", "000000", "00", "30", nil, false, true},
	"adjust":         {"0220", "000000", "00", "32", []string{"offline"}, false, true},
	"tip":            {"0220", "000000", "00", "34", []string{"purchase"}, false, true},
	"offline-chip":   {"0200", "000000", "00", "36", nil, false, true},
	"offline-refund": {"0220", "200000", "00", "27", []string{"offline"}, false, true},
	"script-result":  {"0620", "030000", "06", "10", []string{"preauth"}, false, true},
	"load":           {"0200", "600000", "91", "45", nil, false, false},
}

func TestEveryTradeHasARow(t *testing.T) {
	t.Parallel()
	for command := range trades {
		if _, ok := rows[command]; !ok {
			t.Errorf("%s has no row in this test", command)
		}
	}
	if len(trades) != len(rows) {
		t.Errorf("%d trades, %d rows", len(trades), len(rows))
	}
}

// saleFor gives card and amount where the command has no original to take them from.
func saleFor(command string) Sale {
	if len(rows[command].first) > 0 {
		return Sale{}
	}
	return testSale()
}

// ready is a signed-on terminal after what a command needs.
func ready(t *testing.T, cfg Config, command string) *Terminal {
	t.Helper()
	terminal := signedOn(t, cfg)
	for _, first := range rows[command].first {
		check(t, terminal.Trade(t.Context(), first, saleFor(first)), OutcomeApproved, "00")
	}
	return terminal
}

// TestTrades: each command sends its row, names its original, and takes card and amount from it.
func TestTrades(t *testing.T) {
	t.Parallel()
	for command, want := range rows {
		t.Run(command, func(t *testing.T) {
			t.Parallel()
			h := startHost(t)
			terminal := ready(t, testConfig(t, h), command)
			r := terminal.Trade(t.Context(), command, saleFor(command))
			check(t, r, OutcomeApproved, "00")
			sent := h.last()
			network := "000"
			if command == "script-result" {
				network = "951"
			}
			if got := strings.Join([]string{sent.mti, sent.fields[3], sent.fields[25], sent.fields[60]}, " "); got !=
				strings.Join([]string{want.mti, want.processing, want.condition, want.code + "000001" + network}, " ") {
				t.Errorf("sent %s", got)
			}
			reference := ""
			if n := len(want.first); n > 0 {
				reference = fmt.Sprintf("101530000001 A12345 000001%06d0809", n+1)
			}
			if got := strings.TrimSpace(strings.Join([]string{sent.fields[37], sent.fields[38], sent.fields[61]}, " ")); got != reference {
				t.Errorf("names its original as %q, want %q", got, reference)
			}
			if sent.fields[4] != "000000001234" || r.AmountFen != 1234 || r.PAN != "622202*********0018" {
				t.Errorf("amount %s, result %+v", sent.fields[4], r)
			}
			if sent.fields[64] == "" {
				t.Error("no MAC")
			}
			hasPIN := len(want.first) == 0 && !want.stored
			if (sent.fields[52] != "") != hasPIN || (sent.fields[55] != "") != (command == "offline-chip" || command == "script-result") {
				t.Error("PIN or chip data is not as it should be")
			}
			if want.stored && (sent.fields[35] != "" || sent.fields[2] != testPAN || sent.fields[14] == "") {
				t.Error("a stored message goes with card number and expiry, without a track")
			}
		})
	}
}

// TestTradesInDoubt: without an answer a trade is reversed, or stored and sent again as it was, or left to people.
func TestTradesInDoubt(t *testing.T) {
	t.Parallel()
	for command, want := range rows {
		t.Run(command, func(t *testing.T) {
			t.Parallel()
			h := startHost(t)
			cfg := testConfig(t, h)
			cfg.StateFile = filepath.Join(t.TempDir(), "state.json")
			terminal := ready(t, cfg, command)
			before := len(h.seen)
			h.on(func(packet) ([]byte, bool) { return nil, true })
			r := terminal.Trade(t.Context(), command, saleFor(command))
			if r.Outcome != OutcomeInDoubt || r.PendingReversal != want.undo || (len(terminal.state.Stored) == 1) != want.stored {
				t.Fatalf("%s, pending %v, %d stored: %s %v", r.Outcome, r.PendingReversal, len(terminal.state.Stored), r.Error, r.Actions)
			}
			sent := h.last()
			h.on(nil)
			// It lives over a restart, and over new keys.
			again := newTerminal(t, cfg)
			check(t, again.SignOn(t.Context()), OutcomeApproved, "00")
			check(t, again.Balance(t.Context(), testSale()), OutcomeApproved, "00")
			list := h.seen[before+2 : len(h.seen)-1]
			if (len(list) == 1) != (want.undo || want.stored) {
				t.Fatalf("%d messages before the balance inquiry", len(list))
			}
			if len(list) == 0 {
				return
			}
			got := list[0]
			fields := slices.DeleteFunc(sent.numbers(), func(n int) bool { return n == 64 })
			if want.undo {
				// Tracks are enciphered again; PIN, original and its own code do not belong to a reversal.
				fields = []int{3, 4, 11, 22, 25, 35, 41, 42, 49, 60}
				if got.mti != "0400" || got.fields[39] != "98" || got.fields[52] != "" {
					t.Errorf("reversal: %s cause %s", got.mti, got.fields[39])
				}
			} else if got.mti != sent.mti || len(got.fields) != len(sent.fields) {
				t.Errorf("the repeat is a %s of %d fields, the first was a %s of %d", got.mti, len(got.fields), sent.mti, len(sent.fields))
			}
			for _, n := range fields {
				if got.fields[n] != sent.fields[n] {
					t.Errorf("field %d differs", n)
				}
			}
			if again.state.Pending != nil || len(again.state.Stored) != 0 {
				t.Error("something is still open")
			}
		})
	}
}

// TestOriginals: what is ended is not taken again by itself; a reversal, or the void of a completion, brings it back.
func TestOriginals(t *testing.T) {
	t.Parallel()
	h := startHost(t)
	terminal := signedOn(t, testConfig(t, h))
	do := func(command string, sale Sale, outcome Outcome) {
		t.Helper()
		if r := terminal.Trade(t.Context(), command, sale); r.Outcome != outcome {
			t.Fatalf("%s: %s %s", command, r.Outcome, r.Error)
		}
	}
	undo := func() {
		t.Helper()
		check(t, terminal.Reversal(t.Context()), OutcomeApproved, "00")
	}
	do("void", Sale{}, OutcomeFailed)
	do("purchase", testSale(), OutcomeApproved) // trace 2
	do("purchase", testSale(), OutcomeApproved) // 3
	do("void", Sale{}, OutcomeApproved)         // of 3
	if sent := h.last(); sent.fields[61] != "0000010000030809" {
		t.Errorf("void of %s", sent.fields[61])
	}
	undo()                                                            // 3 stands again
	do("void", Sale{}, OutcomeApproved)                               // of 3
	do("void", Sale{}, OutcomeApproved)                               // of 2
	do("void", Sale{}, OutcomeFailed)                                 // nothing is left
	do("void", Sale{OriginalTrace: "000002"}, OutcomeApproved)        // asked for: the host must judge
	do("void", Sale{OriginalTrace: "000999"}, OutcomeFailed)          // not remembered
	do("refund", Sale{AmountFen: 1, PIN: testPIN}, OutcomeFailed)     // both are voided
	do("preauth", Sale{AmountFen: 50, PAN: testPAN}, OutcomeApproved) // trace 10 or so
	hold := terminal.state.Trace
	do("complete", Sale{AmountFen: 40}, OutcomeApproved)
	do("preauth-void", Sale{}, OutcomeFailed)
	do("complete-void", Sale{}, OutcomeApproved)
	if sent := h.last(); sent.fields[4] != "000000000040" {
		t.Errorf("completion void of %s", sent.fields[4])
	}
	do("advice", Sale{}, OutcomeApproved)
	if sent := h.last(); sent.fields[61] != fmt.Sprintf("000001%06d0809", hold) || sent.fields[4] != "000000000050" {
		t.Errorf("advice of %s over %s", sent.fields[61], sent.fields[4])
	}
	do("complete", Sale{}, OutcomeFailed)
	do("refund", Sale{AmountFen: 5, PIN: testPIN}, OutcomeApproved)
	if sent := h.last(); sent.fields[52] != "" || sent.fields[4] != "000000000005" {
		t.Error("the refund has a PIN, or another amount")
	}
	if r := terminal.Reversal(t.Context()); r.Outcome != OutcomeFailed {
		t.Error("a refund was reversed")
	}
	// Of another terminal, by its references.
	do("complete", Sale{AmountFen: 40, PAN: testPAN, AuthCode: "B00001"}, OutcomeApproved)
	if sent := h.last(); sent.fields[38] != "B00001" || sent.fields[61] != "" || sent.fields[37] != "" {
		t.Errorf("foreign original: %s %s", sent.fields[38], sent.fields[61])
	}
	do("void", Sale{AmountFen: 40, PAN: testPAN, OriginalTrace: "000777", OriginalRRN: "R00000000001"}, OutcomeApproved)
	if sent := h.last(); sent.fields[61] != "000001000777" || sent.fields[37] != "R00000000001" {
		t.Errorf("forgotten original: %s %s", sent.fields[61], sent.fields[37])
	}
}

// TestStoredCodes: which answers end a stored message.
func TestStoredCodes(t *testing.T) {
	t.Parallel()
	for code, waits := range map[string]bool{
		"00": false, "25": false, "94": false, "40": false, "30": false, "14": false,
		"96": true, "91": true, "98": true, "77": true, "A0": true, "68": true,
	} {
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			h := startHost(t)
			terminal := signedOn(t, testConfig(t, h))
			h.on(func(q packet) ([]byte, bool) { return h.sealed(h.reply(q, code), testMAK), false })
			r := terminal.Trade(t.Context(), "offline", testSale())
			outcome := OutcomeDeclined
			if code == "00" {
				outcome = OutcomeApproved
			}
			check(t, r, outcome, code)
			if (len(terminal.state.Stored) == 1) != waits {
				t.Fatalf("%d stored: %v", len(terminal.state.Stored), r.Actions)
			}
			h.on(nil)
			if code == "77" || code == "A0" {
				if r := terminal.Deliver(t.Context()); r.Outcome != OutcomeFailed || r.SignedOn {
					t.Errorf("delivered without a sign-on: %+v", r)
				}
				check(t, terminal.SignOn(t.Context()), OutcomeApproved, "00")
			}
			if r := terminal.Deliver(t.Context()); r.Outcome != OutcomeApproved || len(terminal.state.Stored) != 0 {
				t.Errorf("deliver: %+v", r)
			}
			check(t, terminal.SignOff(t.Context()), OutcomeApproved, "00")
		})
	}
}

// TestStoredKeepOrder: what is stored goes out in order before the next transaction, and before a sign-off; a host that is away stops it.
func TestStoredKeepOrder(t *testing.T) {
	t.Parallel()
	h := startHost(t)
	terminal := signedOn(t, testConfig(t, h))
	h.on(func(packet) ([]byte, bool) { return nil, true })
	for range 3 {
		if r := terminal.Trade(t.Context(), "offline", testSale()); r.Outcome != OutcomeInDoubt {
			t.Fatal(r.Outcome)
		}
	}
	if r := terminal.SignOff(t.Context()); r.Outcome != OutcomeFailed || !strings.Contains(r.Error, "pos deliver") {
		t.Errorf("sign-off: %+v", r)
	}
	if r := terminal.Deliver(t.Context()); r.Outcome != OutcomeFailed || len(terminal.state.Stored) != 3 {
		t.Errorf("deliver: %+v", r)
	}
	// Of a batch that has ended, 77 is the last word.
	h.on(func(q packet) ([]byte, bool) {
		if q.fields[11] == "000003" {
			return h.sealed(h.reply(q, "77"), testMAK), false
		}
		return h.honest(q), false
	})
	terminal.state.Stored[1].Batch = "000000"
	before := len(h.seen)
	check(t, terminal.Deliver(t.Context()), OutcomeFailed, "")
	var traces []string
	for _, p := range h.seen[before:] {
		traces = append(traces, p.fields[11])
	}
	if got := strings.Join(traces, " "); got != "000002 000003" || terminal.state.SignedOn || len(terminal.state.Stored) != 1 {
		t.Errorf("sent %s, signed on %v, %d stored", got, terminal.state.SignedOn, len(terminal.state.Stored))
	}
}

func TestStoredIsBounded(t *testing.T) {
	t.Parallel()
	h := startHost(t)
	terminal := signedOn(t, testConfig(t, h))
	h.stop()
	terminal.state.Stored = make([]stored, maxStored)
	if r := terminal.Trade(t.Context(), "offline", testSale()); r.Outcome != OutcomeFailed || !strings.Contains(r.Error, "pos deliver") {
		t.Errorf("%+v", r)
	}
	for n := range maxSold + 2 {
		terminal.remember(sold{Command: commandPurchase, Trace: fmt.Sprintf("%06d", n)})
	}
	if got := terminal.state.Sold; len(got) != maxSold || got[0].Trace != "000002" {
		t.Errorf("%d remembered, the first is %s", len(got), got[0].Trace)
	}
}

// TestTradeState: a state file of an unknown kind is refused, and none shows card data.
func TestTradeState(t *testing.T) {
	t.Parallel()
	h := startHost(t)
	cfg := testConfig(t, h)
	cfg.StateFile = filepath.Join(t.TempDir(), "state.json")
	terminal := signedOn(t, cfg)
	check(t, terminal.Trade(t.Context(), "preauth", testSale()), OutcomeApproved, "00")
	h.on(func(packet) ([]byte, bool) { return nil, true })
	terminal.Trade(t.Context(), "offline", testSale())
	file, err := os.ReadFile(cfg.StateFile)
	if err != nil {
		t.Fatal(err)
	}
	raw := string(file)
	for _, secret := range []string{testPAN, testPAN[4:16], testPIN, "D3012"} {
		if strings.Contains(raw, secret) {
			t.Error("the state file shows card data")
		}
	}
	for _, command := range []string{`"command": "preauth"`, `"command": "offline"`} {
		if err := os.WriteFile(cfg.StateFile, []byte(strings.ReplaceAll(raw, command, `"command": "x"`)), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), "begin afresh") {
			t.Errorf("%s as an unknown kind: %v", command, err)
		}
	}
	if r := terminal.Trade(t.Context(), "nonsense", testSale()); r.Outcome != OutcomeFailed {
		t.Error("a command that does not exist was done")
	}
}

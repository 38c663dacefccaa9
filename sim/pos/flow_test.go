package pos

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func testSale() Sale { return Sale{AmountFen: 1234, PAN: testPAN, PIN: testPIN} }

// check compares the points of a result that a test is about.
func check(t *testing.T, r Result, outcome Outcome, code string) {
	t.Helper()
	if r.Outcome != outcome || r.Code != code {
		t.Fatalf("%s: %s code %q (%s; %v), want %s %q", r.Command, r.Outcome, r.Code, r.Error, r.Actions, outcome, code)
	}
}

func TestSignOnSchemes(t *testing.T) {
	t.Parallel()
	for _, scheme := range []string{"001", "003", "004"} {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			h := startHost(t)
			h.batch = "006603"
			cfg := testConfig(t, h)
			cfg.Scheme = scheme
			terminal := signedOn(t, cfg)
			if terminal.state.Batch != "006603" {
				t.Errorf("batch %s not adopted", terminal.state.Batch)
			}
			r := terminal.Purchase(t.Context(), testSale())
			check(t, r, OutcomeApproved, "00")
			sent := h.last()
			wantF53 := map[string]string{"001": "2000000000000000", "003": "2600000000000000", "004": "2610000000000000"}[scheme]
			if sent.fields[53] != wantF53 {
				t.Errorf("F53 %s, want %s", sent.fields[53], wantF53)
			}
			clearTrack := strings.HasPrefix(sent.fields[35], testPAN+"D3012220")
			if _, hasPAN := sent.fields[2]; hasPAN || clearTrack != (scheme != "004") || len(sent.fields[35]) != 37 {
				t.Error("track 2 is not as the scheme asks")
			}
			if sent.fields[60] != "22006603000" || sent.fields[22] != "021" || sent.fields[26] != "06" {
				t.Errorf("F60 %s F22 %s F26 %s", sent.fields[60], sent.fields[22], sent.fields[26])
			}
		})
	}
}

func TestPurchaseAndBalance(t *testing.T) {
	t.Parallel()
	h := startHost(t)
	terminal := signedOn(t, testConfig(t, h))
	r := terminal.Purchase(t.Context(), testSale())
	check(t, r, OutcomeApproved, "00")
	if r.RRN != "101530000001" || r.AuthCode != "A12345" || r.AmountFen != 1234 || r.Trace != "000002" || r.PendingReversal || r.Meaning != "approved" || r.MeaningZH != "交易成功" {
		t.Errorf("result %+v", r)
	}
	keyed := testSale()
	keyed.Entry, keyed.PIN = EntryKeyed, ""
	check(t, terminal.Purchase(t.Context(), keyed), OutcomeApproved, "00")
	sent := h.last()
	if sent.fields[2] != testPAN || sent.fields[22] != "012" || sent.fields[53] != "" || sent.fields[52] != "" || sent.fields[35] != "" {
		t.Error("a keyed purchase without PIN has the wrong fields")
	}
	r = terminal.Balance(t.Context(), testSale())
	check(t, r, OutcomeApproved, "00")
	if r.BalanceFen == nil || *r.BalanceFen != 100000 {
		t.Errorf("balance %v", r.BalanceFen)
	}
	if sent := h.last(); sent.fields[4] != "" || sent.fields[3] != "310000" || !strings.HasPrefix(sent.fields[60], "01") {
		t.Error("a balance inquiry has the wrong fields")
	}
	check(t, terminal.Echo(t.Context()), OutcomeApproved, "00")
	check(t, terminal.SignOff(t.Context()), OutcomeApproved, "00")
	if r := terminal.Purchase(t.Context(), testSale()); r.Outcome != OutcomeFailed || !strings.Contains(r.Error, "signon") {
		t.Errorf("purchase after sign-off: %+v", r)
	}
	if got := h.requests(); got != "0800 0200 0200 0200 0820 0820" {
		t.Errorf("requests %s", got)
	}
}

// TestWrongKCV damages the check value of each key: the result names the key, the terminal is not signed on and cannot trade.
func TestWrongKCV(t *testing.T) {
	t.Parallel()
	for name, at := range map[string]int{"PIN key": 16, "MAC key": 36, "track key": 56} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := startHost(t)
			terminal := signedOn(t, testConfig(t, h))
			h.on(func(request packet) ([]byte, bool) {
				p := h.reply(request, "00")
				keys := []byte(p.fields[62])
				keys[at] ^= 0xFF
				p.fields[62] = string(keys)
				return h.frame(p), false
			})
			r := terminal.SignOn(t.Context())
			if r.Outcome != OutcomeFailed || r.SignedOn || !strings.Contains(r.Error, name) {
				t.Errorf("sign-on: %s, signed on %v, %q", r.Outcome, r.SignedOn, r.Error)
			}
			for other := range map[string]bool{"PIN key": true, "MAC key": true, "track key": true} {
				if other != name && strings.Contains(r.Error, other) {
					t.Errorf("the error also names the %s", other)
				}
			}
			if r := terminal.Purchase(t.Context(), testSale()); r.Outcome != OutcomeFailed {
				t.Error("the terminal trades without keys")
			}
		})
	}
}

// TestWrongAnswers: every unusable answer leaves a reversal with its cause, sent before the next transaction and repeated
// until it is answered.
func TestWrongAnswers(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, cause string
		script      func(h *host, request packet) ([]byte, bool)
	}{
		{"wrong MAC", "A0", func(h *host, q packet) ([]byte, bool) { return h.sealed(h.reply(q, "00"), testPIK), false }},
		{"approval without MAC", "A0", func(h *host, q packet) ([]byte, bool) { return h.frame(h.reply(q, "00")), false }},
		{"refusal with wrong MAC", "A0", func(h *host, q packet) ([]byte, bool) { return h.sealed(h.reply(q, "51"), testPIK), false }},
		{"cut frame", "98", func(h *host, q packet) ([]byte, bool) { return h.honest(q)[:40], true }},
		{"hang-up", "98", func(*host, packet) ([]byte, bool) { return nil, true }},
		{"silence", "98", func(*host, packet) ([]byte, bool) { return nil, false }},
		{"over-long frame", "98", func(*host, packet) ([]byte, bool) { return []byte{0xFF, 0xFF, 0}, true }},
		{"not this dialect", "06", func(*host, packet) ([]byte, bool) { return []byte{0, 3, 1, 2, 3}, false }},
		{"other MTI", "06", func(h *host, q packet) ([]byte, bool) {
			p := h.reply(q, "00")
			p.mti = "0410"
			return h.sealed(p, testMAK), false
		}},
		{"other amount", "06", func(h *host, q packet) ([]byte, bool) {
			p := h.reply(q, "00")
			p.fields[4] = "000000001235"
			return h.sealed(p, testMAK), false
		}},
		{"other trace", "98", func(h *host, q packet) ([]byte, bool) {
			p := h.reply(q, "00")
			p.fields[11] = "999999"
			return h.sealed(p, testMAK), true
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			h := startHost(t)
			cfg := testConfig(t, h)
			cfg.KeepOpen = true
			if tc.name == "silence" {
				cfg.Timeout = 300 * time.Millisecond // waited out
			}
			terminal := signedOn(t, cfg)
			h.on(func(q packet) ([]byte, bool) { return tc.script(h, q) })
			r := terminal.Purchase(t.Context(), testSale())
			if r.Outcome != OutcomeInDoubt || !r.PendingReversal {
				t.Fatalf("purchase: %s %s %v", r.Outcome, r.Error, r.Actions)
			}
			trace := r.Trace
			// The first try of the reversal gets no answer, the second one does.
			calls := 0
			h.on(func(q packet) ([]byte, bool) {
				if calls++; calls == 1 {
					return nil, true
				}
				return h.honest(q), false
			})
			r = terminal.Balance(t.Context(), testSale())
			check(t, r, OutcomeApproved, "00")
			if r.PendingReversal || !strings.Contains(strings.Join(r.Actions, "\n"), "reversed trace "+trace) {
				t.Errorf("actions %v", r.Actions)
			}
			if got := h.requests(); got != "0800 0200 0400 0400 0200" {
				t.Fatalf("requests %s", got)
			}
			purchase, reversal := h.seen[1], h.seen[3]
			for _, n := range []int{3, 4, 11, 22, 25, 35, 41, 42, 49, 60} {
				if purchase.fields[n] != reversal.fields[n] {
					t.Errorf("field %d of the reversal differs", n)
				}
			}
			if reversal.fields[39] != tc.cause || reversal.fields[52] != "" || reversal.fields[64] == "" {
				t.Errorf("reversal: cause %s, want %s", reversal.fields[39], tc.cause)
			}
		})
	}
}

// TestReversalGivesUp: after three tries without an answer the next transaction does not begin.
func TestReversalGivesUp(t *testing.T) {
	t.Parallel()
	h := startHost(t)
	terminal := signedOn(t, testConfig(t, h))
	h.on(func(packet) ([]byte, bool) { return nil, true })
	terminal.Purchase(t.Context(), testSale())
	r := terminal.Purchase(t.Context(), testSale())
	if r.Outcome != OutcomeFailed || !r.PendingReversal {
		t.Fatalf("purchase behind an open reversal: %s %s", r.Outcome, r.Error)
	}
	if got := h.requests(); got != "0800 0200 0400 0400 0400" {
		t.Errorf("requests %s", got)
	}
	h.on(nil)
	check(t, terminal.Reversal(t.Context()), OutcomeApproved, "00")
	check(t, terminal.Purchase(t.Context(), testSale()), OutcomeApproved, "00")
}

func TestReverseAtOnce(t *testing.T) {
	t.Parallel()
	h := startHost(t)
	cfg := testConfig(t, h)
	cfg.ReverseAtOnce = true
	terminal := signedOn(t, cfg)
	h.on(func(q packet) ([]byte, bool) {
		if q.mti == "0200" {
			return nil, true
		}
		return h.honest(q), false
	})
	r := terminal.Purchase(t.Context(), testSale())
	if r.Outcome != OutcomeInDoubt || r.PendingReversal {
		t.Errorf("purchase: %s, pending %v, %v", r.Outcome, r.PendingReversal, r.Actions)
	}
}

func TestOperatorReversal(t *testing.T) {
	t.Parallel()
	h := startHost(t)
	terminal := signedOn(t, testConfig(t, h))
	if r := terminal.Reversal(t.Context()); r.Outcome != OutcomeFailed {
		t.Errorf("nothing to reverse: %s", r.Outcome)
	}
	check(t, terminal.Purchase(t.Context(), testSale()), OutcomeApproved, "00")
	check(t, terminal.Reversal(t.Context()), OutcomeApproved, "00")
	if sent := h.last(); sent.fields[39] != "06" || sent.fields[11] != "000002" {
		t.Errorf("reversal of trace %s with cause %s", sent.fields[11], sent.fields[39])
	}
	if r := terminal.Reversal(t.Context()); r.Outcome != OutcomeFailed {
		t.Error("a purchase was reversed twice")
	}
}

func TestDeclined(t *testing.T) {
	t.Parallel()
	for code, stillOn := range map[string]bool{"51": true, "55": true, "77": false, "A0": false, "99": false, "97": false} {
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			h := startHost(t)
			terminal := signedOn(t, testConfig(t, h))
			// Without a MAC, as hosts may refuse.
			h.on(func(q packet) ([]byte, bool) { return h.frame(h.reply(q, code)), false })
			r := terminal.Purchase(t.Context(), testSale())
			check(t, r, OutcomeDeclined, code)
			if r.SignedOn != stillOn || r.PendingReversal {
				t.Errorf("signed on %v, pending %v", r.SignedOn, r.PendingReversal)
			}
		})
	}
}

// TestNotSent: when nothing left the terminal, nothing is in doubt.
func TestNotSent(t *testing.T) {
	t.Parallel()
	h := startHost(t)
	terminal := signedOn(t, testConfig(t, h))
	h.stop()
	r := terminal.Purchase(t.Context(), testSale())
	if r.Outcome != OutcomeFailed || r.PendingReversal || !strings.Contains(r.Error, "make dev") {
		t.Errorf("purchase: %s, pending %v, %s", r.Outcome, r.PendingReversal, r.Error)
	}
}

func TestHostAsksForSignOn(t *testing.T) {
	t.Parallel()
	h := startHost(t)
	terminal := signedOn(t, testConfig(t, h))
	h.on(func(q packet) ([]byte, bool) {
		p := h.reply(q, "00")
		p.header = p.header[:5] + "3" + p.header[6:]
		return h.sealed(p, testMAK), false
	})
	if r := terminal.Purchase(t.Context(), testSale()); r.Outcome != OutcomeApproved || r.SignedOn {
		t.Errorf("%s, signed on %v", r.Outcome, r.SignedOn)
	}
}

// TestStateOverRestart: trace, batch, sign-on and a pending reversal live on; the file shows no card data.
func TestStateOverRestart(t *testing.T) {
	t.Parallel()
	h := startHost(t)
	h.batch = "000042"
	cfg := testConfig(t, h)
	cfg.StateFile = filepath.Join(t.TempDir(), "state.json")
	terminal := signedOn(t, cfg)
	h.on(func(packet) ([]byte, bool) { return nil, true })
	r := terminal.Purchase(t.Context(), testSale())
	if !r.PendingReversal {
		t.Fatal("nothing pending")
	}
	raw, err := os.ReadFile(cfg.StateFile)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{testPAN, testPAN[4:16], testPIN, "D3012"} {
		if strings.Contains(string(raw), secret) {
			t.Error("the state file shows card data")
		}
	}
	h.on(nil)
	again := newTerminal(t, cfg)
	check(t, again.Purchase(t.Context(), testSale()), OutcomeApproved, "00")
	if got := h.requests(); got != "0800 0200 0400 0200" {
		t.Errorf("requests %s", got)
	}
	if sent := h.last(); sent.fields[11] != "000003" || sent.fields[60][2:8] != "000042" {
		t.Errorf("trace %s batch %s", sent.fields[11], sent.fields[60])
	}
	// Another card in the slot: signed off.
	cfg.PSAM = "60000000000000000002"
	state, err := newTerminal(t, cfg).Snapshot(t.Context())
	if err != nil || state.SignedOn || state.Trace != 3 {
		t.Errorf("with another card: %+v, %v", state, err)
	}
	cfg.TerminalID = "10000002"
	if _, err := New(cfg); err == nil {
		t.Error("the state of another terminal was accepted")
	}
	if err := os.WriteFile(cfg.StateFile, raw[:len(raw)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(cfg); err == nil {
		t.Error("a damaged state was accepted")
	}
}

// TestTraceIsNeverUsedTwice also when the counter wraps and when the state cannot be saved.
func TestTraceIsNeverUsedTwice(t *testing.T) {
	t.Parallel()
	h := startHost(t)
	cfg := testConfig(t, h)
	dir := t.TempDir()
	cfg.StateFile = filepath.Join(dir, "sub", "state.json")
	terminal := newTerminal(t, cfg)
	if r := terminal.SignOn(t.Context()); r.Outcome != OutcomeFailed || h.requests() != "" {
		t.Errorf("sign-on without a place for the state: %s, %s", r.Outcome, h.requests())
	}
	if err := os.Mkdir(filepath.Join(dir, "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	terminal.state.Trace = 999999
	if r := terminal.SignOn(t.Context()); r.Trace != "000001" {
		t.Errorf("trace after 999999: %s", r.Trace)
	}
}

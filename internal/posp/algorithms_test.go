package posp_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyward/keyward/internal/posp"
	"github.com/keyward/keyward/iso/unionpay/profile"
	"github.com/keyward/keyward/sim/pos"
)

// TestAlgorithms: each algorithm and profile trades over one listener, with PIN, enciphered track, keyed card, balance and reversal, by
// terminals that pack, MAC and encipher with their own code.
func TestAlgorithms(t *testing.T) {
	t.Parallel()
	s := newSystem(t, func(c *posp.Config) {
		c.Profiles = []profile.Profile{
			{Name: "padded", SM4PINBlock: profile.BlockPadded, SM4Digit: "3"},
			{Name: "managed", MACOn: []string{"0820"}, AnswerTPDU: profile.TPDUKeep},
		}
	})
	tests := []struct {
		profile, algorithm string
		mak                int
		scheme             string
		model              pos.Model
	}{
		{"unionpay", "des", 8, "001", pos.Model{}},
		{"unionpay", "tdes", 8, "003", pos.Model{}},
		{"unionpay", "tdes", 16, "004", pos.Model{}},
		{"unionpay", "sm4", 16, "006", pos.Model{}},
		{"unionpay", "sm4", 8, "006", pos.Model{}}, // the length is that of DES keys
		{"unionpay-x919", "tdes", 16, "004", pos.Model{MAC: "x9.19", MACBinary: true}},
		{"unionpay-x919", "tdes", 16, "003", pos.Model{MAC: "x9.19", MACBinary: true}},
		{"unionpay-x919", "sm4", 16, "006", pos.Model{MAC: "cbc", MACBinary: true}},
		{"unionpay-x99", "des", 8, "001", pos.Model{MAC: "cbc", MACBinary: true}},
		{"unionpay-x99", "tdes", 8, "004", pos.Model{MAC: "cbc", MACBinary: true}},
		{"unionpay-sm4-cbc", "sm4", 16, "006", pos.Model{MAC: "cbc"}},
		{"unionpay-cmac", "tdes", 16, "004", pos.Model{MAC: "cmac", MACBinary: true}},
		{"unionpay-cmac", "des", 8, "001", pos.Model{MAC: "cmac", MACBinary: true}},
		{"unionpay-cmac", "sm4", 16, "006", pos.Model{MAC: "cmac", MACBinary: true}},
		{"unionpay-sm4-005", "sm4", 16, "005", pos.Model{PINPlace: "63-sm016"}},
		{"unionpay-sm4-prefix", "sm4", 16, "006", pos.Model{PINPlace: "62-prefix"}},
		{"padded", "sm4", 16, "006", pos.Model{PINPadded: true, SM4Digit: "3"}},
		{"managed", "tdes", 8, "004", pos.Model{MACOn: []string{"0820"}}},
	}
	const first = 20
	for i, test := range tests {
		s.enrolAs(first+i, test.algorithm, test.mak, test.profile)
	}
	s.await("the new terminals", func() bool { return s.status().Terminals == 3+len(tests) })
	for i, test := range tests {
		t.Run(fmt.Sprintf("%s/%s%d/%s", test.profile, test.algorithm, test.mak, test.scheme), func(t *testing.T) {
			term := s.terminal(first+i, func(c *pos.Config) { c.Scheme, c.Model = test.scheme, test.model })
			want(t, term.SignOn(t.Context()), "00")
			before := s.balance()
			want(t, term.Purchase(t.Context(), pos.Sale{AmountFen: 1200, PAN: card1, PIN: pin1}), "00")
			want(t, term.Purchase(t.Context(), pos.Sale{AmountFen: 30, PAN: card1, PIN: pin1, Entry: pos.EntryKeyed}), "00")
			want(t, term.Purchase(t.Context(), pos.Sale{AmountFen: 4, PAN: card1}), "00")
			if got := before - s.balance(); got != 1234 {
				t.Errorf("the bank booked %d, want 1234", got)
			}
			want(t, term.Reversal(t.Context()), "00")
			want(t, term.Purchase(t.Context(), pos.Sale{AmountFen: 1, PAN: card1, PIN: "999999"}), "55")
			want(t, term.Balance(t.Context(), pos.Sale{PAN: card1, PIN: pin1}), "00")
			want(t, term.Echo(t.Context()), "00")
			want(t, term.SignOff(t.Context()), "00")
		})
	}
	if got := s.metric("posp_single_des_sign_ons_total"); got != 3 {
		t.Errorf("%v single DES sign-ons flagged, want 3", got)
	}
}

// TestProfileRefusals: what a terminal of another profile sends is refused, with the code that the table says, and moves no money.
func TestProfileRefusals(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	s.enrolAs(4, "sm4", 16, "unionpay")
	s.enrolAs(5, "tdes", 16, "unionpay-x919")
	s.enrolAs(6, "tdes", 8, "unionpay-x919") // a contradiction in the registry
	s.enrolAs(7, "tdes", 8, "not-configured")
	s.await("the new terminals", func() bool { return s.status().Terminals == 7 })
	before := s.balance()
	sale := pos.Sale{AmountFen: 1, PAN: card1, PIN: pin1}
	for name, test := range map[string]struct {
		terminal     int
		scheme       string
		model        pos.Model
		signOn, sale string
	}{
		"SM4 with triple DES":      {4, "004", pos.Model{}, "58", ""},
		"SM4 with single DES":      {4, "001", pos.Model{}, "58", ""},
		"SM4 under another code":   {4, "005", pos.Model{}, "40", ""},
		"PIN in another field":     {4, "006", pos.Model{PINPlace: "63-sm016"}, "00", "30"},
		"PIN of the other layout":  {4, "006", pos.Model{PINPadded: true}, "00", "99"},
		"field 53 of another host": {4, "006", pos.Model{SM4Digit: "3"}, "00", "30"},
		"SM4-CBC for the XOR form": {4, "006", pos.Model{MAC: "cbc"}, "00", "A0"},
		"XOR form for X9.19":       {5, "004", pos.Model{}, "00", "A0"},
		"X9.19 in hex":             {5, "004", pos.Model{MAC: "x9.19"}, "00", "A0"},
		"X9.19 with a short key":   {6, "004", pos.Model{}, "58", ""},
		"profile not configured":   {7, "004", pos.Model{}, "96", ""},
	} {
		t.Run(name, func(t *testing.T) {
			term := s.terminal(test.terminal, func(c *pos.Config) { c.Scheme, c.Model = test.scheme, test.model })
			want(t, term.SignOn(t.Context()), test.signOn)
			if test.sale != "" {
				want(t, term.Purchase(t.Context(), sale), test.sale)
			}
		})
	}
	if s.balance() != before {
		t.Error("money was moved")
	}
}

// TestRepeatWithOtherKeys: a purchase that comes again after a new sign-on has another PIN block and another track, and is the same purchase
// all the same, wherever the block travels.
func TestRepeatWithOtherKeys(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	s.enrolAs(4, "sm4", 16, "unionpay")
	s.await("the new terminal", func() bool { return s.status().Terminals == 4 })
	var cfg pos.Config
	term := s.terminal(4, func(c *pos.Config) {
		c.Scheme, c.StateFile = "006", filepath.Join(t.TempDir(), "state.json")
		cfg = *c
	})
	sale := pos.Sale{AmountFen: 700, PAN: card1, PIN: pin1}
	want(t, term.SignOn(t.Context()), "00")
	before := s.balance()
	first := want(t, term.Purchase(t.Context(), sale), "00")
	want(t, term.SignOn(t.Context()), "00")
	again := func() *pos.Terminal {
		state, err := term.Snapshot(t.Context())
		s.must(err)
		state.Trace--
		state.Trace-- // the sign-on's number and the purchase's
		text, err := json.Marshal(state)
		s.must(err)
		s.must(os.WriteFile(cfg.StateFile, text, 0o600))
		other, err := pos.New(cfg)
		s.must(err)
		t.Cleanup(func() { s.stop("terminal", other.Close) })
		return other
	}()
	second := want(t, again.Purchase(t.Context(), sale), "00")
	if first.Trace != second.Trace || first.RRN != second.RRN || before-s.balance() != 700 {
		t.Errorf("trace %s and %s, reference %s and %s, %d booked", first.Trace, second.Trace, first.RRN, second.RRN, before-s.balance())
	}
}

// TestChangedProfile: a terminal that is given another profile loses the keys of the old one.
func TestChangedProfile(t *testing.T) {
	t.Parallel()
	s := newSystem(t, nil)
	w := s.wire(t, 1)
	w.signOn("003")
	wantCode(t, w.ask(w.signed(w.sale(1, nil))), "00")
	s.await("the keys to be active", func() bool { return s.live(1, "active") == 1 })
	_, err := s.admin.Exec(t.Context(), `UPDATE terminals SET profile = 'unionpay-cmac' WHERE terminal_id = '10000001'`)
	s.must(err)
	_, err = s.admin.Exec(t.Context(), `INSERT INTO device_changes (terminal_id, kind) VALUES ('10000001', 'test')`)
	s.must(err)
	s.await("the keys to end", func() bool { return s.live(1, "active") == 0 })
	wantCode(t, w.ask(w.signed(w.sale(1, nil))), "77")
}

// TestBadProfiles: a configuration with a profile that contradicts itself, or an unknown key, does not start posp.
func TestBadProfiles(t *testing.T) {
	t.Parallel()
	c := posp.DefaultConfig()
	c.Profiles = []profile.Profile{{Name: "ours", MACForm: profile.FormBinary}, {Name: "unionpay"}}
	err := c.Validate()
	for _, want := range []string{"ours: mac_form is binary", "choose mac_form hex", "unionpay is there already"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
}

package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/keyward/keyward/internal/posv/orders"
	"github.com/keyward/keyward/keys"
	"github.com/keyward/keyward/keys/kcv"
	"github.com/keyward/keyward/sim/bank"
	"github.com/keyward/keyward/sim/control"
	"github.com/keyward/keyward/sim/pos"
)

// The characters: a shop that the development data do not have, with cards of its own, and an account that they have.
const (
	merchant = "104110000000777"
	terminal = "20000001"
	card     = "60000000000000001700"
	second   = "60000000000000001701" // issued, and kept in a drawer

	account  = "6222020000000000018"
	rightPIN = "123456"
	// wrongPIN is long, so that it cannot turn up by chance where it must not.
	wrongPIN = "739182645091"
	// stranger is a card that the bank does not know. Its check digit is wrong, so that the safety net of the logs
	// (internal/service) does not take it for a card number and hide what the code gives away.
	stranger = "6229876543210987654"
	// track2 is what the stripe of account holds here.
	track2 = account + "D30122208675309241"
)

// changeBound is how fast a change at posv must reach posp (P5).
const changeBound = time.Second

// TestSystem is one day of the whole system, told from outside. The parts need each other in this order.
func TestSystem(t *testing.T) {
	s := start(t, 2)
	for _, part := range []struct {
		name string
		run  func(*testing.T, *system)
	}{
		{"issue cards", issueCards},
		{"install the terminal", install},
		{"trade", trade},
		{"a broken HSM", brokenHSM},
		{"posp is killed", killPOSP},
		{"a silent bank", silentBank},
		{"no core files", noCoreFiles},
		{"README", readme},
		{"suspend", suspend},
		{"secrets", searchSecrets},
	} {
		if !t.Run(part.name, func(t *testing.T) { part.run(t, s) }) {
			t.FailNow()
		}
	}
}

func issueCards(t *testing.T, s *system) {
	var order orders.Order
	out := s.does(t, "posv", "order", "create", "--psam-from", card, "--count", "2", "--operator", "author", "--output", "json")
	if err := json.Unmarshal([]byte(out), &order); err != nil {
		t.Fatal(err)
	}
	for _, psam := range []string{card, second} {
		if err := s.BlankCard(t.Context(), psam); err != nil {
			t.Fatal(err)
		}
	}
	// Four eyes: without approvals, or with one, there is no card.
	for _, who := range []string{"officer-1", "officer-2"} {
		if exit, _ := s.run(t, "issuer", "card", "issue", "--psam", card); exit == 0 {
			t.Errorf("a card is issued before %s approved", who)
		}
		s.does(t, "posv", "order", "approve", order.ID, "--operator", who)
	}
	out = s.does(t, "issuer", "card", "issue", "--psam", card, "--count", "2")
	for _, psam := range []string{card, second} {
		if want := string(masterKCV(t, psam)); !strings.Contains(out, psam+"  personalised") || !strings.Contains(out, want) {
			t.Errorf("the issuer does not say that card %s has the master key %s:\n%s", psam, want, out)
		}
	}
	s.does(t, "issuer", "card", "show", "--psam", card)
}

// masterKCV is the check value that the card's master key must have, computed here.
func masterKCV(t *testing.T, psam string) keys.KCV {
	t.Helper()
	check, err := kcv.Of(keys.TDES, derive(t, keys.TDES, roots["PSAM-ROOT"], psam))
	if err != nil {
		t.Fatal(err)
	}
	return check[:8]
}

func install(t *testing.T, s *system) {
	s.does(t, "posv", "terminal", "add", terminal, "--merchant", merchant, "--merchant-name", "Shop of the test", "--operator", "tester")
	s.does(t, "posv", "terminal", "bind", terminal, "--psam", card, "--reason", "first card", "--operator", "tester")
	if _, err := s.AddTerminal(t.Context(), control.Terminal{TerminalID: terminal, MerchantID: merchant, PSAMNo: card}); err != nil {
		t.Fatal(err)
	}
	until(t, changeBound, "posp knows the terminal", func() bool { return s.signsOn(t) })
	r := s.terminal(t, "signon", "--terminal", terminal)
	if r.Code != "00" || !r.SignedOn || len(r.Actions) < 3 {
		t.Errorf("the card did not take all keys: %+v", r.Actions)
	}
	if r = s.terminal(t, "signon", "--terminal", "10000001"); r.Code != "00" {
		t.Errorf("sign-on of a terminal of the development data: %+v", r)
	}
}

// signsOn asks the simulators directly, because starting a program would be measured, too.
func (s *system) signsOn(t *testing.T) bool {
	t.Helper()
	r, err := s.Terminal(t.Context(), terminal, "signon", pos.Sale{})
	if err != nil {
		t.Fatal(err)
	}
	return r.Code == "00"
}

// sale runs a purchase or a balance inquiry by command and checks field 39.
func (s *system) sale(t *testing.T, want string, args ...string) pos.Result {
	t.Helper()
	r := s.terminal(t, append(args, "--terminal", terminal)...)
	if r.Code != want {
		t.Errorf("%s ended with %q, want %s: %+v", args[0], r.Code, want, r)
	}
	return r
}

// field looks for a field of a dump, "" when it is not there.
func field(d *pos.Dump, n int) string {
	for _, line := range d.Fields {
		if value, ok := strings.CutPrefix(line, fmt.Sprintf("F%-3d ", n)); ok {
			return value
		}
	}
	return ""
}

func trade(t *testing.T, s *system) {
	r := s.sale(t, "00", "purchase", "--amount", "12.34")
	if f53 := field(r.Request, 53); field(r.Request, 35) == "" || !strings.HasPrefix(f53, "261") {
		t.Errorf("the track was not enciphered: field 53 is %q", f53)
	}
	// By the control API, because the command has no flag for a track of one's own.
	swiped, err := s.Terminal(t.Context(), terminal, "purchase", pos.Sale{AmountFen: 100, PAN: account, PIN: rightPIN, Track2: track2})
	if err != nil || swiped.Code != "00" {
		t.Errorf("purchase with a track: %+v %v", swiped, err)
	}
	r = s.sale(t, "00", "purchase", "--amount", "1.00", "--entry", "keyed")
	if field(r.Request, 2) == "" || field(r.Request, 35) != "" {
		t.Error("a keyed purchase has no card number, or a track")
	}
	s.sale(t, "55", "purchase", "--pin", wrongPIN)
	s.sale(t, "55", "purchase", "--pin", wrongPIN, "--entry", "keyed")
	s.sale(t, "14", "purchase", "--pan", stranger, "--pin", wrongPIN)
	s.sale(t, "14", "purchase", "--pan", stranger, "--entry", "keyed", "--pin", "")
	if r = s.sale(t, "00", "balance"); r.BalanceFen == nil || *r.BalanceFen != 100_000_000-1234-100-100 {
		t.Errorf("balance %v", r.BalanceFen)
	}
	s.sale(t, "00", "reversal") // of the keyed purchase, the last approved one
	if r = s.sale(t, "00", "balance"); r.BalanceFen == nil || *r.BalanceFen != 100_000_000-1234-100 {
		t.Errorf("balance after the reversal %v", r.BalanceFen)
	}
}

func brokenHSM(t *testing.T, s *system) {
	for _, how := range []string{"refuse", "black_hole"} {
		if _, err := s.BreakHSM(t.Context(), "hsm1", how); err != nil {
			t.Fatal(err)
		}
		for range 4 { // one at least falls to the broken device
			s.sale(t, "00", "purchase", "--amount", "0.01")
		}
		if r := s.terminal(t, "signon", "--terminal", "10000002"); r.Code != "00" {
			t.Errorf("sign-on with one HSM gone (%s): %+v", how, r)
		}
		if _, err := s.MendHSM(t.Context(), "hsm1"); err != nil {
			t.Fatal(err)
		}
	}
}

// killPOSP also gives posp less patience with the bank for what follows: the new process reads the file again.
func killPOSP(t *testing.T, s *system) {
	path := filepath.Join(s.data, "config", "posp.yaml")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.NewReplacer("host_timeout: 30s", "host_timeout: 3s", "hsm_timeout: 5s", "hsm_timeout: 2s", "timeout: 3s", "timeout: 1s").Replace(string(text))
	if changed == string(text) {
		t.Fatal("posp.yaml does not have the time-outs that this test shortens")
	}
	if err := os.WriteFile(path, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	// A purchase is under way when posp dies: the bank has booked it and keeps the answer back.
	if err := s.SetBankFaults(t.Context(), bank.Fault{Kind: bank.Hold, MTI: "0200", Next: 1}); err != nil {
		t.Fatal(err)
	}
	before := s.totals(t)
	sold := make(chan pos.Result, 1)
	go func() {
		r, _ := s.Terminal(t.Context(), terminal, "purchase", pos.Sale{AmountFen: 7700, PAN: account, PIN: rightPIN}) // its end is judged by the book
		sold <- r
	}()
	until(t, patience, "the bank has booked the purchase", func() bool { return s.totals(t).Booked == before.Booked+1 })

	pid := s.children(t)["posp"]
	if pid == 0 {
		t.Fatalf("posp is not among %v", s.children(t))
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	s.says(t, "posp was started again")
	until(t, patience, "posp is ready again", func() bool {
		res, err := http.Get("http://" + s.addr(8082) + "/readyz")
		if err != nil {
			return false
		}
		_ = res.Body.Close()
		return res.StatusCode == http.StatusOK
	})
	if r := <-sold; r.Code == "00" {
		t.Errorf("a purchase whose posp was killed is approved: %+v", r)
	}
	if _, err := s.ReleaseBank(t.Context()); err != nil { // a late answer revives nothing
		t.Fatal(err)
	}
	until(t, 30*time.Second, "the open purchase is reversed", func() bool { return s.totals(t).Reversed == before.Reversed+1 })

	// No new sign-on: the working keys were in the database.
	r := s.sale(t, "00", "purchase", "--amount", "2.00")
	if !r.SignedOn || strings.Contains(strings.Join(r.Actions, "\n"), "key into the card") {
		t.Errorf("the terminal signed on again: %+v", r.Actions)
	}
}

func (s *system) totals(t *testing.T) bank.Totals {
	t.Helper()
	book, err := s.BankBook(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return book.Totals
}

func silentBank(t *testing.T, s *system) {
	if err := s.SetBankFaults(t.Context(), bank.Fault{Kind: bank.NoAnswer, MTI: "0200", Next: 1}); err != nil {
		t.Fatal(err)
	}
	before := s.totals(t)
	s.sale(t, "98", "purchase", "--amount", "50.00")
	until(t, 30*time.Second, "the reversal is answered", func() bool { return s.totals(t).Reversed == before.Reversed+1 })
	until(t, 30*time.Second, "posp owes no reversal", func() bool {
		_, body := s.ask(t, http.MethodGet, 8082, "/v1/status", "")
		var status struct {
			Owed *int `json:"reversals_owed"`
		}
		return json.Unmarshal(body, &status) == nil && status.Owed != nil && *status.Owed == 0
	})
	s.sale(t, "00", "purchase", "--amount", "3.00")
	if now := s.totals(t); now.BookedAmount-now.ReversedAmount != before.BookedAmount-before.ReversedAmount+300 {
		t.Errorf("money is lost: %+v, before %+v", now, before)
	}
}

func suspend(t *testing.T, s *system) {
	// By the API, so that time is measured from its answer and not from the end of a program.
	status, body := s.ask(t, http.MethodPost, 8080, "/v1/terminals/"+terminal+"/state", `{"state":"suspended","reason":"test"}`)
	if status != http.StatusOK {
		t.Fatalf("suspend: %d %s", status, body)
	}
	var r pos.Result
	took := until(t, changeBound, "the suspended terminal is refused", func() bool {
		var err error
		if r, err = s.Terminal(t.Context(), terminal, "purchase", pos.Sale{AmountFen: 100, PAN: account, PIN: rightPIN}); err != nil {
			t.Fatal(err)
		}
		return r.Outcome == pos.OutcomeDeclined
	})
	t.Logf("refused with %s %s after the API's answer", r.Code, took)
	if r = s.terminal(t, "signon", "--terminal", terminal); r.Code == "00" {
		t.Error("a suspended terminal signs on")
	}
	s.does(t, "posv", "terminal", "activate", terminal, "--reason", "found again", "--operator", "tester")
	until(t, changeBound, "the terminal signs on again", func() bool { return s.signsOn(t) })
	s.sale(t, "00", "purchase", "--amount", "1.00")
}

package story

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/keyward/keyward/sim/bank"
	"github.com/keyward/keyward/sim/pos"
)

// The characters of the story: development data of design.md §6.
const (
	terminal = "10000001"
	card     = "60000000000000000001"
	account  = "6222020000000000018"
	rightPIN = "123456"
	wrongPIN = "000000"
)

const (
	// within is how fast a change at posv must reach posp (P5).
	within = time.Second
	// reversalWait bounds the wait for the automatic reversal, which begins at once.
	reversalWait = 20 * time.Second
	// lookAgain is the pause between two looks at something that happens elsewhere.
	lookAgain = 50 * time.Millisecond
)

var steps = []step{
	{"A PSAM card is issued.", issueCard},
	{"The card is put into a terminal.", installTerminal},
	{"The terminal signs on.", signOn},
	{"A customer pays 12.34 yuan with card and PIN.", purchase},
	{"The customer mistypes the PIN.", mistype},
	{"The customer asks for the balance.", balance},
	{"The bank falls silent in the middle of a purchase.", silence},
	{"An HSM breaks.", breakHSM},
	{"The terminal is reported stolen and suspended.", suspend},
}

func issueCard(t *teller, ctx context.Context) error {
	order, err := t.system.Order(ctx, card, 1, "tdes")
	if err != nil {
		return err
	}
	t.detail("Order %s for one card was approved by two officers and signed by posv.", order)
	issued, err := t.system.Issue(ctx, card, order)
	if err != nil {
		return err
	}
	if issued.KCV == "" || issued.State != "personalised" {
		return fmt.Errorf("the issuer says state %q and check value %q", issued.State, issued.KCV)
	}
	t.detail("The key service checked the signature and had its HSM derive the keys of card %s.", card)
	t.detail("The issuer wrote them with three WRITE KEY commands that it cannot read; the card confirms master key KCV %s.", issued.KCV)
	return nil
}

func installTerminal(t *teller, ctx context.Context) error {
	if err := t.system.Merchant(ctx); err != nil {
		return err
	}
	if err := t.system.Install(ctx, terminal, card); err != nil {
		return err
	}
	t.detail("posv registered merchant and terminal %s and bound the card to it, with history.", terminal)
	return nil
}

// command has the terminal do something. At first posp may not have heard of the terminal yet.
func (t *teller) command(ctx context.Context, name string, sale map[string]any) (pos.Result, error) {
	var r pos.Result
	err := t.system.Control.Call(ctx, http.MethodPost, "/v1/terminals/"+terminal+"/"+name, "", sale, &r)
	return r, err
}

// expect has the terminal do something that must end with the code.
func (t *teller) expect(ctx context.Context, name string, sale map[string]any, code string) (pos.Result, error) {
	r, err := t.command(ctx, name, sale)
	if err != nil {
		return r, err
	}
	if r.Code != code {
		return r, fmt.Errorf("%s ended with code %q (%s), want %s: %s", name, r.Code, r.Meaning, code, r.Error)
	}
	return r, nil
}

func sale(fen int, pin string) map[string]any {
	return map[string]any{"amount": fen, "pan": account, "pin": pin}
}

func signOn(t *teller, ctx context.Context) error {
	r, err := t.eventually(ctx, within+time.Second, "signon", nil, "00")
	if err != nil {
		return err
	}
	if !r.SignedOn {
		return errors.New("the terminal does not count itself as signed on: " + r.Error)
	}
	var list struct {
		Items []struct {
			PIK string `json:"pik_kcv"`
			MAK string `json:"mak_kcv"`
			TDK string `json:"tdk_kcv"`
		} `json:"items"`
	}
	if err := t.system.POSV.Call(ctx, http.MethodGet, "/v1/terminals/"+terminal+"/sign-ons", "", nil, &list); err != nil {
		return err
	}
	if len(list.Items) == 0 {
		return errors.New("posv knows of no sign-on")
	}
	t.detail("0800 and 0810 in %d ms. The HSM made a PIN, a MAC and a track key under the card's master key;", r.DurationMS)
	t.detail("the card took them after checking their KCVs: PIK %s, MAK %s, TDK %s.", list.Items[0].PIK, list.Items[0].MAK, list.Items[0].TDK)
	return nil
}

func purchase(t *teller, ctx context.Context) error {
	r, err := t.expect(ctx, "purchase", sale(1234, rightPIN), "00")
	if err != nil {
		return err
	}
	t.detail("Approved in %d ms: retrieval reference %s, authorisation %s. What went over the wire, masked:", r.DurationMS, r.RRN, r.AuthCode)
	t.dump("sent    ", r.Request)
	t.dump("received", r.Answer)
	return nil
}

func (t *teller) dump(what string, d *pos.Dump) {
	if d == nil {
		return
	}
	for i := 0; i < len(d.Raw); i += dumpWidth {
		head := what
		if i > 0 {
			head = strings.Repeat(" ", len(what))
		}
		t.detail("  %s %s", head, d.Raw[i:min(i+dumpWidth, len(d.Raw))])
	}
	for _, line := range d.Fields {
		t.detail("           %s", line)
	}
}

// dumpWidth is how many hex digits stand on a line.
const dumpWidth = 80

func mistype(t *teller, ctx context.Context) error {
	r, err := t.expect(ctx, "purchase", sale(1234, wrongPIN), "55")
	if err != nil {
		return err
	}
	t.detail("Declined by the bank with 55, %s. No money moved.", r.Meaning)
	return nil
}

func balance(t *teller, ctx context.Context) error {
	r, err := t.expect(ctx, "balance", sale(0, rightPIN), "00")
	if err != nil {
		return err
	}
	if r.BalanceFen == nil || *r.BalanceFen != 100_000_000-1234 {
		return errors.New("the balance is not 1,000,000.00 less 12.34")
	}
	t.detail("999,987.66 yuan: the first purchase and nothing else.")
	return nil
}

func silence(t *teller, ctx context.Context) error {
	fault := map[string]any{"faults": []bank.Fault{{Kind: bank.NoAnswer, MTI: "0200", Next: 1}}}
	if err := t.system.Control.Call(ctx, http.MethodPut, "/v1/bank/faults", "", fault, nil); err != nil {
		return err
	}
	r, err := t.expect(ctx, "purchase", sale(5000, rightPIN), "98")
	if err != nil {
		return err
	}
	t.detail("The bank booked 50.00 yuan but its answer never came. The terminal got 98, %s, after %d ms.", r.Meaning, r.DurationMS)
	var booking bank.Booking
	var events []string
	err = t.until(ctx, reversalWait, func() (bool, error) {
		var book bank.Book
		if err := t.system.Control.Call(ctx, http.MethodGet, "/v1/bank/book", "", nil, &book); err != nil {
			return false, err
		}
		for _, b := range book.Bookings {
			if b.Amount == 5000 {
				booking = b
			}
		}
		events, err = t.system.Journal(ctx, terminal, r.Trace)
		return booking.State == "reversed" && slices.Contains(events, "reversal_done"), err
	})
	if err != nil {
		return fmt.Errorf("the purchase was not reversed: the bank's book says %q, the journal %v: %w", booking.State, events, err)
	}
	t.detail("posp reversed it by itself. posp's journal of trace %s: %s.", r.Trace, strings.Join(events, ", "))
	t.detail("The bank's book: reference %s, 50.00 yuan, %s.", booking.RRN, booking.State)
	return nil
}

func breakHSM(t *teller, ctx context.Context) error {
	if err := t.system.Control.Call(ctx, http.MethodPost, "/v1/hsms/hsm1/break", "", map[string]any{"how": "refuse"}, nil); err != nil {
		return err
	}
	t.detail("hsm1 of three closes its ports and cuts its connections.")
	const purchases = 5
	for range purchases {
		if _, err := t.expect(ctx, "purchase", sale(100, rightPIN), "00"); err != nil {
			return fmt.Errorf("with one HSM broken: %w", err)
		}
	}
	t.detail("%d purchases in a row are approved through the other two.", purchases)
	if err := t.system.Control.Call(ctx, http.MethodPost, "/v1/hsms/hsm1/mend", "", struct{}{}, nil); err != nil {
		return err
	}
	t.detail("hsm1 is mended and takes its share again.")
	return nil
}

func suspend(t *teller, ctx context.Context) error {
	begun := time.Now()
	body := map[string]any{"state": "suspended", "reason": "reported stolen"}
	if err := t.system.POSV.Call(ctx, http.MethodPost, "/v1/terminals/"+terminal+"/state", "", body, nil); err != nil {
		return err
	}
	var r pos.Result
	err := t.until(ctx, within, func() (refused bool, err error) {
		r, err = t.command(ctx, "purchase", sale(100, rightPIN))
		return r.Outcome == pos.OutcomeDeclined, err
	})
	if err != nil {
		return fmt.Errorf("the suspended terminal still trades: %w", err)
	}
	t.detail("%d ms later posp refuses it with %s, %s.", time.Since(begun).Milliseconds(), r.Code, r.Meaning)
	return nil
}

// eventually repeats a command until it ends with the code.
func (t *teller) eventually(ctx context.Context, bound time.Duration, name string, sale map[string]any, code string) (r pos.Result, err error) {
	err = t.until(ctx, bound, func() (bool, error) {
		r, err = t.command(ctx, name, sale)
		return r.Code == code, err
	})
	if err != nil {
		return r, fmt.Errorf("%s ended with code %q (%s), want %s: %s: %w", name, r.Code, r.Meaning, code, r.Error, err)
	}
	return r, nil
}

// until looks until it is so, an error comes, or the bound is over.
func (t *teller) until(ctx context.Context, bound time.Duration, isSo func() (bool, error)) error {
	deadline := time.Now().Add(bound)
	for {
		ok, err := isSo()
		if ok || err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not within %s", bound)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(lookAgain):
		}
	}
}

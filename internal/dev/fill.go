package dev

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// The development data of design.md §6.
const (
	merchantID   = "104110000000001"
	merchantName = "Keyward test merchant"
	// trafficFirst and trafficCount are the terminals of the background traffic, apart from those that people use.
	trafficFirst = 101
	trafficCount = 20
	// maxTerminals is what the numbering 1000NNNN has room for.
	maxTerminals = 9999
)

// The people of the development system. Two different people approve an order (X11).
const (
	author  = "dev"
	officer = "officer-1"
	second  = "officer-2"
)

const (
	// fillParallel bounds the cards that are made at a time: more only wait for the same HSM and disk.
	fillParallel = 6
	// pageSize is the longest page that posv gives.
	pageSize = 500
	// orderLife is how long an order of the development data may be used.
	orderLife = 24 * time.Hour
	// standingCards is how many cards, from psamNo(1), the standing order of a development system covers, so that anybody who tries
	// "issuer card issue" needs no order of his own. A new one is made at a start when the last is about to end.
	standingCards = 999
	// standingLeft is how much of its life a standing order must have left to be used.
	standingLeft = 12 * time.Hour
)

// terminalID and psamNo are the numbers of the n-th terminal and its card, from 1.
func terminalID(n int) string { return fmt.Sprintf("1000%04d", n) }
func psamNo(n int) string     { return fmt.Sprintf("6000000000000000%04d", n) }

// family is a range of terminals that differ from the others (design.md §6, development data for outside tools).
type family struct {
	from, to  int
	algorithm string // of the registry
	makLength int
	profile   string
}

// families are served in every development system.
var families = []family{
	{201, 210, "sm4", doubleLength, "unionpay"},
	{301, 310, "tdes", doubleLength, "unionpay-x919"},
	{401, 410, "des", singleLength, "unionpay"},
}

// Lengths of MAC keys in bytes.
const (
	singleLength = 8
	doubleLength = 16
)

// familyOf gives the family of a terminal number 1000NNNN; false for those that are as the registry's defaults have them.
func familyOf(terminal string) (family, bool) {
	for _, f := range families {
		if terminal >= terminalID(f.from) && terminal <= terminalID(f.to) {
			return f, true
		}
	}
	return family{}, false
}

// wanted are the numbers of the terminals of a system: the first ones, those of the traffic, and the families, unless no terminals are
// wanted.
func wanted(terminals int, traffic bool) []int {
	var list []int
	for n := 1; n <= terminals; n++ {
		list = append(list, n)
	}
	for n := max(trafficFirst, terminals+1); traffic && n < trafficFirst+trafficCount; n++ {
		list = append(list, n)
	}
	if terminals == 0 {
		return list
	}
	for _, f := range families {
		for n := max(f.from, terminals+1); n <= f.to; n++ {
			list = append(list, n)
		}
	}
	return list
}

// trafficTerminals are the numbers that background traffic uses.
func trafficTerminals() []string {
	list := make([]string, trafficCount)
	for i := range list {
		list[i] = terminalID(trafficFirst + i)
	}
	return list
}

// Services are the interfaces through which data come into a system.
type Services struct {
	POSV, Issuer, Operations, Control *API
}

// At makes the clients for the interfaces at the given host:port addresses.
func At(posv, issuer, operations, control string) Services {
	return Services{POSV: newAPI(posv), Issuer: newAPI(issuer), Operations: newAPI(operations), Control: newAPI(control)}
}

// Fill brings the development data to what is wanted: whatever exists stays as it is. It returns how many cards it issued.
//
// It only uses what operators use: an order with two approvals, the issuer's API, the registry's API. The simulated terminals
// learn of their cards last.
func (s Services) Fill(ctx context.Context, terminals int, traffic bool) (int, error) {
	standing, err := s.standingOrder(ctx)
	if err != nil {
		return 0, err
	}
	missing, err := s.missing(ctx, wanted(terminals, traffic))
	if err != nil || len(missing) == 0 {
		return 0, err
	}
	if err := s.Merchant(ctx); err != nil {
		return 0, err
	}
	orderOf := map[int]string{}
	var beyond, sm4 []int
	for _, n := range missing {
		if f, ok := familyOf(terminalID(n)); ok && f.algorithm == "sm4" {
			sm4 = append(sm4, n)
		} else if n <= standingCards {
			orderOf[n] = standing
		} else {
			beyond = append(beyond, n)
		}
	}
	for _, kind := range []struct {
		numbers   []int
		algorithm string
	}{{beyond, "tdes"}, {sm4, "sm4"}} {
		for _, run := range runs(kind.numbers) {
			id, err := s.Order(ctx, psamNo(run.from), run.count, kind.algorithm)
			if err != nil {
				return 0, err
			}
			for n := run.from; n < run.from+run.count; n++ {
				orderOf[n] = id
			}
		}
	}
	return len(missing), parallel(ctx, missing, func(ctx context.Context, n int) error {
		if _, err := s.Issue(ctx, psamNo(n), orderOf[n]); err != nil {
			return err
		}
		return s.Install(ctx, terminalID(n), psamNo(n))
	})
}

// Merchant registers the test merchant, or leaves it as it is.
func (s Services) Merchant(ctx context.Context) error {
	err := s.POSV.As(author).Call(ctx, http.MethodPut, "/v1/merchants/"+merchantID, "", map[string]any{"name": merchantName}, nil)
	if err != nil {
		return fmt.Errorf("register the merchant: %w", err)
	}
	return nil
}

// missing are the wanted terminals that have no card yet.
func (s Services) missing(ctx context.Context, wanted []int) ([]int, error) {
	type page struct {
		Items []struct {
			TerminalID string `json:"terminal_id"`
			PSAMNo     string `json:"psam_no"` // empty: no card
		} `json:"items"`
		Next string `json:"next"` // empty: the last page
	}
	have := map[string]bool{}
	for after, more := "", len(wanted) > 0; more; {
		var p page
		path := fmt.Sprintf("/v1/terminals?limit=%d&after=%s", pageSize, url.QueryEscape(after))
		if err := s.POSV.Call(ctx, http.MethodGet, path, "", nil, &p); err != nil {
			return nil, fmt.Errorf("look for the terminals: %w", err)
		}
		for _, t := range p.Items {
			have[t.TerminalID] = t.PSAMNo != ""
		}
		more = p.Next != "" && p.Next > after // never round in circles
		after = p.Next
	}
	var list []int
	for _, n := range wanted {
		if !have[terminalID(n)] {
			list = append(list, n)
		}
	}
	return list, nil
}

// standingOrder gives the order under which the first cards are issued, by Fill and by hand; it makes one unless there is one with
// time left.
func (s Services) standingOrder(ctx context.Context) (string, error) {
	var orders struct {
		Items []struct {
			OrderID   string    `json:"order_id"`
			PSAMFrom  string    `json:"psam_from"`
			Count     int       `json:"count"`
			ExpiresAt time.Time `json:"expires_at"`
		} `json:"items"`
	}
	path := "/v1/orders?state=signed&psam_no=" + url.QueryEscape(psamNo(standingCards))
	if err := s.POSV.As(author).Call(ctx, http.MethodGet, path, "", nil, &orders); err != nil {
		return "", fmt.Errorf("look for the standing order: %w", err)
	}
	for _, o := range orders.Items {
		if o.PSAMFrom == psamNo(1) && o.Count >= standingCards && time.Until(o.ExpiresAt) > standingLeft {
			return o.OrderID, nil
		}
	}
	return s.Order(ctx, psamNo(1), standingCards, "tdes")
}

// Order makes an issuing order for cards of a cipher, tdes or sm4, and has two officers approve it; it returns the order's number.
func (s Services) Order(ctx context.Context, from string, count int, algorithm string) (string, error) {
	var made struct {
		OrderID string `json:"order_id"`
		State   string `json:"state"`
	}
	body := map[string]any{
		"psam_from": from, "count": count, "algorithms": []string{algorithm}, "expires_at": time.Now().Add(orderLife).UTC().Truncate(time.Second),
	}
	if err := s.POSV.As(author).Call(ctx, http.MethodPost, "/v1/orders", newKey(), body, &made); err != nil {
		return "", fmt.Errorf("make the issuing order: %w", err)
	}
	for _, who := range []string{officer, second} {
		path := "/v1/orders/" + url.PathEscape(made.OrderID) + "/approvals"
		if err := s.POSV.As(who).Call(ctx, http.MethodPost, path, newKey(), struct{}{}, &made); err != nil {
			return "", fmt.Errorf("approve the issuing order as %s: %w", who, err)
		}
	}
	if made.State != "signed" {
		return "", fmt.Errorf("the issuing order is %q after two approvals, want signed", made.State)
	}
	return made.OrderID, nil
}

// Issued is what the issuer says of a card.
type Issued struct {
	RunID  string `json:"run_id"`
	PSAMNo string `json:"psam_no"`
	State  string `json:"state"`
	KCV    string `json:"kcv"`
}

// Issue has a blank card put into the simulated tray and the issuer personalise it under the order.
func (s Services) Issue(ctx context.Context, card, order string) (Issued, error) {
	if err := s.Control.Call(ctx, http.MethodPost, "/v1/cards", "", map[string]any{"psam_no": card}, nil); err != nil {
		return Issued{}, fmt.Errorf("put blank card %s into the tray: %w", card, err)
	}
	var out Issued
	if err := s.Issuer.As(author).Call(ctx, http.MethodPost, "/v1/cards", newKey(), map[string]any{"psam_no": card, "order_id": order}, &out); err != nil {
		return Issued{}, fmt.Errorf("issue card %s: %w", card, err)
	}
	return out, nil
}

// Install registers a terminal of the test merchant, binds the card to it, and puts both into the fleet of the simulators.
func (s Services) Install(ctx context.Context, terminal, card string) error {
	posv := s.POSV.As(author)
	as := map[string]any{"merchant_id": merchantID}
	if f, ok := familyOf(terminal); ok {
		as["algorithm"], as["mak_length"], as["profile"] = f.algorithm, f.makLength, f.profile
	}
	err := posv.Call(ctx, http.MethodPut, "/v1/terminals/"+terminal, "", as, nil)
	if err != nil {
		return fmt.Errorf("register terminal %s: %w", terminal, err)
	}
	body := map[string]any{"psam_no": card, "reason": "first card"}
	if err := posv.Call(ctx, http.MethodPut, "/v1/terminals/"+terminal+"/card", "", body, nil); err != nil {
		return fmt.Errorf("bind card %s to terminal %s: %w", card, terminal, err)
	}
	body = map[string]any{"terminal_id": terminal, "merchant_id": merchantID, "psam_no": card}
	if err := s.Control.Call(ctx, http.MethodPost, "/v1/terminals", "", body, nil); err != nil {
		return fmt.Errorf("put terminal %s on the counter: %w", terminal, err)
	}
	return nil
}

// run is a range of consecutive numbers: one order.
type run struct{ from, count int }

func runs(numbers []int) []run {
	var list []run
	for _, n := range numbers {
		if last := len(list) - 1; last >= 0 && n == list[last].from+list[last].count {
			list[last].count++
			continue
		}
		list = append(list, run{n, 1})
	}
	return list
}

// parallel calls do for every number, some at a time, and returns the first errors; after one no further call begins.
func parallel(ctx context.Context, numbers []int, do func(context.Context, int) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	queue := make(chan int)
	errs := make(chan error, fillParallel)
	for range fillParallel {
		go func() {
			var err error
			for n := range queue {
				if err == nil {
					if err = do(ctx, n); err != nil {
						cancel()
					}
				}
			}
			errs <- err
		}()
	}
feed:
	for _, n := range numbers {
		select {
		case queue <- n:
		case <-ctx.Done():
			break feed
		}
	}
	close(queue)
	var all, real []error
	for range fillParallel {
		if err := <-errs; err != nil {
			all = append(all, err)
			if !errors.Is(err, context.Canceled) {
				real = append(real, err)
			}
		}
	}
	if len(real) > 0 { // the others were only cut short by it
		return real[0]
	}
	if len(all) > 0 {
		return all[0]
	}
	return context.Cause(ctx)
}

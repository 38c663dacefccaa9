package posp

import (
	"sync"
	"time"

	"github.com/keyward/keyward/internal/txn"
)

// maxPINRates bounds the cards and terminals that are remembered, about 100 bytes each. Only messages that are authentic are counted.
const maxPINRates = 200_000

// pinRates bounds how many PINs go to the HSM and the host: those of one card, whichever terminal they come from, and those of one terminal,
// whichever card they are for. Each has a minute's worth at once and as many per minute on average. The issuer counts wrong PINs; this
// bounds what a terminal whose keys are in wrong hands can try on many cards, or many terminals on one.
type pinRates struct {
	perCard, perTerminal int // per minute

	mu   sync.Mutex
	paid map[string]time.Time // card digest or terminal → when its past PINs are paid off
}

func newPINRates(perCard, perTerminal int) *pinRates {
	return &pinRates{perCard: perCard, perTerminal: perTerminal, paid: map[string]time.Time{}}
}

// allow counts one PIN, unless it is one too many for the card or the terminal; which of the two is said in the reason. One that is
// refused counts for neither.
func (r *pinRates) allow(card []byte, terminal string, now time.Time) (reason string) {
	byCard, byTerminal := "c"+string(card), "t"+terminal
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.paid)+2 > maxPINRates {
		r.sweep(now)
	}
	cardPaid, ok := r.next(byCard, r.perCard, now)
	if !ok {
		return "more PINs for this card than flow.pins_per_card allows in a minute"
	}
	terminalPaid, ok := r.next(byTerminal, r.perTerminal, now)
	if !ok {
		return "more PINs from this terminal than flow.pins_per_terminal allows in a minute"
	}
	r.paid[byCard], r.paid[byTerminal] = cardPaid, terminalPaid
	return ""
}

// next is when a key's PINs are paid off with one more; false where that is more than a minute ahead. The caller holds mu.
func (r *pinRates) next(key string, perMinute int, now time.Time) (time.Time, bool) {
	paid := r.paid[key]
	if paid.Before(now) {
		paid = now
	}
	paid = paid.Add(time.Minute / time.Duration(perMinute))
	return paid, paid.Sub(now) <= time.Minute
}

// sweep forgets those that owe nothing. Where that is not enough it forgets all, and each begins with a whole minute's worth.
func (r *pinRates) sweep(now time.Time) {
	for key, paid := range r.paid {
		if paid.Before(now) {
			delete(r.paid, key)
		}
	}
	if len(r.paid)+2 > maxPINRates {
		clear(r.paid)
	}
}

// checkPINRate refuses a PIN that is one too many, before the HSM sees it.
func (f *flow) checkPINRate(req *txn.Request) error {
	reason := f.pins.allow(f.seal.DigestPAN(req.PAN), req.Key.Terminal, f.now())
	if reason == "" {
		return nil
	}
	f.metrics.pinsRefused.Inc()
	return &refusal{code: codeTooMany, why: reason}
}

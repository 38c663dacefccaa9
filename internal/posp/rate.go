package posp

import (
	"errors"
	"net/netip"
	"sync"
	"time"
)

const (
	// rateBurst is how many seconds' worth of messages a terminal may send at once: a settlement comes as a burst.
	rateBurst = 5
	// maxRates bounds the senders that are remembered, about 100 bytes each. Only registered terminals are.
	maxRates = 200_000
)

var errTooFast = errors.New("terminal sends more messages than flow.messages_per_second allows; it should wait and try again")

// rateKey is one sender: a terminal number and the address that uses it. Reversals have a rate of their own, so that no flood of other
// messages keeps one out.
type rateKey struct {
	terminal string
	source   netip.Addr
	reversal bool
}

// rates bounds the messages of each sender: on average perSecond, rateBurst seconds' worth at once. It keeps for each the time at which
// its past messages are paid off (the generic cell rate algorithm of ITU-T I.371).
type rates struct {
	every time.Duration // between two messages

	mu   sync.Mutex
	paid map[rateKey]time.Time
}

func newRates(perSecond int) *rates {
	return &rates{every: time.Second / time.Duration(max(1, perSecond)), paid: map[rateKey]time.Time{}}
}

// allow counts one message, unless it is one too many.
func (r *rates) allow(key rateKey, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	paid, known := r.paid[key]
	if !known && len(r.paid) >= maxRates {
		r.sweep(now)
	}
	if paid.Before(now) {
		paid = now
	}
	paid = paid.Add(r.every)
	if paid.Sub(now) > rateBurst*time.Second {
		return false
	}
	r.paid[key] = paid
	return true
}

// sweep forgets those that owe nothing; where that is not enough it forgets all, and each begins with a whole burst.
func (r *rates) sweep(now time.Time) {
	for key, paid := range r.paid {
		if paid.Before(now) {
			delete(r.paid, key)
		}
	}
	if len(r.paid) >= maxRates {
		clear(r.paid)
	}
}

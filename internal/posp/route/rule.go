package route

import (
	"strings"
	"time"

	"github.com/keyward/keyward/internal/txn"
)

// Facts are what a rule may ask about a transaction.
type Facts struct {
	Card     string // card number, or its first digits; never shown in full
	Kind     txn.Kind
	Amount   int64 // in fen
	Merchant string
	Terminal string
	Key      txn.Key   // for shares of transactions: a repeat is decided like the first
	At       time.Time // in the zone in which times of day are meant
}

// Table is a checked set of rules: they are asked in their order, and the first that fits decides. It does not change once made.
type Table struct {
	Version  int64 // 0: no rules were ever saved
	rules    []rule
	fallback []string // hosts, in order, when no rule fits
}

// rule is one checked rule. An empty condition fits everything.
type rule struct {
	name      string
	line      int
	bins      []binRange
	kinds     []txn.Kind
	min, max  int64 // fen, inclusive; max 0: no bound
	merchants []string
	hours     *hours
	days      []time.Weekday
	percent   float64 // 0: no share is asked
	by        string
	hosts     []string
}

// binRange fits cards whose first digits lie between two numbers of the same length, both included.
type binRange struct{ from, to string }

func (b binRange) fits(card string) bool {
	if len(card) < len(b.from) {
		return false
	}
	head := card[:len(b.from)]
	return b.from <= head && head <= b.to
}

// covers says that every card that o fits is one that b fits.
func (b binRange) covers(o binRange) bool {
	n := len(b.from)
	if n > len(o.from) {
		// Longer: o stands for all digits that may follow.
		pad := n - len(o.from)
		return b.from <= o.from+strings.Repeat("0", pad) && o.to+strings.Repeat("9", pad) <= b.to
	}
	return b.from <= o.from[:n] && o.to[:n] <= b.to
}

func (b binRange) String() string {
	if b.from == b.to {
		return b.from
	}
	return b.from + "-" + b.to
}

// hours is a time of day in minutes from midnight: from is inside, to is not. Past midnight when to is smaller.
type hours struct{ from, to int }

func (h hours) fits(at time.Time) bool {
	m := at.Hour()*60 + at.Minute()
	if h.from < h.to {
		return h.from <= m && m < h.to
	}
	return m >= h.from || m < h.to
}

func (h hours) String() string { return clock(h.from) + "-" + clock(h.to) }

func clock(m int) string {
	return string([]byte{byte('0' + m/600), byte('0' + m/60%10), ':', byte('0' + m%60/10), byte('0' + m%10)})
}

// fitsMerchant knows a whole number and the beginning of one, which ends in *.
func fitsMerchant(pattern, merchant string) bool {
	if head, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(merchant, head)
	}
	return pattern == merchant
}

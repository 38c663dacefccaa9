package route

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keyward/keyward/internal/txn"
)

// Decision is which hosts may take a transaction, and why.
type Decision struct {
	Version int64    `json:"version"` // of the rules
	Rule    string   `json:"rule"`    // name of the rule that fits; "" for none
	Line    int      `json:"line"`    // of that rule in the document; 0 for none
	Hosts   []string `json:"hosts"`   // in the order of preference: the first that is ready gets it
	Why     string   `json:"why"`
	// Asked are the rules that were asked, in their order, with what each said; only Explain fills it.
	Asked []Answer `json:"asked,omitempty"`
}

// Answer is what one rule said.
type Answer struct {
	Rule string `json:"rule"`
	Line int    `json:"line"`
	Fits bool   `json:"fits"`
	Why  string `json:"why"`
}

// Choose decides. It is a pure function of the table and the facts; it makes no text, because every transaction passes here.
func (t *Table) Choose(f Facts) (rule string, hosts []string) {
	for i := range t.rules {
		if t.rules[i].misses(f) == fits {
			return t.rules[i].name, t.rules[i].hosts
		}
	}
	return "", t.fallback
}

// Explain decides as Choose does, and says why.
func (t *Table) Explain(f Facts) Decision {
	d := Decision{Version: t.Version, Hosts: t.fallback, Asked: []Answer{}, Why: "no rule fits: the default hosts, in their order"}
	if len(t.rules) == 0 {
		d.Why = "there are no rules: the default hosts, in their order"
	}
	for i := range t.rules {
		r := &t.rules[i]
		miss := r.misses(f)
		a := Answer{Rule: r.name, Line: r.line, Fits: miss == fits, Why: r.because(miss, f)}
		d.Asked = append(d.Asked, a)
		if a.Fits {
			d.Rule, d.Line, d.Hosts, d.Why = r.name, r.line, r.hosts, fmt.Sprintf("rule %q (line %d) fits: %s", r.name, r.line, a.Why)
			break
		}
	}
	return d
}

// condition is the first condition of a rule that a transaction does not meet.
type condition int

const (
	fits condition = iota
	byCard
	byKind
	byAmount
	byMerchant
	byHours
	byDay
	byShare
)

func (r *rule) misses(f Facts) condition {
	switch {
	case len(r.bins) > 0 && !slices.ContainsFunc(r.bins, func(b binRange) bool { return b.fits(f.Card) }):
		return byCard
	case len(r.kinds) > 0 && !slices.Contains(r.kinds, f.Kind):
		return byKind
	case f.Amount < r.min || r.max > 0 && f.Amount > r.max:
		return byAmount
	case len(r.merchants) > 0 && !slices.ContainsFunc(r.merchants, func(m string) bool { return fitsMerchant(m, f.Merchant) }):
		return byMerchant
	case r.hours != nil && !r.hours.fits(f.At):
		return byHours
	case len(r.days) > 0 && !slices.Contains(r.days, f.At.Weekday()):
		return byDay
	case r.percent > 0 && r.place(f) >= r.percent:
		return byShare
	}
	return fits
}

// because says in words why a rule fits, or what it misses.
func (r *rule) because(miss condition, f Facts) string {
	texts := []struct {
		at   condition
		has  bool
		want string
		is   string
	}{
		{byCard, len(r.bins) > 0, "card " + join(r.bins), "card " + masked(f.Card)},
		{byKind, len(r.kinds) > 0, "kind " + join(r.kinds), "kind " + string(f.Kind)},
		{byAmount, r.min > 0 || r.max > 0, "amount " + r.amounts(), fmt.Sprintf("amount %d", f.Amount)},
		{byMerchant, len(r.merchants) > 0, "merchant " + join(r.merchants), "merchant " + f.Merchant},
		{byHours, r.hours != nil, fmt.Sprintf("time %v", r.hours), "time " + f.At.Format("15:04")},
		{byDay, len(r.days) > 0, "day " + join(r.days), "day " + f.At.Weekday().String()},
		{byShare, r.percent > 0, fmt.Sprintf("%g percent by %s", r.percent, r.by), fmt.Sprintf("place %.2f of 100", r.place(f))},
	}
	var met []string
	for _, t := range texts {
		switch {
		case !t.has:
		case t.at == miss:
			return t.is + " is not " + t.want
		default:
			met = append(met, t.is+" is "+t.want)
		}
	}
	if len(met) == 0 {
		return "it has no condition"
	}
	return strings.Join(met, ", ")
}

func (r *rule) amounts() string {
	if r.max == 0 {
		return fmt.Sprintf("%d and more", r.min)
	}
	return fmt.Sprintf("%d-%d", r.min, r.max)
}

func join[T any](list []T) string {
	var out []string
	for _, one := range list {
		out = append(out, fmt.Sprint(one))
	}
	return strings.Join(out, " or ")
}

// masked shows what a receipt shows: the first six and the last four digits. Fewer than ten are the beginning of a card number only.
func masked(card string) string {
	if card == "" {
		return "(none)"
	}
	if len(card) < 10 {
		return card
	}
	return card[:6] + strings.Repeat("*", len(card)-10) + card[len(card)-4:]
}

// place is where a transaction lies between 0 and 100, the same on every instance and for every repeat. The rule's name is part of it, so
// that the shares of two rules are drawn apart, and a larger percentage keeps all that a smaller one had.
func (r *rule) place(f Facts) float64 {
	h := sha256.New()
	for _, part := range append([]string{"keyward route 1", r.name, r.by}, sampled(r.by, f)...) {
		fmt.Fprintf(h, "%d:%s,", len(part), part)
	}
	return float64(binary.BigEndian.Uint64(h.Sum(nil))>>11) / (1 << 53) * 100
}

// What a share may be drawn from.
const (
	ofCard        = "card"
	ofTerminal    = "terminal"
	ofMerchant    = "merchant"
	ofTransaction = "transaction"
)

func sampled(by string, f Facts) []string {
	switch by {
	case ofTerminal:
		return []string{f.Terminal}
	case ofMerchant:
		return []string{f.Merchant}
	case ofTransaction:
		return []string{f.Key.Terminal, f.Key.Merchant, f.Key.Batch, f.Key.Trace, f.Key.MTI, f.Key.Type}
	default:
		return []string{f.Card}
	}
}

// FactsOf takes from a request what rules may ask. at is its time, in the zone in which times of day are meant.
func FactsOf(r *txn.Request, at time.Time) Facts {
	return Facts{
		Card: r.PAN.Reveal(), Kind: r.Kind, Amount: r.Amount, Merchant: r.Key.Merchant, Terminal: r.Key.Terminal, Key: r.Key, At: at,
	}
}

// Format implements fmt.Formatter, so that no verb shows a whole card number.
func (f Facts) Format(s fmt.State, _ rune) {
	_, _ = fmt.Fprintf(s, "card %s kind %s amount %d merchant %s terminal %s", masked(f.Card), f.Kind, f.Amount, f.Merchant, f.Terminal)
}

package route

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"github.com/keyward/keyward/internal/txn"
)

// maxCard is the length of the longest card number (ISO/IEC 7812-1).
const maxCard = 19

// rule reads one rule. A condition that no transaction can meet is a fault.
func (p *reader) rule(n ast.Node) rule {
	r := rule{line: lineOf(n), by: ofCard}
	if m, ok := n.(*ast.MappingNode); ok && len(m.Values) > 0 {
		r.line = lineOf(m.Values[0].Key)
	} else if m, ok := n.(*ast.MappingValueNode); ok {
		r.line = lineOf(m.Key)
	}
	keys := p.mapping(n, "a rule")
	for key, v := range keys {
		switch key {
		case "name":
			if one, ok := p.one(v.Value, key); ok {
				r.name = p.named(one)
			}
		case "cards":
			r.bins = p.bins(p.values(v.Value, key))
		case "kinds":
			r.kinds = p.kinds(p.values(v.Value, key))
		case "amount":
			p.amounts(&r, v.Value)
		case "merchants":
			r.merchants = p.merchants(p.values(v.Value, key))
		case "hours":
			if one, ok := p.one(v.Value, key); ok {
				r.hours = p.hours(one)
			}
		case "days":
			r.days = p.days(p.values(v.Value, key))
		case "percent":
			if one, ok := p.one(v.Value, key); ok {
				r.percent = p.percent(one)
			}
		case "by":
			if one, ok := p.one(v.Value, key); ok {
				r.by = p.by(one, keys["percent"] != nil)
			}
		case "hosts":
			r.hosts = p.known(p.values(v.Value, key))
		default:
			p.fault(v.Key, "key %q is not known; a rule has name, cards, kinds, amount, merchants, hours, days, percent, by and hosts", key)
		}
	}
	if keys != nil && keys["name"] == nil {
		p.faultAt(r.line, "the rule has no name")
	}
	if keys != nil && keys["hosts"] == nil {
		p.faultAt(r.line, "rule %q names no hosts", r.name)
	}
	if r.min > 0 && len(r.kinds) > 0 && !slices.ContainsFunc(r.kinds, txn.Kind.MovesMoney) {
		p.faultAt(r.line, "rule %q matches nothing: %s has no amount", r.name, join(r.kinds))
	}
	return r
}

func (p *reader) bins(list []value) []binRange {
	var out []binRange
	for _, v := range list {
		from, to, ranged := strings.Cut(v.text, "-")
		if !ranged {
			to = from
		}
		digits := func(s string) bool { return s != "" && len(s) <= maxCard && strings.Trim(s, "0123456789") == "" }
		switch {
		case !digits(from) || !digits(to):
			p.faultAt(v.line, "%q is no range of card numbers; write first digits like 622200 or \"622200-622299\"", v.text)
		case len(from) != len(to):
			p.faultAt(v.line, "the two ends of %s have a different number of digits", v.text)
		case from > to:
			p.faultAt(v.line, "the range %s matches nothing: it begins after its end", v.text)
		default:
			out = append(out, binRange{from, to})
		}
	}
	return out
}

func (p *reader) kinds(list []value) []txn.Kind {
	var out []txn.Kind
	for _, v := range list {
		k := txn.Kind(v.text)
		if !slices.Contains(kinds, k) {
			next := "known are: " + strings.ReplaceAll(join(kinds), " or ", ", ")
			if k == txn.Reversal {
				next = "it goes where its original went"
			}
			p.faultAt(v.line, "no rule chooses the host of a %q; %s", v.text, next)
			continue
		}
		out = append(out, k)
	}
	return out
}

func (p *reader) amounts(r *rule, n ast.Node) {
	for key, v := range p.mapping(n, "amount") {
		one, ok := p.one(v.Value, "amount."+key)
		switch {
		case !ok:
		case key == "from":
			r.min = p.amount(one)
		case key == "to":
			if r.max = p.amount(one); r.max == 0 {
				p.faultAt(one.line, "amount.to is 0; to choose balance inquiries write kinds: [balance]")
			}
		default:
			p.fault(v.Key, "key %q is not known; amount has from and to", key)
		}
	}
	if r.max > 0 && r.min > r.max {
		p.fault(n, "the amounts %d to %d match nothing: they begin after their end", r.min, r.max)
	}
}

func (p *reader) merchants(list []value) []string {
	var out []string
	for _, v := range list {
		head := strings.TrimSuffix(v.text, "*")
		switch {
		case v.text == "*":
			p.faultAt(v.line, "the merchant * is every merchant: leave merchants out")
		case head == v.text && len(head) != 15, len(head) > 15 || strings.Contains(head, "*"):
			p.faultAt(v.line, "merchant %q matches nothing: write all 15 characters, or the beginning and *", v.text)
		default:
			out = append(out, v.text)
		}
	}
	return out
}

func (p *reader) hours(v value) *hours {
	from, to, ok := strings.Cut(v.text, "-")
	a, errA := time.Parse("15:04", from)
	b, errB := time.Parse("15:04", to)
	if to == "24:00" {
		b, errB = time.Time{}.Add(24*time.Hour), nil
	}
	if !ok || errA != nil || errB != nil {
		p.faultAt(v.line, "%q is no time of day; write it like \"08:00-20:00\", or \"22:00-06:00\" over midnight", v.text)
		return nil
	}
	h := &hours{a.Hour()*60 + a.Minute(), b.Hour()*60 + b.Minute()}
	if to == "24:00" {
		h.to = 24 * 60
	}
	if h.from == h.to {
		p.faultAt(v.line, "the hours %s match nothing: they end when they begin", v.text)
	}
	return h
}

func (p *reader) days(list []value) []time.Weekday {
	var out []time.Weekday
	for _, v := range list {
		d, ok := weekdays[v.text]
		if !ok {
			p.faultAt(v.line, "%q is no day; write mon, tue, wed, thu, fri, sat or sun", v.text)
		}
		out = append(out, d)
	}
	return out
}

func (p *reader) percent(v value) float64 {
	f, err := strconv.ParseFloat(v.text, 64)
	switch {
	case err != nil || !(f >= 0 && f <= 100):
		p.faultAt(v.line, "percent %q is not a number from 0 to 100", v.text)
	case f == 0:
		p.faultAt(v.line, "percent 0 matches nothing: leave the rule out")
	case f == 100:
		return 0 // no share is asked
	}
	return f
}

func (p *reader) by(v value, percent bool) string {
	if !slices.Contains([]string{ofCard, ofTerminal, ofMerchant, ofTransaction}, v.text) {
		p.faultAt(v.line, "by %q is not known; known are: card, terminal, merchant, transaction", v.text)
	}
	if !percent {
		p.faultAt(v.line, "by says what percent is drawn from; it means nothing without percent")
	}
	return v.text
}

// unreachable finds rules that an earlier rule leaves nothing for.
func (p *reader) unreachable() {
	for j := range p.table.rules {
		late := &p.table.rules[j]
		for i := range j {
			if early := &p.table.rules[i]; early.covers(late) {
				p.faultAt(late.line, "rule %q matches nothing: rule %q in line %d takes all of it before; put it in front, or leave it out", late.name, early.name, early.line)
				break
			}
		}
	}
	for i := range p.table.rules {
		if r := &p.table.rules[i]; p.fallbackLine > 0 && r.covers(&rule{}) {
			p.faultAt(p.fallbackLine, "the default matches nothing: rule %q in line %d takes everything; leave one of them out", r.name, r.line)
		}
	}
}

// covers says that each transaction that o fits is one that r fits. Ranges are compared one by one: what only several of them cover
// together is not seen.
func (r *rule) covers(o *rule) bool {
	return r.percent == 0 &&
		within(o.bins, r.bins, func(small, large binRange) bool { return large.covers(small) }) &&
		within(o.kinds, r.kinds, func(a, b txn.Kind) bool { return a == b }) &&
		within(o.merchants, r.merchants, func(small, large string) bool {
			return small == large || strings.HasSuffix(large, "*") && fitsMerchant(large, strings.TrimSuffix(small, "*"))
		}) &&
		within(o.days, r.days, func(a, b time.Weekday) bool { return a == b }) &&
		r.min <= o.min && (r.max == 0 || o.max > 0 && o.max <= r.max) &&
		(r.hours == nil || o.hours != nil && r.hours.covers(*o.hours))
}

// within says that each of some is inside one of all; no condition is everything.
func within[T any](some, all []T, inside func(small, large T) bool) bool {
	if len(all) == 0 {
		return true
	}
	if len(some) == 0 {
		return false
	}
	for _, s := range some {
		if !slices.ContainsFunc(all, func(a T) bool { return inside(s, a) }) {
			return false
		}
	}
	return true
}

// covers counts from the beginning of h, so that midnight does not matter.
func (h hours) covers(o hours) bool {
	const day = 24 * 60
	length := func(from, to int) int { return (to-from+day-1)%day + 1 }
	offset := (o.from - h.from + day) % day
	return offset+length(o.from, o.to) <= length(h.from, h.to)
}

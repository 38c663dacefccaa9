package bank

import (
	"slices"
)

// naming is how a request calls its original (dialect §5.8): by references, or by card and authorization code.
type naming struct {
	acquirer [11]byte
	rrn      [12]byte
	trace    [6]byte
	account  *account
	auth     string
}

// reference is what a request says about its original.
type reference struct {
	given bool   // It names one.
	mti   string // From field 90; empty when only field 38 names it.
	naming
}

// referenceOf reads fields 61 and 90, or 38. The field table has checked the characters; a note says what does not fit.
func referenceOf(m *message, acc *account) (ref reference, note string) {
	switch {
	case m.has(61) != m.has(90):
		return ref, "fields 61 and 90: one without the other"
	case m.has(61):
		data := m.value[90] // MTI 4, trace 6, date-time 10, acquirer 11, forwarder 11.
		ref.given, ref.mti = true, string(data[:4])
		copy(ref.trace[:], data[4:10])
		copy(ref.acquirer[:], data[20:31])
		copy(ref.rrn[:], m.value[61])
	case m.has(38) && acc != nil:
		ref.given, ref.account, ref.auth = true, acc, m.get(38)
	}
	return ref, ""
}

// names are the names by which others may call a record.
func (r *record) names() []naming {
	if r.kind == tombstone || r.kind.does == actNote || r.kind.does == actTell {
		return nil
	}
	names := []naming{{acquirer: r.key.acquirer, rrn: r.key.rrn, trace: r.key.trace}}
	if r.auth != "" {
		names = append(names, naming{account: r.account, auth: r.auth})
	}
	return names
}

// find looks for the original of a request. The caller holds the lock.
func (b *book) find(req request) *record {
	if !req.of.given {
		return nil
	}
	// References may be the same at two terminals; the request's own comes first.
	key := txKey{acquirer: req.of.acquirer, rrn: req.of.rrn, trace: req.of.trace, terminal: req.key.terminal}
	r := b.records[key]
	if r == nil || req.of.mti == "" {
		r = b.byName[req.of.naming]
	}
	if r == nil || req.of.mti != "" && r.mti != req.of.mti || !slices.Contains(req.kind.of, r.kind.name) {
		return nil
	}
	return r
}

// fits says whether a request may be built upon its original as that is now (dialect §5.9): "" or a response code. The caller holds
// the lock.
func (req request) fits(o *record) string {
	if o == nil || o.account != req.account || o.merchant != "" && o.merchant != req.merchant {
		return codeNotFound
	}
	k := req.kind
	if k.does == actNote {
		return ""
	}
	inForce := o.state == stateBooked || o.state == stateHeld
	if (k.does == actVoid || k.does == actAdjust) && o.refunded != 0 {
		inForce = false
	}
	if !inForce {
		return codeNotFound
	}
	amountFits := true
	switch k.does {
	case actVoid:
		amountFits = req.amount == o.total || req.amount == o.amount // Who does not follow adjustments names the amount as it was.
	case actRefund:
		amountFits = req.amount <= o.total-o.refunded
	case actComplete:
		// At most 115 %, rounded down to a fen.
		amountFits = req.amount <= o.total/100*completionPercent+o.total%100*completionPercent/100
	default: // An adjustment names a new total, whatever it is.
	}
	if !amountFits {
		return codeOtherAmount
	}
	return ""
}

// completionPercent is how much of a pre-authorization a completion may take.
const completionPercent = 115

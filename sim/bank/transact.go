package bank

import (
	"fmt"
	"slices"
	"time"
)

// request is what a financial message asks of the book.
type request struct {
	key      txKey
	mti      string // Of the first try.
	kind     *kind
	content  [16]byte
	of       reference
	account  *account
	masked   string
	merchant string
	pin      pinVerdict
	amount   int64
	forced   string // A fault's response code: decline with it.
	now      time.Time
}

// naming is how the request names its original, as text: a repeat names the same one.
func (req request) naming() string {
	if !req.of.given {
		return ""
	}
	return fmt.Sprintf("%s%s%s%s%s", req.of.mti, req.of.trace, req.of.acquirer, req.of.rrn, req.of.auth)
}

// outcome is what the book has to say to a message.
type outcome struct {
	code, auth, settled, balance string
	duplicate                    bool // Answered from memory.
	moved                        bool // This very message moved or held money.
}

// transact answers a financial request: from memory when it is known, else by a decision that is remembered.
func (b *book) transact(req request) outcome {
	b.mu.Lock()
	defer b.mu.Unlock()
	if old := b.records[req.key]; old != nil {
		b.totals.Duplicates++
		if old.kind != req.kind || old.content != req.content || old.naming != req.naming() {
			return outcome{code: codeDuplicate, settled: settlementDate(req.now), duplicate: true}
		}
		return outcome{code: old.code, auth: old.auth, settled: old.settled, balance: old.balance, duplicate: true}
	}
	r := &record{
		key: req.key, mti: req.mti, kind: req.kind, content: req.content, naming: req.naming(), account: req.account, masked: req.masked,
		merchant: req.merchant, amount: req.amount, total: req.amount, settled: settlementDate(req.now), at: req.now,
	}
	original := b.find(req)
	if r.code = b.decide(req, original); r.code != codeApproved {
		r.state = stateDeclined
		b.totals.Declined++
	} else {
		if r.original = original; original != nil {
			original.built = append(original.built, r)
		}
		b.apply(r)
	}
	b.remember(r)
	return outcome{
		code: r.code, auth: r.auth, settled: r.settled, balance: r.balance, moved: r.code == codeApproved && r.kind.movesMoney(),
	}
}

func (k *kind) movesMoney() bool { return k.does != actTell && k.does != actNote }

// decide is the order of the bank's checks: card, PIN, original, money.
func (b *book) decide(req request, original *record) string {
	if req.forced != "" {
		return req.forced
	}
	acc, k := req.account, req.kind
	if acc == nil {
		return codeUnknownCard
	}
	if code := acc.acceptPIN(req.pin); code != "" {
		return code
	}
	if k.of != nil && (original != nil || !k.lone) {
		if code := req.fits(original); code != "" {
			return code
		}
	}
	available := acc.balance - acc.held
	takes := int64(0) // Of what is available.
	switch k.does {
	case actBook, actHold:
		takes = req.amount
	case actComplete:
		takes = req.amount - original.held
	case actAdjust:
		takes = req.amount - original.total
	case actVoid:
		if takes = -original.moved - original.held; original.original != nil {
			takes += original.original.amount // The hold comes back.
		}
	case actRefund:
		takes = -req.amount
	default: // Tells or is kept.
	}
	// Who gives back is never short of money, even where a hold that comes back is larger.
	if takes > available && takes > 0 && !k.told && k.does != actVoid {
		return codeNoMoney
	}
	// The book keeps twelve digits with a sign, as field 54 does.
	if next := available - takes; next > maxAmount || next < -maxAmount {
		return codeSystem
	}
	return codeApproved
}

// apply does what an approved request asks. The caller holds the lock.
func (b *book) apply(r *record) {
	r.state = stateBooked
	o := r.original
	switch r.kind.does {
	case actTell:
		r.state = stateInquiry
		r.balance = balanceField(r.account.balance - r.account.held)
		return
	case actNote:
		r.state = stateNoted
		return
	case actBook:
		b.set(r, r.amount, 0)
	case actHold:
		r.state = stateHeld
		b.set(r, 0, r.amount)
	case actVoid:
		o.state = stateVoided
		b.set(o, o.moved, 0)
		if preauth := o.original; preauth != nil { // The void of a completion: the hold is back.
			preauth.state = stateHeld
			b.set(preauth, 0, preauth.amount)
		}
		if o.kind.does != actHold {
			b.set(r, -o.total, 0)
		}
	case actRefund:
		if o != nil {
			o.refunded += r.amount
		}
		b.set(r, -r.amount, 0)
	case actComplete:
		o.state = stateCompleted
		b.set(o, 0, 0)
		b.set(r, r.amount, 0)
	case actAdjust:
		b.set(r, r.amount-o.total, 0)
		o.total = r.amount
	}
	b.totals.Booked++
	b.totals.BookedAmount += r.moved
	b.authSeq = b.authSeq%999_999 + 1
	r.auth = fmt.Sprintf("%06d", b.authSeq)
}

// reverse answers a 0400 or 0401. req.mti is the original's, from field 90.
func (b *book) reverse(req request) outcome {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := outcome{settled: settlementDate(req.now)}
	old := b.records[req.key]
	switch {
	case old == nil:
		out.code = codeNotFound
		b.totals.Tombstones++
		b.remember(&record{
			key: req.key, mti: req.mti, kind: tombstone, content: req.content, masked: req.masked, merchant: req.merchant, amount: req.amount,
			state: stateTombstone, code: codeNotFound, settled: out.settled, at: req.now,
		})
	case old.content != req.content || old.mti != req.mti:
		// The key fits and the content does not: one of the two messages is wrong, and moving money on a guess is worse
		// than a reversal that stays open and is looked at.
		out.code = codeFormat
	case old.state == stateTombstone:
		out.code, out.duplicate = codeNotFound, true
	case !old.kind.reverse:
		out.code = codeUnsupported
	case old.state == stateDeclined, old.state == stateInquiry, old.state == stateReversed:
		out.code, out.duplicate = codeApproved, old.state == stateReversed
	default:
		b.undo(old)
		out.code, out.moved = codeApproved, true
	}
	return out
}

// undo takes back an approved record as if it had never been, and before it what was built upon it, newest first (dialect §5.6). The caller
// holds the lock.
func (b *book) undo(r *record) {
	for len(r.built) > 0 {
		b.undo(r.built[len(r.built)-1]) // Takes itself off the list.
	}
	if o := r.original; o != nil {
		o.built = slices.DeleteFunc(o.built, func(other *record) bool { return other == r })
		b.revive(r, o)
	}
	if r.kind.does == actNote { // What was told stays told.
		return
	}
	b.totals.Reversed++
	b.totals.ReversedAmount += r.moved
	b.set(r, 0, 0)
	r.state = stateReversed
}

// revive puts the original of a record that is undone back to what it was.
func (b *book) revive(r, o *record) {
	switch r.kind.does {
	case actRefund:
		o.refunded -= r.amount
	case actComplete:
		o.state = stateHeld
		b.set(o, 0, o.amount)
	case actVoid:
		if o.kind.does == actHold {
			o.state = stateHeld
			b.set(o, 0, o.amount)
			return
		}
		if preauth := o.original; preauth != nil {
			// The hold that the void of a completion brought back ends again, and what was built upon it since goes with it.
			for i := len(preauth.built) - 1; i >= 0 && preauth.built[i] != o; i-- {
				b.undo(preauth.built[i])
			}
			preauth.state = stateCompleted
			b.set(preauth, 0, 0)
		}
		o.state = stateBooked
	default: // Built upon nothing, or the original goes with it.
	}
}

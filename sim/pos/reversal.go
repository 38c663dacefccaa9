package pos

import (
	"cmp"
	"context"
	"errors"
	"fmt"
)

// maxReversals is how often a reversal is sent before the transaction that waits for it gives up.
const maxReversals = 3

// Reversal sends the pending reversal now; without one it reverses the last approved transaction, as an operator may ask for.
func (t *Terminal) Reversal(ctx context.Context) Result {
	return t.run(ctx, "reversal", func(ctx context.Context, r *Result) {
		if t.state.Pending == nil {
			if t.state.Last == nil {
				r.fail(errors.New("there is nothing to reverse: make a purchase first, or another transaction that can be reversed"))
				return
			}
			t.state.Pending, t.state.Last = t.state.Last, nil
			t.state.Pending.Cause = causeOther
		}
		r.Trace, r.AmountFen = t.state.Pending.Trace, t.state.Pending.AmountFen
		if t.settle(ctx, r) {
			r.Outcome = OutcomeApproved
		}
	})
}

// settle sends the pending reversal, at most maxReversals times. It answers false, with the reason in the result, when the
// reversal is still open: then no other transaction may begin.
func (t *Terminal) settle(ctx context.Context, r *Result) bool {
	if t.state.Pending == nil {
		return true
	}
	trace := t.state.Pending.Trace
	if !t.state.SignedOn {
		r.fail(fmt.Errorf("trace %s waits for its reversal: %w", trace, errNotSignedOn))
		return false
	}
	for range maxReversals {
		answer, err := t.reverse(ctx, r)
		if err != nil {
			r.did("reversal of trace %s: %v", trace, err)
			if ctx.Err() != nil {
				break
			}
			continue
		}
		code := answer.fields[39]
		r.Code = code
		r.Meaning, r.MeaningZH = meaning(code)
		if settled(code) {
			r.did("reversed trace %s: %s", trace, code)
			t.forget(t.state.Pending.Batch + trace)
			t.state.Pending = nil
			return true
		}
		r.did("reversal of trace %s refused: %s", trace, code)
		t.obey(r, answer)
		if !t.state.SignedOn {
			break
		}
	}
	r.fail(fmt.Errorf("the reversal of trace %s is still open; try `pos reversal` again, after `pos signon` where the terminal is signed off", trace))
	return false
}

// settled says that a code ends a reversal: done, or nothing was there to reverse. (12 and 25 as such is our choice: a host
// that never saw or never allowed the purchase has nothing to give back.)
func settled(code string) bool {
	return success(code) || code == "25" || code == "12"
}

// reverse sends the 0400 once: fields of the original with its trace (facts/unionpay.md §3), cause in F39, no PIN block. The
// track is enciphered again, because the keys may have changed since.
func (t *Terminal) reverse(ctx context.Context, r *Result) (packet, error) {
	pending := t.state.Pending
	card, err := openAccount(pending.Sealed)
	if err != nil {
		return packet{}, err
	}
	purchase := trades[commandPurchase]
	processing, condition := cmp.Or(pending.Processing, purchase.processing), cmp.Or(pending.Condition, purchase.condition)
	request, err := t.build("0400", processing, pending.Field60, pending.EntryMode, pending.AmountFen, card, "")
	if err != nil {
		return packet{}, err
	}
	request.fields[25] = condition
	request.fields[11], request.fields[39] = pending.Trace, pending.Cause
	if err := t.sign(request); err != nil {
		return packet{}, err
	}
	pending.Tries++
	if err := t.save(); err != nil {
		return packet{}, err
	}
	if r.Command == "reversal" {
		r.Request = request.dump()
	}
	answer, _, err := t.transact(ctx, request)
	if err != nil {
		t.hangUp()
		return packet{}, err
	}
	if r.Command == "reversal" {
		r.Answer = answer.dump()
	}
	return answer, nil
}

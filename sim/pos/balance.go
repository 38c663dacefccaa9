package pos

import (
	"context"
	"errors"
)

// Balance asks for the balance of an account: 0200, 310000, 60.1 = 01 (facts/unionpay.md §3). It moves no money and is
// never reversed.
func (t *Terminal) Balance(ctx context.Context, sale Sale) Result {
	return t.run(ctx, commandBalance, func(ctx context.Context, r *Result) { t.balance(ctx, r, sale) })
}

func (t *Terminal) balance(ctx context.Context, r *Result, sale Sale) {
	sale, err := sale.complete()
	if err == nil && !t.state.SignedOn {
		err = errNotSignedOn
	}
	if err != nil {
		r.fail(err)
		return
	}
	r.PAN = maskPAN(sale.PAN)
	if !t.settle(ctx, r) {
		return
	}
	if t.deliver(ctx, r); !t.state.SignedOn {
		r.fail(errNotSignedOn)
		return
	}
	card := account{PAN: sale.PAN, Expiry: testExpiry, Track2: sale.Track2}
	request, err := t.build("0200", "310000", t.field60("01"), sale.entryMode(), 0, card, sale.PIN)
	if err != nil {
		r.fail(err)
		return
	}
	if !t.prepare(r, request) {
		return
	}
	answer, _, err := t.transact(ctx, request)
	if err != nil {
		var notSent *notSentError
		if !errors.As(err, &notSent) {
			r.did("asked nothing more: a balance inquiry is not reversed")
		}
		r.fail(err)
		return
	}
	r.answered(answer)
	t.obey(r, answer)
}

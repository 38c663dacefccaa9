package pos

import (
	"context"
	"errors"
	"fmt"
)

// Causes of a reversal, F39 of the 0400 (facts/unionpay.md §3).
const (
	causeNoAnswer   = "98"
	causeBadMAC     = "A0"
	causeUnfinished = "96" // approved, but the terminal could not finish
	causeOther      = "06"
)

// Purchase pays with a card: 0200, 000000, 60.1 = 22 (facts/unionpay.md §3). When no usable answer comes the purchase is in
// doubt, and its reversal goes out before the next transaction.
func (t *Terminal) Purchase(ctx context.Context, sale Sale) Result {
	return t.run(ctx, "purchase", func(ctx context.Context, r *Result) { t.purchase(ctx, r, sale) })
}

func (t *Terminal) purchase(ctx context.Context, r *Result, sale Sale) {
	// Step 1: look at the sale, and settle what is in doubt from before.
	sale, err := sale.complete()
	if err == nil && (sale.AmountFen <= 0 || sale.AmountFen > maxAmountFen) {
		err = errors.New("the amount must be between 0.01 and 9999999999.99")
	}
	if err == nil && !t.state.SignedOn {
		err = errNotSignedOn
	}
	if err != nil {
		r.fail(err)
		return
	}
	r.PAN, r.AmountFen = maskPAN(sale.PAN), sale.AmountFen
	if !t.settle(ctx, r) {
		return
	}
	// Step 2: build and MAC the request.
	card := account{PAN: sale.PAN, Expiry: testExpiry, Track2: sale.Track2}
	noted := &original{AmountFen: sale.AmountFen, Batch: t.state.Batch, EntryMode: sale.entryMode(), Field60: t.field60("22"), Cause: causeNoAnswer}
	if noted.Sealed, err = sealAccount(card); err != nil {
		r.fail(err)
		return
	}
	request, err := t.build("0200", "000000", noted.Field60, noted.EntryMode, sale.AmountFen, card, sale.PIN)
	if err != nil {
		r.fail(err)
		return
	}
	// Step 3: the reversal is noted before the request leaves, so that a crash in between ends in a reversal.
	if !t.prepare(r, request) {
		return
	}
	noted.Trace = r.Trace
	t.state.Pending = noted
	if err := t.save(); err != nil {
		t.state.Pending = nil
		r.fail(err)
		return
	}
	// Step 4: exchange. Step 5: an answer that is right in every point ends the doubt.
	answer, cause, err := t.transact(ctx, request)
	if err != nil {
		t.doubt(ctx, r, cause, err)
		return
	}
	t.state.Pending = nil
	r.answered(answer)
	if r.Outcome == OutcomeApproved {
		t.state.Last = noted
	}
	t.obey(r, answer)
	// Step 6: keep the outcome. An approval that the terminal cannot keep is reversed: after a restart it would be anyway.
	if err := t.save(); err != nil && r.Outcome == OutcomeApproved {
		t.state.Pending, t.state.Last = noted, nil
		t.doubt(ctx, r, causeUnfinished, err)
	}
}

// prepare numbers and MACs a request.
func (t *Terminal) prepare(r *Result, request packet) bool {
	trace, err := t.nextTrace()
	if err == nil {
		request.fields[11] = trace
		err = t.sign(request)
	}
	if err != nil {
		r.fail(err)
		return false
	}
	r.Trace, r.Request = trace, request.dump()
	return true
}

// doubt leaves the pending reversal with its cause, or takes it away when nothing was sent.
func (t *Terminal) doubt(ctx context.Context, r *Result, cause string, err error) {
	var notSent *notSentError
	if errors.As(err, &notSent) {
		t.state.Pending = nil
		r.fail(err)
		return
	}
	r.Outcome = OutcomeInDoubt
	r.fail(err)
	t.state.Pending.Cause = cause
	if cause == causeBadMAC {
		r.did("refused the answer: its MAC is wrong")
	}
	r.did("noted a reversal of trace %s, cause %s", t.state.Pending.Trace, cause)
	if t.cfg.ReverseAtOnce {
		t.settle(ctx, r)
	}
}

// transact exchanges a MACed request and checks the answer: MTI, trace, amount, MAC. With an error comes the cause that a
// reversal would carry.
func (t *Terminal) transact(ctx context.Context, request packet) (answer packet, cause string, err error) {
	got, err := t.exchange(ctx, request)
	if err != nil {
		if errors.Is(err, errBadAnswer) {
			return packet{}, causeOther, err
		}
		return packet{}, causeNoAnswer, err
	}
	answer = got.packet
	mac, hasMAC := answer.fields[64]
	switch want := answerMTI(request.mti); {
	case answer.mti != want:
		return packet{}, causeOther, fmt.Errorf("the answer is a %s, not a %s", answer.mti, want)
	case answer.fields[39] == "":
		return packet{}, causeOther, errors.New("the answer has no response code")
	case hasMAC:
		if err := t.reader.verify(got.mab, mac); err != nil {
			if swIs(err, 0x9302) {
				err = errors.New("the MAC of the answer is wrong")
			}
			return packet{}, causeBadMAC, err
		}
	case success(answer.fields[39]):
		// A refusal may come without a MAC (facts/unionpay.md §4), an approval must not.
		return packet{}, causeBadMAC, errors.New("an approval without MAC")
	}
	// Code 10 approves a part of the amount. A balance inquiry has no amount to compare.
	asked, told := request.fields[4], answer.fields[4]
	if asked != "" && told != "" && told != asked && answer.fields[39] != "10" {
		return packet{}, causeOther, errors.New("the answer has another amount")
	}
	return answer, "", nil
}

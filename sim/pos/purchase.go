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
	return t.Trade(ctx, commandPurchase, sale)
}

// Trade does one of the transactions with a card: purchase, void, refund, preauth, preauth-void, complete, complete-void, advice (a completion told
// afterwards), offline, offline-chip, offline-refund, adjust, tip, script-result, load, and balance.
func (t *Terminal) Trade(ctx context.Context, command string, sale Sale) Result {
	if command == commandBalance {
		return t.Balance(ctx, sale)
	}
	return t.run(ctx, command, func(ctx context.Context, r *Result) {
		switch k := trades[command]; {
		case k == nil:
			r.fail(fmt.Errorf("%w: %q", errNoCommand, command))
		case k.doubt == doubtDeliver:
			t.advise(ctx, r, k, sale)
		default:
			t.sell(ctx, r, k, sale)
		}
	})
}

// sell is every transaction that waits for its answer.
func (t *Terminal) sell(ctx context.Context, r *Result, k *trade, sale Sale) {
	// Step 1: look at the sale, and settle what is open from before.
	if k.mti == "0220" {
		sale.PIN = "" // An advice has none, and a refund is one by its type.
	}
	sale, of, err := t.look(k, sale)
	if err != nil {
		r.fail(err)
		return
	}
	r.PAN, r.AmountFen = maskPAN(sale.PAN), sale.AmountFen
	if !t.settle(ctx, r) {
		return
	}
	if t.deliver(ctx, r); !t.state.SignedOn {
		r.fail(errNotSignedOn)
		return
	}
	// Step 2: build and MAC the request.
	card := account{PAN: sale.PAN, Expiry: testExpiry, Track2: sale.Track2}
	noted := &original{
		Command: r.Command, AmountFen: sale.AmountFen, Batch: t.state.Batch, EntryMode: sale.entryMode(), Field60: t.field60(k.code),
		Processing: k.processing, Condition: k.condition, Cause: causeNoAnswer,
	}
	if noted.Sealed, err = sealAccount(card); err != nil {
		r.fail(err)
		return
	}
	request, err := t.build(k.mti, k.processing, noted.Field60, noted.EntryMode, sale.AmountFen, card, sale.PIN)
	if err != nil {
		r.fail(err)
		return
	}
	request.fields[25] = k.condition
	of.refer(request)
	// Step 3: the reversal is noted before the request leaves, so that a crash in between ends in a reversal.
	if !t.prepare(r, request) {
		return
	}
	noted.Trace = r.Trace
	if k.doubt == doubtUndo {
		t.state.Pending = noted
	}
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
		t.remember(sold{
			Command: r.Command, Batch: noted.Batch, Trace: noted.Trace, Date: answer.fields[13], RRN: r.RRN, AuthCode: r.AuthCode,
			AmountFen: sale.AmountFen, Sealed: noted.Sealed, Of: of.id(),
		})
		if t.state.Last = nil; k.doubt == doubtUndo {
			t.state.Last = noted
		}
	}
	t.obey(r, answer)
	// Step 6: keep the outcome. An approval that the terminal cannot keep is reversed: after a restart it would be anyway.
	if err := t.save(); err != nil && t.state.Last == noted {
		t.state.Pending, t.state.Last = noted, nil
		t.doubt(ctx, r, causeUnfinished, err)
	}
}

// look checks a sale, finds its original and fills in what a card reader would.
func (t *Terminal) look(k *trade, sale Sale) (Sale, sold, error) {
	if !t.state.SignedOn {
		return sale, sold{}, errNotSignedOn
	}
	var of sold
	var err error
	if k.of != nil {
		if of, err = t.original(k, sale); err != nil {
			return sale, of, err
		}
		if sale, err = of.takeCard(sale); err != nil {
			return sale, of, err
		}
	}
	if sale, err = sale.complete(); err != nil {
		return sale, of, err
	}
	if sale.AmountFen <= 0 || sale.AmountFen > maxAmountFen {
		return sale, of, errors.New("the amount must be between 0.01 and 9999999999.99")
	}
	return sale, of, nil
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
	if cause == causeBadMAC {
		r.did("refused the answer: its MAC is wrong")
	}
	if t.state.Pending == nil {
		r.did("noted nothing: this is neither reversed nor repeated; ask the bank what became of it")
		return
	}
	t.state.Pending.Cause = cause
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

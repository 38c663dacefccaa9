package pos

import (
	"cmp"
	"context"
	"fmt"
	"slices"
)

// maxStored bounds the messages that wait for a host: a terminal's memory ends somewhere, and a terminal that is offline for so long must not go
// on selling.
const maxStored = 100

// stored is a message that tells of something that has happened: it is kept until a host answers it, and sent again as it was
// (facts/unionpay.md §3).
type stored struct {
	Command   string `json:"command"`
	MTI       string `json:"mti"`
	Batch     string `json:"batch"`
	Trace     string `json:"trace"`
	AmountFen int64  `json:"amount_fen"`
	// Fields are those that hold no card data.
	Fields map[int]string `json:"fields"`
	Chip   []byte         `json:"chip,omitempty"` // F55
	Sealed []byte         `json:"sealed"`         // the account data, see sealAccount
	Of     string         `json:"of,omitempty"`   // batch and trace of its original
	Tries  int            `json:"tries"`
}

// advise stores a message and tries to deliver it.
func (t *Terminal) advise(ctx context.Context, r *Result, k *trade, sale Sale) {
	sale, of, err := t.look(k, sale)
	if err == nil && len(t.state.Stored) >= maxStored {
		err = fmt.Errorf("%d messages are stored already; run `pos deliver` first", maxStored)
	}
	if err != nil {
		r.fail(err)
		return
	}
	r.PAN, r.AmountFen = maskPAN(sale.PAN), sale.AmountFen
	if !t.settle(ctx, r) {
		return
	}
	note, err := t.store(r, k, sale, of)
	if err != nil {
		r.fail(err)
		return
	}
	if t.deliver(ctx, r); r.Code == "" {
		r.Outcome = OutcomeInDoubt
		r.fail(fmt.Errorf("no answer yet: trace %s is stored and goes out before the next transaction, or now by `pos deliver`", note.Trace))
	}
}

// store numbers a message and keeps it.
func (t *Terminal) store(r *Result, k *trade, sale Sale, of sold) (stored, error) {
	trace, err := t.nextTrace()
	if err != nil {
		return stored{}, err
	}
	// The card is not read again: number and expiry go without a track, so that the message stays the same under new keys.
	note := stored{Command: r.Command, MTI: k.mti, Batch: t.state.Batch, Trace: trace, AmountFen: sale.AmountFen, Of: of.id()}
	if note.Sealed, err = sealAccount(account{PAN: sale.PAN, Expiry: testExpiry}); err != nil {
		return stored{}, err
	}
	like, mode := k, "012"
	switch r.Command {
	case commandScriptResult:
		// MTI apart, the fields are those of the original (facts/unionpay.md §3); of one that is not remembered, those of a purchase.
		like = trades[cmp.Or(of.Command, commandPurchase)]
		note.Chip = []byte(cmp.Or(sale.ICData, testScriptResult))
	case commandOfflineChip:
		mode, note.Chip = "052", []byte(cmp.Or(sale.ICData, testChipData))
	}
	p := newPacket(k.mti)
	of.refer(p)
	p.fields[3], p.fields[4], p.fields[22], p.fields[25] = like.processing, fmt.Sprintf("%012d", sale.AmountFen), mode, like.condition
	p.fields[60] = like.code + t.state.Batch + cmp.Or(k.network, "000") + t.cfg.Capability
	if sale.AuthCode != "" {
		p.fields[38] = sale.AuthCode // of the original, or got by voice
	}
	note.Fields = p.fields
	t.state.Stored = append(t.state.Stored, note)
	if err := t.save(); err != nil {
		t.state.Stored = t.state.Stored[:len(t.state.Stored)-1]
		return stored{}, err
	}
	r.Trace = trace
	return note, nil
}

// Deliver sends the stored messages now.
func (t *Terminal) Deliver(ctx context.Context) Result {
	return t.run(ctx, commandDeliver, func(ctx context.Context, r *Result) {
		if !t.state.SignedOn {
			r.fail(errNotSignedOn)
			return
		}
		if !t.settle(ctx, r) {
			return
		}
		if t.deliver(ctx, r); len(t.state.Stored) > 0 {
			r.fail(fmt.Errorf("%d messages are still stored", len(t.state.Stored)))
			return
		}
		r.Outcome = OutcomeApproved
	})
}

// deliver sends the stored messages in their order, until one has to wait. The answer to the command's own message becomes its result.
func (t *Terminal) deliver(ctx context.Context, r *Result) {
	for len(t.state.Stored) > 0 && t.state.SignedOn && ctx.Err() == nil {
		note := &t.state.Stored[0]
		answer, err := t.tell(ctx, r, note)
		if err != nil {
			r.did("trace %s stays stored: %v", note.Trace, err)
			return
		}
		code := answer.fields[39]
		own := note.Trace == r.Trace
		if own {
			r.answered(answer)
		}
		if t.waits(*note, code) {
			r.did("trace %s stays stored: the host answers %s", note.Trace, code)
			t.obey(r, answer)
			return
		}
		r.did("delivered trace %s: %s", note.Trace, code)
		if success(code) && note.MTI != trades[commandScriptResult].mti {
			t.remember(sold{
				Command: note.Command, Batch: note.Batch, Trace: note.Trace, Date: answer.fields[13], RRN: answer.fields[37],
				AuthCode: answer.fields[38], AmountFen: note.AmountFen, Sealed: note.Sealed, Of: note.Of,
			})
			t.state.Last = nil
		}
		t.state.Stored = slices.Delete(t.state.Stored, 0, 1)
		if err := t.save(); err != nil {
			r.fail(err) // Sent again after a restart, which the host knows.
			return
		}
		t.obey(r, answer)
	}
}

// waits says that a code does not end a stored message: the host asks for a sign-on, or could not work (facts/unionpay.md §7). Of a batch that has
// ended, 77 is the last word.
func (t *Terminal) waits(note stored, code string) bool {
	switch code {
	case "77":
		return note.Batch == t.state.Batch
	case "09", "68", "90", "91", "92", "96", "98":
		return true
	default:
		return signOnAgain(code)
	}
}

// tell sends a stored message once. Script result notices are MACed like all others: hosts differ (facts/unionpay.md §4), posp asks for it.
func (t *Terminal) tell(ctx context.Context, r *Result, note *stored) (packet, error) {
	card, err := openAccount(note.Sealed)
	if err != nil {
		return packet{}, err
	}
	request := t.message(note.MTI)
	for field, value := range note.Fields {
		request.fields[field] = value
	}
	request.fields[2], request.fields[11], request.fields[14], request.fields[49] = card.PAN, note.Trace, card.Expiry, "156"
	if len(note.Chip) > 0 {
		request.fields[23], request.fields[55] = "001", string(note.Chip)
	}
	if err := t.sign(request); err != nil {
		return packet{}, err
	}
	if note.Trace == r.Trace {
		r.Request = request.dump()
	}
	note.Tries++
	answer, _, err := t.transact(ctx, request)
	return answer, err
}

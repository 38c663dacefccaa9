package core

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/keyward/keyward/internal/posp/host"
	"github.com/keyward/keyward/internal/txn"
	"github.com/keyward/keyward/iso"
	"github.com/keyward/keyward/iso/core"
)

// kindReversal is the metric label of reversals.
const kindReversal = string(txn.Reversal)

// Reverse implements host.Host: 0400 for the first try, 0401 for each further one (docs/dialect-core.md §5.6 and §5.7). Two
// response codes end a reversal: 00, and 25, by which the bank says that it never saw the original, has booked nothing and will
// refuse it should it still come. Any other answer means that nothing was undone, and counts as Unknown: the reversal stays owed.
func (h *Host) Reverse(ctx context.Context, rev host.Reversal) (result host.Result) {
	defer h.metrics.observe(kindReversal, time.Now(), &result)
	if err := h.enter(); err != nil {
		return host.Result{Outcome: txn.NotSent, Err: err}
	}
	defer h.leave()
	m, err := h.reversal(rev)
	if err != nil {
		return host.Result{Outcome: txn.NotSent, Err: err}
	}
	answer, outcome, err := h.ask(ctx, h.client, m)
	if err != nil {
		return host.Result{Outcome: outcome, Err: err}
	}
	code := answer.Text(iso.ResponseCode)
	if code != codeApproved && code != codeNotFound {
		return host.Result{Outcome: txn.Unknown, Err: fmt.Errorf("reversal refused with response code %q; it stays owed, ask the bank when this goes on", code)}
	}
	return host.Result{Outcome: txn.Answered, Reply: h.reply(code, answer)}
}

// reversal makes the 0400 or 0401.
func (h *Host) reversal(rev host.Reversal) (*iso.Message, error) {
	if rev.PAN.IsZero() || rev.Trace == "" || rev.RRN == "" || rev.SentAt.IsZero() {
		return nil, errors.New("reversal: card number, trace, reference or time is missing")
	}
	mti := "0400"
	if rev.Try > 1 {
		mti = "0401"
	}
	kind := rev.Kind
	if kind == "" {
		kind = txn.Purchase
	}
	if kind.Doubt() != txn.Undo {
		return nil, fmt.Errorf("reversal: a transaction of kind %q is not reversed", rev.Kind)
	}
	f := forms[kind]
	amount, err := iso.FormatAmount(rev.Amount)
	if err != nil {
		return nil, err
	}
	// The original's time is written as it had it, from the same moment.
	original, err := core.Original{
		MTI: f.mti, Trace: rev.Trace, Transmission: rev.SentAt.UTC().Format(layoutTransmission), Acquirer: h.cfg.AcquirerID,
	}.Encode()
	if err != nil {
		return nil, err
	}
	m := iso.New(mti)
	m.Set(iso.PAN, rev.PAN.Reveal())
	m.Set(iso.ProcessingCode, f.processing)
	m.Set(iso.Amount, amount)
	h.stamp(m, h.cfg.Now(), rev.SentAt)
	m.Set(iso.Trace, rev.Trace)
	setIf(m, iso.Expiry, rev.Expiry)
	m.Set(iso.EntryMode, rev.EntryMode)
	m.Set(iso.ConditionCode, f.condition)
	m.Set(iso.Acquirer, h.cfg.AcquirerID)
	m.Set(iso.Reference, rev.RRN)
	m.Set(iso.ResponseCode, rev.Cause)
	m.Set(iso.Terminal, rev.Terminal)
	m.Set(iso.Merchant, rev.Merchant)
	m.Set(iso.Currency, orElse(rev.Currency, defaultCurrency))
	setIf(m, iso.Private60, f.code)
	m.Set(iso.OriginalData, original)
	return m, nil
}

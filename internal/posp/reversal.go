package posp

import (
	"context"
	"time"

	"github.com/keyward/keyward/internal/ledger"
	"github.com/keyward/keyward/internal/posp/journal"
	"github.com/keyward/keyward/internal/txn"
	"github.com/keyward/keyward/iso"
)

// originalMTI maps the reversal's field 60.1 to the MTI of its original (facts/unionpay.md §3: a reversal has field 3, 25 and 60.1 of
// the original and its trace number).
var originalMTI = map[string]string{"22": "0200"}

// courtesyWait is how long the answer to a reversal waits for the host's: a healthy host needs milliseconds.
const courtesyWait = 2 * time.Second

// reversal handles the terminal's 0400: the terminal got no answer, a wrong one, or could not finish. It is authentic or refused,
// and once authentic it is answered 00 as soon as we know that the money is, or will be, where it was.
func (f *flow) reversal(ctx context.Context, in *incoming) outgoing {
	candidates := f.candidates(ctx, in, false)
	if len(candidates) == 0 {
		return f.refuse(in, codeSignOn, "terminal is not signed on")
	}
	if err := f.authenticate(ctx, in, candidates); err != nil {
		return f.refuseFor(ctx, in, err)
	}
	mti, known := originalMTI[in.f60.Type]
	if !known {
		return f.refuseMACed(ctx, in, codeUnsupported, "this kind of transaction is not reversed")
	}
	ctx = context.WithoutCancel(ctx)
	original := in.key(mti)
	cause, _ := in.msg.Get(iso.ResponseCode)

	entry, err := f.original(ctx, in, original, cause)
	if err != nil {
		return f.refuseMACed(ctx, in, codeSystem, "the original cannot be looked up now: "+err.Error())
	}
	// An original that is still under way is waited for: its outcome decides.
	waitCtx, cancel := context.WithTimeout(ctx, f.cfg.HostTimeout.Std()+f.cfg.RecordTimeout.Std())
	defer cancel()
	select {
	case <-entry.Settled():
	case <-waitCtx.Done():
		return f.refuseMACed(ctx, in, codeSystem, "the original is still under way")
	}
	if amount, ok := in.msg.Get(iso.Amount); ok && entry.Original().Amount != 0 {
		if want, err := iso.FormatAmount(entry.Original().Amount); err != nil || want != amount {
			return f.refuseMACed(ctx, in, codeOtherAmount, "the amount differs from the original's")
		}
	}
	if state, _, _ := entry.Standing(); state == txn.Approved && len(entry.Sealed()) == 0 {
		// What a reversal needs is erased once the day is settled. The money stays where it is, and the terminal must hear that.
		return f.refuseMACed(ctx, in, codeNotFound, "the original is settled and cannot be reversed any more; it is a case for reconciliation")
	}
	recordCtx, cancelRecord := context.WithTimeout(ctx, f.cfg.RecordTimeout.Std())
	defer cancelRecord()
	state, err := entry.TakeBack(recordCtx, reversalCause(cause))
	if err != nil {
		return f.refuseMACed(ctx, in, codeSystem, err.Error())
	}
	if state.NeedsReversal() {
		// It is owed, durably, and will be sent until the host answers. Waiting a moment for that answer is a courtesy to
		// the next transaction of the same card.
		moment := time.NewTimer(courtesyWait)
		defer moment.Stop()
		select {
		case <-entry.Undone():
		case <-moment.C:
		}
	}
	_, rrn := entry.Reference()
	return f.answer(ctx, in, txn.Reply{Code: codeOK, RRN: rrn})
}

// original finds the transaction that a reversal names, or leaves a tombstone in its place.
func (f *flow) original(ctx context.Context, in *incoming, k txn.Key, cause string) (*journal.Entry, error) {
	lookup, cancel := context.WithTimeout(ctx, f.cfg.RecordTimeout.Std())
	defer cancel()
	entry, err := f.journal.Lookup(lookup, k)
	if err != nil || entry != nil {
		return entry, err
	}
	base := ledger.Record{Kind: txn.Purchase}
	base.ProcCode, _ = in.msg.Get(iso.ProcessingCode)
	base.Currency, _ = in.msg.Get(iso.Currency)
	if v, ok := in.msg.Get(iso.Amount); ok {
		if base.Amount, err = iso.ParseAmount(v); err != nil {
			return nil, err
		}
	}
	return f.journal.Tombstone(lookup, k, base, reversalCause(cause), in.at, nil)
}

// reversalCause passes on the causes that hosts know; anything else is "06, other".
func reversalCause(c string) string {
	switch c {
	case txn.CauseNoAnswer, txn.CauseNotDone, txn.CauseBadMAC:
		return c
	}
	return txn.CauseOther
}

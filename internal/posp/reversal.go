package posp

import (
	"context"
	"time"

	"github.com/keyward/keyward/internal/ledger"
	"github.com/keyward/keyward/internal/posp/journal"
	"github.com/keyward/keyward/internal/posp/reverse"
	"github.com/keyward/keyward/internal/txn"
	"github.com/keyward/keyward/iso"
)

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
	ctx = context.WithoutCancel(ctx)
	original := in.key(originalMTI[in.row.Original])
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

// original finds the transaction that a reversal names, or leaves a tombstone in its place. The host is told of the tombstone too, where the
// message names the card: it may know the transaction through an instance whose records have not arrived, and the references by which it does
// are derived from the same message.
func (f *flow) original(ctx context.Context, in *incoming, k txn.Key, cause string) (*journal.Entry, error) {
	lookup, cancel := context.WithTimeout(ctx, f.cfg.RecordTimeout.Std())
	defer cancel()
	entry, err := f.journal.Lookup(lookup, k)
	if err != nil || entry != nil {
		return entry, err
	}
	base := ledger.Record{Kind: kinds[in.row.Original]}
	base.ProcCode, _ = in.msg.Get(iso.ProcessingCode)
	base.Currency, _ = in.msg.Get(iso.Currency)
	if v, ok := in.msg.Get(iso.Amount); ok {
		if base.Amount, err = iso.ParseAmount(v); err != nil {
			return nil, err
		}
	}
	req := f.unheardOf(ctx, in, base)
	base.PANMasked = req.PAN.Masked()
	if !req.PAN.IsZero() {
		base.PANDigest = f.seal.DigestPAN(req.PAN)
	}
	return f.journal.Tombstone(lookup, k, base, reversalCause(cause), in.at, func(id txn.ID) (string, []byte) { return f.forward(ctx, id, req) })
}

// unheardOf is what a reversal says about an original that nobody here knows. The card number is missing when the message has none, or the
// track cannot be deciphered: then the host cannot be told.
func (f *flow) unheardOf(ctx context.Context, in *incoming, base ledger.Record) *txn.Request {
	get := func(field int) string { v, _ := in.msg.Get(field); return v }
	req := &txn.Request{
		Kind: base.Kind, Key: in.key(originalMTI[in.row.Original]), ReceivedAt: in.at, ProcCode: base.ProcCode, Amount: base.Amount,
		Currency: base.Currency, Expiry: get(iso.Expiry), EntryMode: get(iso.EntryMode), Condition: get(iso.ConditionCode),
	}
	security := get(iso.SecurityControl)
	if security == "" {
		security = "000"
	}
	track, err := f.track(ctx, in, in.msg.Secret(iso.Track2), security)
	if err == nil {
		req.PAN, err = cardNumber(in.msg, track)
	}
	if err != nil {
		f.log.InfoContext(ctx, "the reversal of an unknown transaction names no card, so the host is not told", "terminal", in.terminal.ID, "error", err)
	}
	return req
}

// forward seals what the host is told about a transaction that nobody here knows; no host for one that cannot be told.
func (f *flow) forward(ctx context.Context, id txn.ID, req *txn.Request) (name string, sealed []byte) {
	if req.PAN.IsZero() || req.Amount <= 0 {
		return "", nil
	}
	h, err := f.hosts.choose(req)
	if err == nil {
		sealed, err = reverse.Material{PAN: req.PAN.Reveal(), Expiry: req.Expiry, EntryMode: req.EntryMode, Condition: req.Condition}.Seal(f.seal, id)
	}
	if err != nil {
		f.log.WarnContext(ctx, "the reversal of an unknown transaction cannot be forwarded", "txn", id.String(), "error", err)
		return "", nil
	}
	return h.Name(), sealed
}

// reversalCause passes on the causes that hosts know; anything else is "06, other".
func reversalCause(c string) string {
	switch c {
	case txn.CauseNoAnswer, txn.CauseNotDone, txn.CauseBadMAC:
		return c
	}
	return txn.CauseOther
}

// Package posp is the ISO 8583 front end: it signs terminals on, verifies their messages in the HSM, routes transactions to
// the bank and answers. Read this file first: purchase is the whole path of money, numbered as in docs/flow-purchase.md, for every kind of
// transaction (kinds.go); original.go has what differs for those that refer to an earlier one, advice.go for those that tell of something that
// has happened (docs/flow-transactions.md). signon.go is the other main flow (docs/flow-signon.md), reversal.go the third.
package posp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/internal/ledger"
	"github.com/keyward/keyward/internal/posp/device"
	"github.com/keyward/keyward/internal/posp/host"
	"github.com/keyward/keyward/internal/posp/journal"
	"github.com/keyward/keyward/internal/posp/reverse"
	"github.com/keyward/keyward/internal/posp/seal"
	"github.com/keyward/keyward/internal/posp/workkeys"
	"github.com/keyward/keyward/internal/txn"
	"github.com/keyward/keyward/iso/unionpay/profile"
)

// HSM is what the flows need of the hardware. The online group of the device offers no more than this (P1).
type HSM interface {
	command.WorkKeyMaker
	command.PINTranslator
	command.MACer
	command.DataDecrypter
}

// flow holds what the flows work with.
type flow struct {
	cfg       FlowConfig
	profiles  *profile.List
	strict    bool // production: a MAC that can be forged needs a protected line
	pins      *pinRates
	devices   *device.Table
	reload    func(ctx context.Context, terminal string) error // of one terminal's row in devices
	keys      *workkeys.Keeper
	hsm       HSM
	journal   *journal.Journal
	reversals *reverse.Engine
	seal      *seal.Sealer
	hosts     *hosts
	admission *admission
	handovers *handovers
	events    *Events
	fail      func(error) // ends the instance: it cannot keep what it promised
	metrics   *metrics
	log       *slog.Logger
	now       func() time.Time
}

// purchase handles every financial request but reversals: purchase and balance inquiry, with and without PIN, and all others (P8 to P10). Step 1 (decode) and the terminal's
// right to be here (the first half of step 2) are done by handle.
func (f *flow) purchase(ctx context.Context, in *incoming) outgoing {
	// Step 2: keys from memory. Unknown keys: reload once from the database, bounded, then decide.
	candidates := f.candidates(ctx, in, false)
	if len(candidates) == 0 {
		return f.refuse(in, codeSignOn, "terminal is not signed on")
	}

	// Step 3: verify the MAC in the HSM. The key that fits fixes PIN key, track key and the key of the answer.
	if err := f.authenticate(ctx, in, candidates); err != nil {
		return f.refuseFor(ctx, in, err)
	}
	if in.f60.Batch != in.set.Batch {
		return f.refuseMACed(ctx, in, codeSignOn, "batch number differs from ours")
	}
	req, err := f.request(ctx, in)
	if err != nil {
		return f.refuseFor(ctx, in, err)
	}

	// Step 4: duplicate check. The record "received" need not be durable, and lives in memory.
	if err := f.journal.Admit(); err != nil {
		return f.refuseMACed(ctx, in, codeSystem, "journal takes no new transaction: "+err.Error())
	}
	entry, verdict := f.journal.Begin(req.Key, req.Content, f.facts(req), in.at)
	if verdict != journal.Fresh {
		return f.repeat(ctx, in, entry, verdict)
	}
	req.ID, in.entry = entry.ID(), entry.ID()
	f.handovers.begin(in.entry)
	defer f.endOnPanic(entry)

	// Step 5: hold what refers to an earlier transaction against that one, and choose the host: the original's, else a pure function of the
	// request.
	original, err := f.referTo(ctx, in, req, entry)
	if err != nil {
		return f.conclude(ctx, in, entry, host.Result{Outcome: txn.NotSent, Reply: txn.Reply{Code: codeOf(err)}, Err: err})
	}
	h, err := f.hostFor(req, original)
	if err != nil {
		return f.conclude(ctx, in, entry, host.Result{Outcome: txn.NotSent, Reply: txn.Reply{Code: codeHostDown}, Err: err})
	}

	// Step 6: translate the PIN from PIK to the host's ZPK and decipher the track, in the HSM.
	msg, err := f.regroup(ctx, in, req, entry, h)
	if err != nil {
		return f.conclude(ctx, in, entry, host.Result{Outcome: txn.NotSent, Reply: txn.Reply{Code: codeOf(err)}, Err: err})
	}

	refer(&msg, original)

	// Step 7: record "sending", durable. From here on the terminal's hanging up cancels nothing.
	hostCtx, cancel, err := f.hostTime(ctx)
	if err != nil {
		return f.conclude(ctx, in, entry, host.Result{Outcome: txn.NotSent, Reply: txn.Reply{Code: codeSystem}, Err: err})
	}
	defer cancel()
	ctx = context.WithoutCancel(ctx)
	if err := f.recordSending(ctx, entry, msg, h); err != nil {
		if journal.IsTakenElsewhere(err) {
			return f.repeatElsewhere(ctx, in, req)
		}
		// The record may or may not have reached the disk, so it is closed by a second one; nothing was sent.
		return f.conclude(ctx, in, entry, host.Result{Outcome: txn.NotSent, Reply: txn.Reply{Code: codeSystem}, Err: err})
	}

	// Step 8: the host exchange: answered, not sent, or unknown.
	result := h.Exchange(hostCtx, msg)

	// Steps 9 and 10: record the outcome, durable; then MAC, encode, hand to the socket.
	return f.conclude(ctx, in, entry, result)
}

// conclude is steps 9 and 10, for whatever came of the transaction.
func (f *flow) conclude(ctx context.Context, in *incoming, entry *journal.Entry, result host.Result) outgoing {
	ctx = context.WithoutCancel(ctx)
	state, _, _ := entry.Standing()
	advice := entry.Original().Kind.Doubt() == txn.Deliver
	if advice && state == txn.Received {
		return f.notTaken(ctx, in, entry, result)
	}
	reply := replyOf(entry, result)

	// Step 9: record the outcome. An unknown one queues in the same write what its kind asks for: a reversal, or the advice once more.
	recordCtx, cancel := context.WithTimeout(ctx, f.cfg.RecordTimeout.Std())
	err := entry.Conclude(recordCtx, result.Outcome, reply, reversalCauseOf(result.Err))
	cancel()
	if err != nil && (result.Outcome != txn.NotSent || advice) {
		return f.unrecorded(ctx, entry, err)
	}
	if err != nil {
		// Nothing was sent, so nothing can be lost: the worst that a missing record brings is a reversal of what the host never saw.
		f.log.WarnContext(ctx, "refusal cannot be recorded", "txn", entry.ID().String(), "error", err)
	}

	if state, _, _ := entry.Standing(); state == txn.Unresolved {
		f.metrics.unresolved.Inc()
		f.log.ErrorContext(ctx, "nobody knows whether the host did it, and no message can ask: settle it by hand with the host's book", "txn", entry.ID().String(), "rrn", reply.RRN)
	}

	// Step 10: MAC the answer, encode, hand to the socket. An approval that cannot be handed over is reversed.
	out := f.answer(ctx, in, reply)
	out.err = errors.Join(result.Err, out.err)
	if !reply.Approved() || result.Outcome != txn.Answered {
		return out
	}
	out.hand = f.handovers.find(entry.ID())
	out.before = entry.Answered
	out.lost = func() { f.takeBack(ctx, entry, "the answer could not be made or handed to the terminal's connection") }
	return out
}

// endOnPanic ends the instance when a defect in our own code leaves a transaction unsettled: nothing here would ever settle it, and
// the next start finds it as sent and reverses it. The link's own handling of the panic goes on.
func (f *flow) endOnPanic(entry *journal.Entry) {
	if p := recover(); p != nil {
		f.fail(fmt.Errorf("transaction %s was left by a defect in the program", entry.ID()))
		panic(p)
	}
}

// hostTime bounds the host exchange by its own time-out and by what the whole request may take, less what comes after it, so that the
// terminal is answered while it still listens.
func (f *flow) hostTime(ctx context.Context) (context.Context, context.CancelFunc, error) {
	limit := f.cfg.HostTimeout.Std()
	if deadline, ok := ctx.Deadline(); ok {
		limit = min(limit, time.Until(deadline)-f.cfg.HSMTimeout.Std())
	}
	if limit <= 0 {
		return nil, nil, errors.New("no time is left to ask the host")
	}
	hostCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	return hostCtx, cancel, nil
}

// unrecorded is the end of a transaction whose outcome nobody can promise to keep: the terminal gets no answer. Where not even the
// spool took the record the instance ends, because only a new start finds the transaction as sent and reverses it.
func (f *flow) unrecorded(ctx context.Context, entry *journal.Entry, err error) outgoing {
	f.log.ErrorContext(ctx, "outcome cannot be recorded, the terminal gets no answer", "txn", entry.ID().String(), "error", err)
	if state, _, _ := entry.Standing(); state == txn.Sending {
		f.fail(fmt.Errorf("the outcome of transaction %s cannot be recorded: %w", entry.ID(), err))
	}
	return outgoing{err: err}
}

// reversalCauseOf is field 39 of the reversal of an unknown outcome.
func reversalCauseOf(err error) string {
	if errors.Is(err, host.ErrMAC) {
		return txn.CauseBadMAC
	}
	return txn.CauseNoAnswer
}

// takeBack queues the reversal of an approval that the terminal will not hear of.
func (f *flow) takeBack(ctx context.Context, entry *journal.Entry, why string) {
	ctx, cancel := context.WithTimeout(ctx, f.cfg.RecordTimeout.Std())
	defer cancel()
	state, err := entry.TakeBack(ctx, txn.CauseNotDone)
	if err != nil {
		f.log.ErrorContext(ctx, "approval cannot be taken back now; the next start will", "txn", entry.ID().String(), "error", err)
		return
	}
	if !state.NeedsReversal() {
		f.log.WarnContext(ctx, "the terminal did not hear of an approval that is not reversed; it will ask again", "txn", entry.ID().String(), "reason", why)
		return
	}
	f.log.WarnContext(ctx, "approval taken back", "txn", entry.ID().String(), "reason", why)
}

// repeat answers a request that was taken up before (design.md §3, "Duplicate key").
func (f *flow) repeat(ctx context.Context, in *incoming, entry *journal.Entry, verdict journal.Verdict) outgoing {
	f.metrics.duplicates.Inc()
	switch verdict {
	case journal.Different:
		return f.refuseMACed(ctx, in, codeDuplicate, "another request under the same trace number")
	case journal.Withdrawn:
		return f.refuseMACed(ctx, in, codeNotFound, "a reversal of this request came first")
	case journal.Fresh, journal.Repeat:
	}
	waitCtx, cancel := context.WithTimeout(ctx, f.cfg.HostTimeout.Std())
	defer cancel()
	select {
	case <-entry.Settled():
	case <-waitCtx.Done():
		return outgoing{err: errors.New("the first of these requests is still under way")}
	}
	state, reply, _ := entry.Standing()
	if reply == nil || reply.Code == "" && state != txn.InDoubt {
		return f.refuseMACed(ctx, in, codeNoAnswer, "the first of these requests came to no answer")
	}
	answer := *reply
	if state.NeedsReversal() || state == txn.Reversed {
		answer.Code, answer.AuthCode = codeNoAnswer, ""
	}
	out := f.answer(ctx, in, answer)
	if state == txn.Approved {
		out.before, out.hand = entry.Answered, f.handovers.find(entry.ID())
		out.refuse = func() outgoing {
			return f.refuseMACed(context.WithoutCancel(ctx), in, codeNoAnswer, "the approval was taken back meanwhile")
		}
	}
	return out
}

// repeatElsewhere answers a request that another instance took up, or this one before memory forgot it.
func (f *flow) repeatElsewhere(ctx context.Context, in *incoming, req *txn.Request) outgoing {
	entry, err := f.journal.Elsewhere(ctx, req.Key)
	if err != nil {
		return f.refuseMACed(ctx, in, codeSystem, err.Error())
	}
	return f.repeat(ctx, in, entry, entry.Compare(req.Content))
}

// recordSending is step 7: what a reversal, or a repeat, would need goes into the journal, sealed.
func (f *flow) recordSending(ctx context.Context, entry *journal.Entry, msg host.Request, h host.Host) error {
	if !msg.Kind.Recorded() {
		return nil
	}
	sealed, err := reverse.MaterialOf(msg).Seal(f.seal, entry.ID())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, f.cfg.RecordTimeout.Std())
	defer cancel()
	return entry.Sending(ctx, h.Name(), sealed)
}

// facts are the fields that all journal records of a transaction share.
func (f *flow) facts(req *txn.Request) ledger.Record {
	return ledger.Record{
		Kind: req.Kind, ProcCode: req.ProcCode, Amount: req.Amount, Currency: req.Currency,
		PANMasked: req.PAN.Masked(), PANDigest: f.seal.DigestPAN(req.PAN),
	}
}

package posp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/keyward/keyward/internal/ledger"
	"github.com/keyward/keyward/internal/posp/host"
	"github.com/keyward/keyward/internal/posp/journal"
	"github.com/keyward/keyward/internal/txn"
)

// rule says what a transaction needs of the earlier one to which it refers.
type rule struct {
	of       []txn.Kind // what it may refer to
	batch    bool       // the original must be of the same terminal and batch: what was settled is refunded, not voided
	whole    bool       // the amount must be the original's, as last adjusted
	percent  int64      // what all uses of the original together may take of its amount
	alone    bool       // bears no other use beside it
	loose    bool       // takes nothing of it, so it may be in any state
	optional bool       // told to the host when it is found, and never a reason to refuse
}

// preAuthPercent is how much of a pre-authorisation may be completed, in percent: UnionPay's rule for hotels and the like.
const preAuthPercent = 115

// rules are the rules by kind; a kind that refers to nothing has none.
var rules = map[txn.Kind]rule{
	txn.PurchaseVoid:     {of: []txn.Kind{txn.Purchase}, batch: true, whole: true, percent: 100, alone: true},
	txn.PreAuthVoid:      {of: []txn.Kind{txn.PreAuth}, whole: true, percent: 100, alone: true},
	txn.Completion:       {of: []txn.Kind{txn.PreAuth}, percent: preAuthPercent, alone: true},
	txn.CompletionAdvice: {of: []txn.Kind{txn.PreAuth}, percent: preAuthPercent, alone: true},
	txn.CompletionVoid:   {of: []txn.Kind{txn.Completion, txn.CompletionAdvice}, batch: true, whole: true, percent: 100, alone: true},
	txn.Refund:           {of: []txn.Kind{txn.Purchase, txn.Completion, txn.CompletionAdvice}, percent: 100},
	txn.Adjustment:       {of: anyOriginal, loose: true, optional: true},
	txn.TipAdjustment:    {of: anyOriginal, loose: true, optional: true},
	txn.OfflineRefund:    {of: anyOriginal, loose: true, optional: true},
	txn.ScriptResult:     {of: append([]txn.Kind{txn.PreAuth, txn.PreAuthVoid, txn.CompletionVoid, txn.PurchaseVoid, txn.Refund}, anyOriginal...), loose: true},
}

// anyOriginal is what takes money.
var anyOriginal = []txn.Kind{txn.Purchase, txn.Completion, txn.CompletionAdvice, txn.OfflinePurchase, txn.OfflineSettlement}

const (
	// originalDays is how long an earlier transaction can be referred to: card schemes give half a year for a refund.
	originalDays = 180
	// batchDays is how long a batch may be open.
	batchDays = 8
)

// referTo finds the earlier transaction that a request refers to and takes what the request needs of it; nil for none. The reference that
// counts is the one of the MACed message, the card must be the same, and of two requests for the same money one is refused, whichever
// instance they come to.
func (f *flow) referTo(ctx context.Context, in *incoming, req *txn.Request, entry *journal.Entry) (*ledger.Record, error) {
	r, ok := rules[req.Kind]
	if !ok || r.optional && req.Original.Trace == "" && req.OriginalRRN == "" {
		return nil, nil
	}
	if req.Original.Trace == "" && req.OriginalRRN == "" && req.AuthCode == "" {
		return nil, &refusal{code: codeFormat, why: "nothing names the original: field 61, 37 or 38 is needed"}
	}
	ctx, cancel := context.WithTimeout(ctx, f.cfg.RecordTimeout.Std())
	defer cancel()
	past, err := f.past(ctx, in, req, r)
	switch {
	case err != nil:
		return nil, &refusal{code: codeSystem, why: "the original cannot be looked up now", err: err}
	case past == nil && !r.optional:
		return nil, &refusal{code: codeNotFound, why: "the original is not found"}
	case past == nil:
		return nil, nil
	case r.loose:
		entry.Refer(past)
		return past, nil
	case past.State != txn.Approved:
		return nil, &refusal{code: codeNotFound, why: fmt.Sprintf("the original is %s", past.State)}
	case r.whole && req.Amount != past.Amount:
		return nil, &refusal{code: codeOtherAmount, why: "the amount differs from the original's"}
	}
	err = entry.Use(ctx, past, past.Amount*r.percent/100, r.alone)
	switch {
	case errors.Is(err, ledger.ErrTaken):
		return nil, &refusal{code: codeNotFound, why: "the original is used up", err: err}
	case errors.Is(err, ledger.ErrOver):
		return nil, &refusal{code: codeOtherAmount, why: "the amount is more than the original allows", err: err}
	case err != nil:
		return nil, &refusal{code: codeSystem, why: "the original cannot be used now", err: err}
	}
	return past, nil
}

// past looks for the original by the ways in which terminals name one: batch and trace (field 61), retrieval reference (field 37), and, for a
// pre-authorisation of another terminal, card and authorisation code.
func (f *flow) past(ctx context.Context, in *incoming, req *txn.Request, r rule) (*ledger.Record, error) {
	today := in.at.In(f.cfg.location)
	digest := f.seal.DigestPAN(req.PAN)
	base := ledger.Reference{Merchant: req.Key.Merchant, Kinds: r.of, From: today.AddDate(0, 0, -originalDays), To: today.AddDate(0, 0, 1)}
	var ways []ledger.Reference
	if req.Original.Trace != "" {
		way := base
		way.Terminal, way.Batch, way.Trace = req.Key.Terminal, req.Original.Batch, req.Original.Trace
		if day, ok := dayOf(req.Original.Date, today); ok {
			way.From, way.To = day.AddDate(0, 0, -1), day.AddDate(0, 0, 1)
		} else if r.batch {
			way.From = today.AddDate(0, 0, -batchDays)
		}
		ways = append(ways, way)
	}
	if req.OriginalRRN != "" {
		way := base
		way.RRN = req.OriginalRRN
		ways = append(ways, way)
	}
	if req.AuthCode != "" {
		way := base
		way.PANDigest, way.AuthCode = digest, req.AuthCode
		ways = append(ways, way)
	}
	for _, way := range ways {
		found, err := f.journal.Past(ctx, way)
		if err != nil {
			return nil, err
		}
		if found != nil && isOriginal(req, r, found, digest) {
			return found, nil
		}
	}
	return nil, nil
}

// isOriginal holds what was found against everything that the request says about its original.
func isOriginal(req *txn.Request, r rule, found *ledger.Record, digest []byte) bool {
	switch {
	case !bytes.Equal(found.PANDigest, digest):
		return false
	case req.OriginalRRN != "" && req.OriginalRRN != found.RRN:
		return false
	case req.AuthCode != "" && found.Reply.AuthCode != "" && req.AuthCode != found.Reply.AuthCode:
		return false
	case req.Original.Trace != "" && found.Key.Terminal == req.Key.Terminal && (found.Key.Trace != req.Original.Trace || found.Key.Batch != req.Original.Batch):
		return false
	case r.batch && (found.Key.Terminal != req.Key.Terminal || found.Key.Batch != req.Key.Batch):
		return false
	}
	return true
}

// dayOf reads field 61.3, MMDD, which has no year: the latest such day that is not in the future, one day of clocks apart.
func dayOf(mmdd string, today time.Time) (time.Time, bool) {
	for year := today.Year() + 1; year >= today.Year()-1; year-- {
		day, err := time.ParseInLocation("20060102", fmt.Sprintf("%04d%s", year, mmdd), today.Location())
		if err == nil && !day.After(today.AddDate(0, 0, 1)) {
			return day, true
		}
	}
	return time.Time{}, false
}

// hostFor is step 5: what refers to an earlier transaction goes to the host that has it, everything else where the routing says.
func (f *flow) hostFor(req *txn.Request, original *ledger.Record) (host.Host, error) {
	if original == nil {
		return f.hosts.choose(req)
	}
	h, ok := f.hosts.find(original.Host)
	if !ok {
		return nil, fmt.Errorf("the original went to host %q, which is not configured any more", original.Host)
	}
	if err := h.Ready(); err != nil {
		return nil, fmt.Errorf("host %s: %w", h.Name(), err)
	}
	return h, nil
}

// refer names the original to its host, where there is one.
func refer(msg *host.Request, r *ledger.Record) {
	if r == nil {
		return
	}
	msg.Original = &host.Original{
		Kind: r.Kind, Trace: r.HostTrace, RRN: r.RRN, SentAt: r.Began, Terminal: r.Key.Terminal, Amount: r.Amount, AuthCode: r.Reply.AuthCode,
	}
}

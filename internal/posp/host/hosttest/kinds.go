package hosttest

import (
	"testing"

	"github.com/keyward/keyward/internal/posp/host"
	"github.com/keyward/keyward/internal/txn"
)

// codes are fields 3 and 25 of the terminal's message (facts/unionpay.md §3), which posp hands on.
var codes = map[txn.Kind][2]string{
	txn.Purchase: {"000000", "00"}, txn.PurchaseVoid: {"200000", "00"}, txn.Refund: {"200000", "00"}, txn.PreAuth: {"030000", "06"},
	txn.PreAuthVoid: {"200000", "06"}, txn.Completion: {"000000", "06"}, txn.CompletionVoid: {"200000", "06"},
	txn.CompletionAdvice: {"000000", "06"}, txn.OfflineSettlement: {"000000", "00"}, txn.Adjustment: {"000000", "00"},
	txn.TipAdjustment: {"000000", "00"}, txn.OfflinePurchase: {"000000", "00"}, txn.OfflineRefund: {"200000", "00"},
	txn.ScriptResult: {"000000", "00"},
}

// above is what each kind is built upon.
var above = map[txn.Kind]txn.Kind{
	txn.PurchaseVoid: txn.Purchase, txn.Refund: txn.Purchase, txn.PreAuthVoid: txn.PreAuth, txn.Completion: txn.PreAuth,
	txn.CompletionVoid: txn.Completion, txn.CompletionAdvice: txn.PreAuth, txn.Adjustment: txn.OfflineSettlement,
	txn.TipAdjustment: txn.Purchase, txn.OfflineRefund: txn.OfflinePurchase, txn.ScriptResult: txn.Purchase,
}

// RequestOf makes a request of a kind from a purchase, as posp would; original is nil where the kind needs none. The amount is that of the purchase,
// which is more than an adjustment's original had when that has a lower number.
func RequestOf(req host.Request, kind txn.Kind, original *host.Request) host.Request {
	req.Kind, req.ProcCode, req.Condition, req.Try = kind, codes[kind][0], codes[kind][1], 1
	if kind == txn.ScriptResult {
		req.ICData = []byte{0xDF, 0x31, 0x05, 1, 2, 3, 4, 5}
	}
	if original != nil {
		req.Amount = original.Amount
		req.Original = &host.Original{
			Kind: original.Kind, Trace: original.Trace, RRN: original.RRN, SentAt: original.SentAt, Terminal: original.Terminal, Amount: original.Amount,
		}
	}
	return req
}

// standing is what the peer has taken and holds.
func standing(p Peer) [2]int64 { return [2]int64{p.Taken(), p.Held()} }

// prepare does everything that a request of the kind is built upon, numbered from n, and makes the request.
func prepare(t *testing.T, p Peer, kind txn.Kind, n int) host.Request {
	t.Helper()
	base, has := above[kind]
	if !has {
		return RequestOf(p.Purchase(n), kind, nil)
	}
	original := prepare(t, p, base, n+1)
	check(t, exchange(t, p.Host, original, patience), txn.Answered, "00", nil)
	req := RequestOf(p.Purchase(n), kind, &original)
	if kind == txn.Adjustment || kind == txn.TipAdjustment {
		req.Amount++
	}
	return req
}

// kinds: every kind that the peer knows is answered; its unknown outcome leaves something that its own way out of doubt repairs.
func kinds(t *testing.T, open func(t *testing.T) Peer) {
	for _, kind := range open(t).Kinds {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			p := open(t)
			for n, how := range []Behaviour{Good, Silent, Loses, WrongMAC, Hangs} {
				req := prepare(t, p, kind, 10*(n+1))
				before := standing(p)
				p.Behave(how)
				want, wait := txn.Unknown, short
				if how == Good {
					want, wait = txn.Answered, patience
				}
				check(t, exchange(t, p.Host, req, wait), want, "00", nil)
				p.Behave(Good)
				moved := standing(p) != before
				if wantMoved := kind.MovesMoney() && how != Loses; moved != wantMoved {
					t.Errorf("%s: the peer moved money: %v, want %v", how, moved, wantMoved)
				}
				if kind.Doubt() == txn.Undo {
					undone(t, p, req, before, how)
				} else {
					delivered(t, p, req, before, how)
				}
			}
		})
	}
}

// undone: the reversal brings everything back, also what was not booked.
func undone(t *testing.T, p Peer, req host.Request, before [2]int64, how Behaviour) {
	t.Helper()
	code := "00"
	if how == Loses {
		code = "25"
	}
	check(t, undoSoon(t, p.Host, req), txn.Answered, code, nil)
	if got := standing(p); got != before {
		t.Errorf("%s: after the reversal the peer has taken and holds %v, before %v", how, got, before)
	}
}

// delivered: the same message again is answered, and has been booked once; it has no reversal.
func delivered(t *testing.T, p Peer, req host.Request, before [2]int64, how Behaviour) {
	t.Helper()
	for req.Try = 2; req.Try <= 3; req.Try++ {
		check(t, soon(t, p.Host, func(int) host.Result { return exchange(t, p.Host, req, patience) }), txn.Answered, "00", nil)
	}
	after := standing(p)
	if req.Kind.MovesMoney() == (after == before) || abs(after[0]-before[0]) > req.Amount {
		t.Errorf("%s: after repeats the peer has taken and holds %v, before %v", how, after, before)
	}
	check(t, undo(t, p.Host, UndoOf(req, 1), patience), txn.NotSent, "", nil)
	if got := standing(p); got != after {
		t.Errorf("%s: something that is not reversed was: %v, before %v", how, got, after)
	}
}

func abs(n int64) int64 { return max(n, -n) }

// withoutItsOriginal: what is built upon nothing is refused, and moves nothing.
func withoutItsOriginal(t *testing.T, p Peer) {
	n := 0
	for _, kind := range p.Kinds {
		base, has := above[kind]
		if !has || kind == txn.OfflineRefund {
			continue
		}
		n += 3
		original := RequestOf(p.Purchase(n), base, nil)
		check(t, exchange(t, p.Host, RequestOf(p.Purchase(n+1), kind, &original), patience), txn.Answered, "25", nil)
		if kind.Doubt() != txn.Deliver {
			check(t, exchange(t, p.Host, RequestOf(p.Purchase(n+1), kind, nil), patience), txn.NotSent, "", nil)
			continue
		}
		// What has happened is told all the same, but for a notice, which has nothing to say without its original.
		unnamed := exchange(t, p.Host, RequestOf(p.Purchase(n+2), kind, nil), patience)
		if kind == txn.ScriptResult {
			check(t, unnamed, txn.NotSent, "", nil)
		} else if check(t, unnamed, txn.Answered, "25", nil); p.Taken() != 0 {
			t.Errorf("%s without an original was booked", kind)
		}
	}
	if n == 0 {
		return // This downstream has nothing that is built upon something else.
	}
	if got := standing(p); got != [2]int64{} {
		t.Errorf("nothing was there, and the peer has taken and holds %v", got)
	}
}

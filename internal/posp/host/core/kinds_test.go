package core_test

import (
	"strings"
	"testing"

	"github.com/keyward/keyward/internal/posp/host"
	"github.com/keyward/keyward/internal/posp/host/hosttest"
	"github.com/keyward/keyward/internal/txn"
	"github.com/keyward/keyward/sim/bank"
)

// TestKindsAsTheBankSeesThem: MTI, field 3 and kind of each, by the bank's own reading.
func TestKindsAsTheBankSeesThem(t *testing.T) {
	t.Parallel()
	b := newBank(t)
	h := newHost(t, newHSM(t), b.Addr())
	hosttest.AwaitReady(t, h)
	n := 0
	do := func(kind txn.Kind, original *host.Request, try int) host.Request {
		t.Helper()
		n++
		p := purchase(t, n)
		p.Amount = 100
		req := hosttest.RequestOf(p, kind, original)
		req.Try = try
		if got := h.Exchange(t.Context(), req); got.Outcome != txn.Answered || got.Reply.Code != "00" {
			t.Fatalf("%s: %+v", kind, got)
		}
		return req
	}
	undo := func(req host.Request, try int) {
		t.Helper()
		if got := h.Reverse(t.Context(), hosttest.UndoOf(req, try)); got.Outcome != txn.Answered || got.Reply.Code != "00" {
			t.Fatalf("reversal of %s: %+v", req.Kind, got)
		}
	}
	buy := do(txn.Purchase, nil, 1)
	void := do(txn.PurchaseVoid, &buy, 1)
	undo(void, 1)
	do(txn.Refund, &buy, 1)
	do(txn.ScriptResult, &buy, 2)
	hold := do(txn.PreAuth, nil, 1)
	undo(do(txn.PreAuthVoid, &hold, 1), 2)
	complete := do(txn.Completion, &hold, 1)
	do(txn.CompletionVoid, &complete, 1)
	do(txn.CompletionAdvice, &hold, 2)
	offline := do(txn.OfflineSettlement, nil, 1)
	do(txn.Adjustment, &offline, 1)
	do(txn.TipAdjustment, &offline, 1)
	do(txn.OfflinePurchase, nil, 2)
	do(txn.OfflineRefund, nil, 1)
	var seen []string
	for _, e := range b.History(0)[1:] {
		seen = append(seen, e.MTI+" "+e.Processing+" "+e.Kind)
	}
	want := "0200 000000 purchase, 0200 200000 purchase_void, 0400 200000 reversal, 0220 200000 refund, 0621 000000 script_result, " +
		"0100 030000 preauth, 0100 200000 preauth_void, 0401 200000 reversal, 0200 000000 completion, 0200 200000 completion_void, " +
		"0221 000000 completion_advice, 0220 000000 offline_settlement, 0220 000000 adjustment, 0220 000000 tip_adjustment, " +
		"0200 000000 offline_purchase, 0220 200000 offline_refund"
	if got := strings.Join(seen, ", "); got != want {
		t.Errorf("the bank saw %s\nwant %s", got, want)
	}
}

// TestCompletionByCode: an original that we never saw is named by its authorization code.
func TestCompletionByCode(t *testing.T) {
	t.Parallel()
	b := newBank(t)
	h := newHost(t, newHSM(t), b.Addr())
	hosttest.AwaitReady(t, h)
	held := h.Exchange(t.Context(), hosttest.RequestOf(purchase(t, 1), txn.PreAuth, nil))
	if held.Reply.Code != "00" {
		t.Fatalf("pre-authorization: %+v", held)
	}
	req := hosttest.RequestOf(purchase(t, 2), txn.Completion, nil)
	for _, test := range []struct{ auth, want string }{{"999999", "25"}, {held.Reply.AuthCode, "00"}} {
		req.AuthCode, req.RRN = test.auth, "REF000000"+test.auth[3:]
		if got := h.Exchange(t.Context(), req); got.Outcome != txn.Answered || got.Reply.Code != test.want {
			t.Errorf("code %s: %+v", test.auth, got)
		}
	}
}

// TestAdviceStaysOwed: 96 says that the bank could not work, so it ends no advice; for a purchase it is an answer.
func TestAdviceStaysOwed(t *testing.T) {
	t.Parallel()
	b := newBank(t)
	h := newHost(t, newHSM(t), b.Addr())
	hosttest.AwaitReady(t, h)
	faults(t, b, bank.Fault{Kind: bank.ForceCode, ResponseCode: "96"})
	for i, kind := range []txn.Kind{txn.OfflineSettlement, txn.OfflinePurchase} {
		if got := h.Exchange(t.Context(), hosttest.RequestOf(purchase(t, i+1), kind, nil)); got.Outcome != txn.Unknown || got.Err == nil {
			t.Errorf("%s: %+v", kind, got)
		}
	}
	if got := h.Exchange(t.Context(), hosttest.RequestOf(purchase(t, 9), txn.PreAuth, nil)); got.Outcome != txn.Answered || got.Reply.Code != "96" {
		t.Errorf("pre-authorization: %+v", got)
	}
	faults(t, b, bank.Fault{Kind: bank.ForceCode, ResponseCode: "25"})
	if got := h.Exchange(t.Context(), hosttest.RequestOf(purchase(t, 10), txn.OfflineSettlement, nil)); got.Outcome != txn.Answered || got.Reply.Code != "25" {
		t.Errorf("refused advice: %+v", got)
	}
}

// TestOriginalOfTheWrongKind: what no row of the table allows is not sent.
func TestOriginalOfTheWrongKind(t *testing.T) {
	t.Parallel()
	b := newBank(t)
	h := newHost(t, newHSM(t), b.Addr())
	hosttest.AwaitReady(t, h)
	inquiry := hosttest.RequestOf(purchase(t, 1), txn.Balance, nil)
	reversal := hosttest.RequestOf(purchase(t, 1), txn.Reversal, nil)
	for name, req := range map[string]host.Request{
		"notice of a balance inquiry": hosttest.RequestOf(purchase(t, 2), txn.ScriptResult, &inquiry),
		"notice of nothing":           hosttest.RequestOf(purchase(t, 2), txn.ScriptResult, nil),
		"void of a reversal":          hosttest.RequestOf(purchase(t, 2), txn.PurchaseVoid, &reversal),
	} {
		if got := h.Exchange(t.Context(), req); got.Outcome != txn.NotSent || got.Err == nil {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if n := len(b.History(0)); n != 1 {
		t.Errorf("the bank saw %d messages, want the sign-on only", n)
	}
}

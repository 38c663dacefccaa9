package txn_test

import (
	"testing"
	"time"

	"github.com/keyward/keyward/internal/txn"
)

func TestID(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)
	a, b := txn.NewID(now), txn.NewID(now.Add(time.Second))
	if a.String() >= b.String() {
		t.Fatal("a later id must sort after an earlier one")
	}
	back, err := txn.ParseID(a.String())
	if err != nil || back != a {
		t.Fatalf("parse %s: %v", a, err)
	}
	for _, bad := range []string{"", "0", a.String()[1:], "zz" + a.String()[2:], "0123456789012345678901234567890123456"} {
		if _, err := txn.ParseID(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestHostReferenceTellsRequestsApart(t *testing.T) {
	t.Parallel()
	base := txn.Key{Terminal: "10000001", Merchant: "104110000000001", Batch: "000001", Trace: "000001", MTI: "0200", Type: "22"}
	trace, rrn := txn.HostReference(base, "2026-11-21")
	if len(trace) != 6 || len(rrn) != 12 {
		t.Fatalf("reference %q %q", trace, rrn)
	}
	if t2, r2 := txn.HostReference(base, "2026-11-21"); t2 != trace || r2 != rrn {
		t.Fatal("the same key must give the same reference")
	}
	change := func(f func(*txn.Key)) txn.Key { k := base; f(&k); return k }
	for name, other := range map[string]txn.Key{
		"terminal": change(func(k *txn.Key) { k.Terminal = "10000002" }),
		"merchant": change(func(k *txn.Key) { k.Merchant = "104110000000002" }),
		"batch":    change(func(k *txn.Key) { k.Batch = "000002" }),
		"trace":    change(func(k *txn.Key) { k.Trace = "000002" }),
		"mti":      change(func(k *txn.Key) { k.MTI = "0100" }),
		"type":     change(func(k *txn.Key) { k.Type = "23" }),
	} {
		if _, r := txn.HostReference(other, "2026-11-21"); r == rrn {
			t.Errorf("another %s gave the same reference", name)
		}
	}
	if _, r := txn.HostReference(base, "2026-11-22"); r == rrn {
		t.Error("another day gave the same reference")
	}
}

func TestMoves(t *testing.T) {
	t.Parallel()
	for _, ok := range [][2]txn.State{
		{"", txn.Sending}, {txn.Sending, txn.Approved}, {txn.Sending, txn.InDoubt}, {txn.Approved, txn.Reversing},
		{txn.InDoubt, txn.Reversed}, {txn.Reversing, txn.Reversed}, {"", txn.Reversed},
		{"", txn.InDoubt}, {txn.Sending, txn.Forwarding}, {txn.Forwarding, txn.Approved}, {txn.Forwarding, txn.Declined}, {txn.Sending, txn.Unresolved},
	} {
		if err := ok[0].CheckMove(ok[1]); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range [][2]txn.State{
		{txn.Declined, txn.Approved}, {txn.Reversed, txn.Approved}, {txn.InDoubt, txn.Approved}, {txn.Failed, txn.Sending},
		{txn.Approved, txn.Declined}, {"nonsense", txn.Sending},
		{txn.Forwarding, txn.InDoubt}, {txn.Unresolved, txn.Approved}, {txn.Approved, txn.Unresolved},
	} {
		if bad[0].CheckMove(bad[1]) == nil {
			t.Errorf("%q to %q was allowed", bad[0], bad[1])
		}
	}
	if !(txn.Reply{Code: "00"}).Approved() || (txn.Reply{Code: "51"}).Approved() || (txn.Reply{}).Approved() {
		t.Error("Approved is wrong")
	}
}

func TestDoubt(t *testing.T) {
	t.Parallel()
	for kind, want := range map[txn.Kind]txn.Doubt{
		txn.Balance: txn.Forget, txn.Reversal: txn.Forget, "nonsense": txn.Forget,
		txn.Purchase: txn.Undo, txn.PurchaseVoid: txn.Undo, txn.PreAuth: txn.Undo, txn.PreAuthVoid: txn.Undo, txn.Completion: txn.Undo,
		txn.CompletionVoid: txn.Undo, txn.Refund: txn.Reconcile,
		txn.CompletionAdvice: txn.Deliver, txn.OfflineSettlement: txn.Deliver, txn.Adjustment: txn.Deliver, txn.TipAdjustment: txn.Deliver,
		txn.OfflinePurchase: txn.Deliver, txn.OfflineRefund: txn.Deliver, txn.ScriptResult: txn.Deliver,
	} {
		if got := kind.Doubt(); got != want {
			t.Errorf("%s: %d, want %d", kind, got, want)
		}
		if kind.Recorded() != (want != txn.Forget) || kind.MovesMoney() != (want != txn.Forget && kind != txn.ScriptResult) {
			t.Errorf("%s: recorded %v, moves money %v", kind, kind.Recorded(), kind.MovesMoney())
		}
	}
}

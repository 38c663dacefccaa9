package posp

import (
	"github.com/keyward/keyward/internal/txn"
	"github.com/keyward/keyward/iso"
	"github.com/keyward/keyward/iso/unionpay/kind"
)

// kinds are the terminal's transactions that go the way of purchase, in the words of the journal and the hosts (facts/unionpay.md §3).
var kinds = map[kind.Kind]txn.Kind{
	kind.Balance:           txn.Balance,
	kind.Purchase:          txn.Purchase,
	kind.PurchaseVoid:      txn.PurchaseVoid,
	kind.Refund:            txn.Refund,
	kind.PreAuth:           txn.PreAuth,
	kind.PreAuthVoid:       txn.PreAuthVoid,
	kind.Completion:        txn.Completion,
	kind.CompletionVoid:    txn.CompletionVoid,
	kind.CompletionAdvice:  txn.CompletionAdvice,
	kind.OfflineSettlement: txn.OfflineSettlement,
	kind.Adjustment:        txn.Adjustment,
	kind.TipAdjustment:     txn.TipAdjustment,
	kind.OfflinePurchase:   txn.OfflinePurchase,
	kind.OfflineRefund:     txn.OfflineRefund,
	kind.ScriptResult:      txn.ScriptResult,
}

// onDemand are transactions that the dialect can read and that posp is built to serve when a host asks for them: each is refused with a MAC,
// so that the terminal knows who refused it.
var onDemand = map[kind.Kind]bool{
	kind.LoadDesignated: true, kind.LoadCash: true, kind.LoadNonDesignated: true, kind.LoadCashVoid: true,
	kind.ReservationPurchase: true, kind.ReservationVoid: true, kind.PointsBalance: true,
}

// originalMTI is the type of the message that a reversal takes back. A reversal has field 3, 25 and 60.1 of its original, and the original's
// trace number (facts/unionpay.md §3).
var originalMTI = map[kind.Kind]string{
	kind.Purchase: "0200", kind.PurchaseVoid: "0200", kind.PreAuth: "0100", kind.PreAuthVoid: "0100", kind.Completion: "0200", kind.CompletionVoid: "0200",
}

// priced are the fields of a transaction about an amount.
var priced = []int{iso.ProcessingCode, iso.Amount, iso.EntryMode, iso.ConditionCode, iso.Currency}

// required lists the fields without which a message of a kind makes no sense.
var required = map[kind.Kind][]int{
	kind.Purchase:          priced,
	kind.PurchaseVoid:      priced,
	kind.Refund:            priced,
	kind.PreAuth:           priced,
	kind.PreAuthVoid:       priced,
	kind.Completion:        priced,
	kind.CompletionVoid:    priced,
	kind.CompletionAdvice:  priced,
	kind.OfflineSettlement: priced,
	kind.Adjustment:        priced,
	kind.TipAdjustment:     priced,
	kind.OfflinePurchase:   append([]int{iso.ChipData}, priced...),
	kind.OfflineRefund:     priced,
	kind.ScriptResult:      {iso.ProcessingCode, iso.EntryMode, iso.ConditionCode, iso.ChipData},
	kind.Balance:           {iso.ProcessingCode, iso.EntryMode, iso.ConditionCode},
	kind.Reversal:          {iso.ProcessingCode, iso.ResponseCode},
}

// missingField names the first field that a message lacks, 0 for none.
func missingField(m *iso.Message, row kind.Row) int {
	for _, field := range append([]int{iso.Trace, iso.Terminal, iso.Merchant, iso.Private60}, required[row.Kind]...) {
		if !m.Has(field) {
			return field
		}
	}
	return 0
}

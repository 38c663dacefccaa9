package txn

// Kind is what the terminal wants.
type Kind string

// The kinds of facts/unionpay.md §3 that reach a host. The journal stores these words.
const (
	Purchase          Kind = "purchase"
	Balance           Kind = "balance"
	PurchaseVoid      Kind = "purchase_void"
	Refund            Kind = "refund"
	PreAuth           Kind = "preauth"
	PreAuthVoid       Kind = "preauth_void"
	Completion        Kind = "completion"
	CompletionVoid    Kind = "completion_void"
	CompletionAdvice  Kind = "completion_advice"
	OfflineSettlement Kind = "offline_settlement"
	Adjustment        Kind = "adjustment"
	TipAdjustment     Kind = "tip_adjustment"
	OfflinePurchase   Kind = "offline_purchase"
	OfflineRefund     Kind = "offline_refund"
	ScriptResult      Kind = "script_result"
	Reversal          Kind = "reversal"
)

// Doubt says what is done when nobody knows whether the host did what it was asked (design.md §3, "In doubt, by type").
type Doubt int

// What is done about an unknown outcome.
const (
	Forget    Doubt = iota // nothing: a question that changed nothing
	Undo                   // one logical reversal, repeated until it is answered
	Deliver                // the same message again, until it is answered: it tells of something that has happened already
	Reconcile              // nothing by machine: it is listed for people, since neither a reversal nor a repeat is defined for it
)

// Doubt gives the rule of a kind.
func (k Kind) Doubt() Doubt {
	switch k {
	case Purchase, PurchaseVoid, PreAuth, PreAuthVoid, Completion, CompletionVoid:
		return Undo
	case CompletionAdvice, OfflineSettlement, Adjustment, TipAdjustment, OfflinePurchase, OfflineRefund, ScriptResult:
		return Deliver
	case Refund:
		return Reconcile
	default:
		return Forget
	}
}

// Recorded says that the journal has to know of a transaction, durably, before the host does.
func (k Kind) Recorded() bool { return k.Doubt() != Forget }

// MovesMoney says that the transaction books or holds an amount, which it therefore must name.
func (k Kind) MovesMoney() bool { return k.Recorded() && k != ScriptResult }

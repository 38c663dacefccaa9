// Package kind is the transaction table of the UnionPay terminal dialect as data: which message is which transaction
// (facts/unionpay.md §3). It knows every row of the sources, more than posp serves yet.
package kind

// Kind is what a request asks for.
type Kind string

// Financial requests.
const (
	Balance             Kind = "balance inquiry"
	PointsBalance       Kind = "points balance inquiry"
	Purchase            Kind = "purchase"
	PurchaseVoid        Kind = "purchase void"
	Refund              Kind = "refund"
	PreAuth             Kind = "pre-authorization"
	PreAuthVoid         Kind = "pre-authorization void"
	Completion          Kind = "completion"
	CompletionVoid      Kind = "completion void"
	CompletionAdvice    Kind = "completion advice"
	OfflineSettlement   Kind = "offline settlement"
	Adjustment          Kind = "offline adjustment"
	TipAdjustment       Kind = "tip adjustment"
	OfflinePurchase     Kind = "offline chip purchase upload"
	OfflineRefund       Kind = "offline refund"
	LoadDesignated      Kind = "e-cash load, designated account"
	LoadCash            Kind = "e-cash load, cash"
	LoadNonDesignated   Kind = "e-cash load, non-designated account"
	LoadCashVoid        Kind = "e-cash cash load void"
	ReservationPurchase Kind = "reservation purchase"
	ReservationVoid     Kind = "reservation purchase void"
	Reversal            Kind = "reversal"
	ScriptResult        Kind = "script result notice"
)

// Management requests.
const (
	SignOn            Kind = "sign-on"
	SignOff           Kind = "sign-off"
	Echo              Kind = "echo test"
	StatusUpload      Kind = "status upload"
	ParameterDownload Kind = "terminal parameter download"
	CAKeyDownload     Kind = "CA key download"
	ICDownload        Kind = "chip parameter download"
	ListDownload      Kind = "list download"
	DownloadEnd       Kind = "download end"
	MasterKeyDownload Kind = "master key download"
	Settlement        Kind = "settlement"
	BatchUpload       Kind = "batch upload"
	BatchEnd          Kind = "batch upload end"
	SignatureUpload   Kind = "signature upload"
	SettlementInquiry Kind = "settlement information inquiry"
)

// Key is what tells one request from another.
type Key struct {
	MTI        string // n4.
	Processing string // Field 3, n6.
	Condition  string // Field 25, n2.
	Type       string // Field 60.1, n2.
	Network    string // Field 60.3, n3.
}

// Row is one row of the table.
type Row struct {
	// Key is the row's pattern; an empty part fits any value.
	Key
	Kind Kind
	// Original is what a reversal undoes; empty in other rows.
	Original Kind
}

// Of finds the row of a request; false where the table has none, which is answered as not supported.
func Of(k Key) (Row, bool) {
	for _, pattern := range [...]Key{
		{MTI: k.MTI, Processing: k.Processing, Condition: k.Condition, Type: k.Type},
		{MTI: k.MTI, Type: k.Type, Network: k.Network},
		{MTI: k.MTI, Type: k.Type},
		{MTI: k.MTI, Network: k.Network},
		{Type: k.Type, Network: k.Network},
	} {
		if row, ok := index[pattern]; ok {
			return row, true
		}
	}
	return Row{}, false
}

// index finds a row by its pattern.
var index = func() map[Key]Row {
	m := make(map[Key]Row, len(Rows))
	for _, row := range Rows {
		m[row.Key] = row
	}
	return m
}()

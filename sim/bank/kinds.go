package bank

// currency is the only one this bank keeps, field 49.
const currency = "156"

// kindKey decides what a financial message is (dialect §5).
type kindKey struct {
	mti        string // Of the first try: 0220 for an 0221.
	processing string // Field 3.
	condition  string // Field 25.
	code       string // Transaction type: field 60, characters 1 and 2.
}

// action is what a transaction does to the account.
type action uint8

const (
	actTell     action = iota + 1 // Tells the balance.
	actBook                       // Takes the amount from the account.
	actVoid                       // Takes its original back in whole.
	actRefund                     // Gives back of its original, or without one.
	actHold                       // Holds the amount.
	actComplete                   // Ends the hold of its original and takes the amount.
	actAdjust                     // Takes or gives the difference to the original's new total.
	actNote                       // Is kept.
)

// kind is one row of what the bank can do; what is not here is answered 12.
type kind struct {
	name    string
	does    action
	told    bool     // It has happened already: a lack of money is no reason to refuse it.
	reverse bool     // A 0400 takes it back.
	of      []string // Names of the kinds that its original may have; nil for no original.
	lone    bool     // It does without an original too.
}

// What may be the original of what (dialect §5.9).
var (
	ofPurchase   = []string{"purchase"}
	ofPreAuth    = []string{"preauth"}
	ofCompletion = []string{"completion", "completion_advice"}
	ofSale       = []string{"purchase", "completion", "completion_advice", "offline_settlement", "offline_purchase"}
)

var kinds = map[kindKey]*kind{
	{"0200", "000000", "00", "22"}: {name: "purchase", does: actBook, reverse: true},
	{"0200", "310000", "00", "01"}: {name: "balance", does: actTell, reverse: true},
	{"0200", "200000", "00", "23"}: {name: "purchase_void", does: actVoid, reverse: true, of: ofPurchase},
	{"0220", "200000", "00", "25"}: {name: "refund", does: actRefund, of: ofSale},
	{"0100", "030000", "06", "10"}: {name: "preauth", does: actHold, reverse: true},
	{"0100", "200000", "06", "11"}: {name: "preauth_void", does: actVoid, reverse: true, of: ofPreAuth},
	{"0200", "000000", "06", "20"}: {name: "completion", does: actComplete, reverse: true, of: ofPreAuth},
	{"0200", "200000", "06", "21"}: {name: "completion_void", does: actVoid, reverse: true, of: ofCompletion},
	{"0220", "000000", "06", "24"}: {name: "completion_advice", does: actComplete, told: true, of: ofPreAuth},
	{"0220", "000000", "00", "30"}: {name: "offline_settlement", does: actBook, told: true},
	{"0220", "000000", "00", "32"}: {name: "adjustment", does: actAdjust, told: true, of: ofSale},
	{"0220", "000000", "00", "34"}: {name: "tip_adjustment", does: actAdjust, told: true, of: ofSale},
	{"0200", "000000", "00", "36"}: {name: "offline_purchase", does: actBook, told: true},
	{"0220", "200000", "00", "27"}: {name: "offline_refund", does: actRefund, told: true, of: ofSale, lone: true},
}

// notice is the script result notice, 0620, whose fields 3 and 25 and type are those of its original, whatever that is.
var notice = &kind{name: "script_result", does: actNote, told: true, of: func() []string {
	var names []string
	for _, k := range kinds {
		if k.does != actTell {
			names = append(names, k.name)
		}
	}
	return names
}()}

// tombstone is the kind of a reversal that came before its original.
var tombstone = &kind{name: "reversal"}

// kindsByName finds the kind of a record again; the state file keeps the name.
var kindsByName = func() map[string]*kind {
	m := map[string]*kind{notice.name: notice, tombstone.name: tombstone}
	for _, k := range kinds {
		m[k.name] = k
	}
	return m
}()

// kindOf is the kind of a financial message, or nil.
func kindOf(m *message) *kind {
	mti := firstTry(m.mti)
	if mti == "0620" {
		return notice
	}
	key := kindKey{mti: mti, processing: m.get(3), condition: m.get(25)}
	switch text := m.get(60); {
	case text != "":
		key.code = text[:min(2, len(text))]
	case key.processing == "310000":
		key.code = "01"
	default:
		key.code = "22" // Without a type a 0200 is a balance inquiry or a purchase.
	}
	return kinds[key]
}

// firstTry is the MTI of the first try; only advices and notices have an MTI of their own for repeats.
func firstTry(mti string) string {
	switch mti {
	case "0221":
		return "0220"
	case "0621":
		return "0620"
	}
	return mti
}

// Fields that a request must have (dialect §5).
var (
	financialRequired = []int{2, 3, 4, 7, 11, 12, 13, 22, 25, 32, 37, 41, 42, 49}
	inquiryRequired   = []int{2, 3, 7, 11, 12, 13, 22, 25, 32, 37, 41, 42, 49}
	noticeRequired    = []int{2, 3, 4, 7, 11, 12, 13, 22, 25, 32, 37, 41, 42, 49, 55, 61, 90}
	reversalRequired  = []int{2, 3, 4, 7, 11, 22, 25, 32, 37, 39, 41, 42, 49, 90}
	networkRequired   = []int{7, 11, 32, 70}
)

// required are the fields that a request of the kind must have.
func (k *kind) required() []int {
	switch k.does {
	case actTell:
		return inquiryRequired
	case actNote:
		return noticeRequired
	default:
		return financialRequired
	}
}

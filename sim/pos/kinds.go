package pos

// doubt is what a terminal does about a transaction whose end it does not know (facts/unionpay.md §3).
type doubt int

const (
	doubtNothing doubt = iota // Asks nothing more: no money, or a matter for people.
	doubtUndo                 // Notes a reversal.
	doubtDeliver              // Keeps the message and sends it again as it was.
)

// trade is one row of what a terminal does with a card (facts/unionpay.md §3).
type trade struct {
	mti        string
	processing string // F3
	condition  string // F25
	code       string // 60.1
	doubt      doubt
	of         []string // commands of what its original may be; nil for none
	ends       bool     // its original cannot be used again as long as this stands
	free       bool     // its original may be unknown to everybody
	network    string   // 60.3 where it is not 000
}

// Commands of the trades that others refer to, and of the control API.
const (
	commandPurchase     = "purchase"
	commandBalance      = "balance"
	commandPreAuth      = "preauth"
	commandComplete     = "complete"
	commandAdvice       = "advice"
	commandOffline      = "offline"
	commandOfflineChip  = "offline-chip"
	commandScriptResult = "script-result"
	commandDeliver      = "deliver"
)

// sales are what can be given back or adjusted.
var sales = []string{commandPurchase, commandComplete, commandAdvice, commandOffline, commandOfflineChip}

// trades are all of them by command.
var trades = map[string]*trade{
	commandPurchase: {mti: "0200", processing: "000000", condition: "00", code: "22", doubt: doubtUndo},
	"void":          {mti: "0200", processing: "200000", condition: "00", code: "23", doubt: doubtUndo, of: []string{commandPurchase}, ends: true},
	"refund":        {mti: "0220", processing: "200000", condition: "00", code: "25", of: sales},
	commandPreAuth:  {mti: "0100", processing: "030000", condition: "06", code: "10", doubt: doubtUndo},
	"preauth-void":  {mti: "0100", processing: "200000", condition: "06", code: "11", doubt: doubtUndo, of: []string{commandPreAuth}, ends: true},
	commandComplete: {mti: "0200", processing: "000000", condition: "06", code: "20", doubt: doubtUndo, of: []string{commandPreAuth}, ends: true},
	"complete-void": {mti: "0200", processing: "200000", condition: "06", code: "21", doubt: doubtUndo, of: []string{commandComplete, commandAdvice}, ends: true},
	commandAdvice:   {mti: "0220", processing: "000000", condition: "06", code: "24", doubt: doubtDeliver, of: []string{commandPreAuth}, ends: true},

	commandOffline:     {mti: "0220", processing: "000000", condition: "00", code: "30", doubt: doubtDeliver},
	"adjust":           {mti: "0220", processing: "000000", condition: "00", code: "32", doubt: doubtDeliver, of: sales},
	"tip":              {mti: "0220", processing: "000000", condition: "00", code: "34", doubt: doubtDeliver, of: sales},
	commandOfflineChip: {mti: "0200", processing: "000000", condition: "00", code: "36", doubt: doubtDeliver},
	"offline-refund":   {mti: "0220", processing: "200000", condition: "00", code: "27", doubt: doubtDeliver, of: sales, free: true},
	// MTI, F3, F25 and 60.1 of a script result notice are filled in from its original.
	commandScriptResult: {
		mti: "0620", network: "951", doubt: doubtDeliver,
		of: append([]string{commandPreAuth, "void", "preauth-void", "complete-void", "refund"}, sales...),
	},
	// No host that is known here loads cards: the answer is a refusal, 40 of posp.
	"load": {mti: "0200", processing: "600000", condition: "91", code: "45"},
}

// Test values of F55: an application cryptogram and issuer script results (EMV tags 9F26 and DF31).
const (
	testChipData     = "\x9F\x26\x08\x01\x23\x45\x67\x89\xAB\xCD\xEF"
	testScriptResult = "\xDF\x31\x05\x20\x00\x00\x00\x00"
)

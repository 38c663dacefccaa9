package core

import (
	"fmt"

	"github.com/keyward/keyward/internal/posp/host"
	"github.com/keyward/keyward/internal/txn"
	"github.com/keyward/keyward/iso"
	"github.com/keyward/keyward/iso/core"
)

// form is how a kind of transaction looks on this line: the row of the table in docs/dialect-core.md §5.
type form struct {
	mti        string
	processing string // Field 3.
	condition  string // Field 25.
	code       string // Field 60; "" where MTI and field 3 say it all.
	original   naming
}

// naming says whether a request names an original.
type naming int

const (
	never naming = iota
	perhaps
	always
)

var forms = map[txn.Kind]form{
	txn.Purchase:          {mti: "0200", processing: "000000", condition: "00"},
	txn.Balance:           {mti: "0200", processing: "310000", condition: "00"},
	txn.PurchaseVoid:      {"0200", "200000", "00", "23", always},
	txn.Refund:            {"0220", "200000", "00", "25", always},
	txn.PreAuth:           {"0100", "030000", "06", "10", never},
	txn.PreAuthVoid:       {"0100", "200000", "06", "11", always},
	txn.Completion:        {"0200", "000000", "06", "20", always},
	txn.CompletionVoid:    {"0200", "200000", "06", "21", always},
	txn.CompletionAdvice:  {"0220", "000000", "06", "24", always},
	txn.OfflineSettlement: {"0220", "000000", "00", "30", never},
	txn.Adjustment:        {"0220", "000000", "00", "32", always},
	txn.TipAdjustment:     {"0220", "000000", "00", "34", always},
	txn.OfflinePurchase:   {"0200", "000000", "00", "36", never},
	txn.OfflineRefund:     {"0220", "200000", "00", "27", perhaps},
}

// formOf finds the form of a request. That of a script result notice has the fields of its original.
func formOf(req host.Request) (form, error) {
	if req.Kind != txn.ScriptResult {
		f, ok := forms[req.Kind]
		if !ok {
			return form{}, fmt.Errorf("a transaction of kind %q cannot be sent to the core bank", req.Kind)
		}
		return f, nil
	}
	if req.Original == nil {
		return form{}, fmt.Errorf("a transaction of kind %q names no original", req.Kind)
	}
	f, ok := forms[req.Original.Kind]
	if !ok || req.Original.Kind == txn.Balance {
		return form{}, fmt.Errorf("a transaction of kind %q cannot be the original of a %q", req.Original.Kind, req.Kind)
	}
	f.mti, f.original = "0620", always
	return f, nil
}

// mtiOf is the MTI of a try. Advices and notices have one of their own for repeats; what else is sent again is sent as it was.
func (f form) mtiOf(try int) string {
	if try > 1 && (f.mti == "0220" || f.mti == "0620") {
		return f.mti[:3] + "1"
	}
	return f.mti
}

// amountOf is field 4: absent in a balance inquiry, that of the original in a script result notice.
func amountOf(req host.Request) (string, error) {
	switch req.Kind {
	case txn.Balance:
		return "", nil
	case txn.ScriptResult:
		return iso.FormatAmount(req.Original.Amount)
	default:
		return iso.FormatAmount(req.Amount)
	}
}

// name writes how a request calls its original: fields 61 and 90 where we know it, and the authorization code (docs/dialect-core.md §5.8).
func (h *Host) name(m *iso.Message, f form, req host.Request) error {
	o := req.Original
	if o == nil || f.original == never {
		setIf(m, iso.AuthCode, req.AuthCode)
		if f.original == always && req.AuthCode == "" && req.Kind.Doubt() != txn.Deliver { // What has happened is told all the same.
			return fmt.Errorf("a transaction of kind %q names no original: neither its references nor its authorization code are known", req.Kind)
		}
		return nil
	}
	of, ok := forms[o.Kind]
	if !ok {
		return fmt.Errorf("a transaction of kind %q cannot be the original of a %q", o.Kind, req.Kind)
	}
	data, err := core.Original{
		MTI: of.mti, Trace: o.Trace, Transmission: o.SentAt.UTC().Format(layoutTransmission), Acquirer: h.cfg.AcquirerID,
	}.Encode()
	if err != nil {
		return err
	}
	setIf(m, iso.AuthCode, orElse(req.AuthCode, o.AuthCode))
	m.Set(iso.OriginalMessage, o.RRN)
	m.Set(iso.OriginalData, data)
	return nil
}

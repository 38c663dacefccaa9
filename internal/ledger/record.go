// Package ledger is posp's part of the database: the transaction journal, the duplicate keys, what is still open, and the
// reversals that are owed. The journal is append-only; the other tables are projections of it, written in the same commit.
//
// Everything enters as a Record that was written to the local spool first (design.md §4), so Write is idempotent: the same
// record may arrive again after a crash, and changes nothing the second time.
package ledger

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/keyward/keyward/internal/txn"
)

// Event is what a record tells.
type Event string

// The events. The database checks the same words.
const (
	Sending        Event = "sending"         // the request is about to leave for the host
	Outcome        Event = "outcome"         // what became of it; an unknown outcome owes a reversal from this record on
	Answered       Event = "answered"        // the answer is about to be handed to the terminal's socket
	ReversalQueued Event = "reversal_queued" // a reversal is owed
	ReversalSent   Event = "reversal_sent"   // a try was made and not answered
	ReversalDone   Event = "reversal_done"   // the host answered the reversal
	Repeated       Event = "repeated"        // an advice went out again and was not answered
	Delivered      Event = "delivered"       // the host answered the advice that was owed
	Note           Event = "note"            // something a person should know; changes no money
)

// Record is one line of the journal. Seq counts the lines of one transaction from 1. Empty fields are stored as NULL.
type Record struct {
	Txn      txn.ID    `json:"t"`
	Seq      int       `json:"n"`
	Event    Event     `json:"e"`
	At       time.Time `json:"at"`
	Date     string    `json:"d"` // business date, YYYY-MM-DD
	Instance string    `json:"i"`
	State    txn.State `json:"s"`
	Began    time.Time `json:"b"` // when the request was received; the host knows the transaction by it

	Key       txn.Key  `json:"k"`
	Kind      txn.Kind `json:"kd"`
	ProcCode  string   `json:"pc,omitempty"`
	Amount    int64    `json:"am"`
	Currency  string   `json:"cu,omitempty"`
	PANMasked string   `json:"pm,omitempty"`
	PANDigest []byte   `json:"pd,omitempty"` // keyed digest, for search without the number
	Content   []byte   `json:"c,omitempty"`  // digest of the request, for the duplicate check

	Host      string      `json:"h,omitempty"`
	HostTrace string      `json:"ht,omitempty"`
	RRN       string      `json:"rr,omitempty"`
	Outcome   txn.Outcome `json:"o,omitempty"`
	Reply     *txn.Reply  `json:"r,omitempty"` // without the balance, which is nobody's business later
	Cause     string      `json:"ca,omitempty"`
	Sealed    []byte      `json:"x,omitempty"` // what a reversal needs, sealed; never in the journal table itself
	Tries     int         `json:"tr,omitempty"`
	NextTry   time.Time   `json:"nt,omitzero"`
	Text      string      `json:"tx,omitempty"`
	// Original is the earlier transaction of which this one uses something (Store.Use), or speaks; zero for none.
	Original txn.ID `json:"og,omitzero"`
}

// Encode gives the form in which a record lies in the spool.
func (r *Record) Encode() ([]byte, error) {
	b, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode journal record of %s: %w", r.Txn, err)
	}
	return b, nil
}

// Decode is the inverse of Encode.
func Decode(b []byte) (*Record, error) {
	var r Record
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, fmt.Errorf("decode journal record: %w", err)
	}
	if r.Seq < 1 || r.Event == "" || r.Date == "" {
		return nil, fmt.Errorf("decode journal record of %s: sequence, event or date is missing", r.Txn)
	}
	return &r, nil
}

// detail is what goes into the jsonb column: facts that people look at and nothing searches by.
func (r *Record) detail() []byte {
	d := map[string]any{"began": r.Began}
	if r.Reply != nil {
		d["settlement_date"] = r.Reply.SettlementDate
		d["acquirer"] = r.Reply.AcquirerID
		d["institutions"] = r.Reply.Institutions
		d["host_time"] = r.Reply.HostTime
	}
	if r.Cause != "" {
		d["cause"] = r.Cause
	}
	if r.Text != "" {
		d["text"] = r.Text
	}
	if r.Tries > 0 {
		d["tries"] = r.Tries
	}
	if r.Original != (txn.ID{}) {
		d["original"] = r.Original.String()
	}
	b, err := json.Marshal(d)
	if err != nil {
		return nil // a map of strings, numbers and times always encodes
	}
	return b
}

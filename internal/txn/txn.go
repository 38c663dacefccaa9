// Package txn holds the words of a transaction, independent of every message dialect: what a terminal asks, what a host
// answers, how sure we are of it, and the states that a transaction passes through. It is a data package: dialects map to
// it, flows act on it, journals store it.
package txn

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/keyward/keyward/keys/secret"
)

// ID identifies one transaction through journal, reversals and logs: 16 bytes, a UUID of version 7 (RFC 9562), so that
// newer ones sort after older ones.
type ID [16]byte

// NewID makes an ID for a transaction that begins at now.
func NewID(now time.Time) ID {
	var id ID
	_, _ = rand.Read(id[6:]) // never fails since Go 1.24: the runtime stops the program instead
	ms := now.UnixMilli()
	for i := range 6 {
		id[i] = byte(ms >> (8 * (5 - i)))
	}
	id[6] = id[6]&0x0f | 0x70
	id[8] = id[8]&0x3f | 0x80
	return id
}

// ParseID reads the 8-4-4-4-12 form.
func ParseID(s string) (ID, error) {
	var id ID
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return id, fmt.Errorf("transaction id %q is not a UUID", s)
	}
	b, err := hex.DecodeString(s[:8] + s[9:13] + s[14:18] + s[19:23] + s[24:])
	if err != nil {
		return id, fmt.Errorf("transaction id %q is not a UUID", s)
	}
	copy(id[:], b)
	return id, nil
}

// String gives the 8-4-4-4-12 form.
func (id ID) String() string {
	h := hex.EncodeToString(id[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// The causes of a reversal, as field 39 of a 0400 carries them (facts/unionpay.md §3).
const (
	CauseNoAnswer = "98" // no answer in time
	CauseNotDone  = "96" // approved, but could not be finished
	CauseBadMAC   = "A0" // the MAC of the answer was wrong
	CauseOther    = "06"
)

// Key is what makes two messages the same request (design.md §3, "Duplicate key"). All parts are as the terminal sent them.
type Key struct {
	Terminal string // field 41, 8 characters
	Merchant string // field 42, 15 characters
	Batch    string // field 60.2, 6 digits
	Trace    string // field 11, 6 digits
	MTI      string // 4 digits
	Type     string // field 60.1, 2 digits
}

// Request is a transaction as the terminal asked for it. PIN block and track are still enciphered under the terminal's keys
// until the HSM has translated them.
type Request struct {
	ID         ID
	Kind       Kind
	Key        Key
	ReceivedAt time.Time
	ProcCode   string // field 3
	Amount     int64  // in fen; 0 for a balance inquiry
	Currency   string // field 49
	PAN        secret.PAN
	Expiry     string // YYMM
	EntryMode  string // field 22
	CardSeq    string // field 23
	Condition  string // field 25
	PINLength  string // field 26
	Track2     secret.Track
	Track3     secret.Track
	ICData     []byte // field 55
	PINBlock   secret.PINBlock
	// Content is a digest over the message without fields 52 and 64: a repeat has the same, another request under the
	// same Key has another.
	Content  [32]byte
	AuthCode string // field 38: of the original, or got by voice for an offline transaction; "" for none
	// OriginalRRN (field 37) and Original (field 61) name an earlier transaction as far as the terminal does.
	OriginalRRN string
	Original    Reference
}

// Reference is how a terminal names an earlier transaction: field 61 (facts/unionpay.md §2). Each part may be missing.
type Reference struct {
	Batch string // 61.1, 6 digits
	Trace string // 61.2, 6 digits
	Date  string // 61.3, MMDD
}

// Reply is what the terminal is told. Texts are as field 39, 38 … carry them; "" means that the field is absent.
type Reply struct {
	Code           string // field 39
	AuthCode       string // field 38
	SettlementDate string // field 15, MMDD
	AcquirerID     string // field 32
	RRN            string // field 37
	Institutions   string // field 44
	Balance        string // field 54
	HostTime       time.Time
}

// Approved says that the host booked the transaction (facts/unionpay.md §7: 00, 10 partial, 11, A2, A4, A5, A6).
func (r Reply) Approved() bool {
	switch r.Code {
	case "00", "10", "11", "A2", "A4", "A5", "A6":
		return true
	}
	return false
}

package bank

import (
	"fmt"
	"sync"
	"time"
)

const (
	// maxRecords bounds the book; the oldest record is forgotten first. It is a day's work of a busy test, and 100,000
	// records make a state file of about 40 MB. A reversal of a forgotten original is answered 25.
	maxRecords = 100_000

	// maxAmount is the largest value of field 4.
	maxAmount = 999_999_999_999
)

// Response codes of the dialect, §6.
const (
	codeApproved    = "00"
	codeUnsupported = "12"
	codeUnknownCard = "14"
	codeNotFound    = "25"
	codeFormat      = "30"
	codeNoMoney     = "51"
	codeWrongPIN    = "55"
	codeOtherAmount = "64"
	codePINTries    = "75"
	codeDuplicate   = "94"
	codeSystem      = "96"
)

// States of a record.
const (
	stateBooked    = "booked"    // Approved, money moved.
	stateHeld      = "held"      // A pre-authorization in force.
	stateCompleted = "completed" // A pre-authorization that has had its completion.
	stateVoided    = "voided"    // Taken back by a void, which has a record of its own.
	stateReversed  = "reversed"  // Undone by a reversal: it moves and holds nothing.
	stateDeclined  = "declined"  // Refused, no money moved.
	stateInquiry   = "inquiry"   // Approved, moves no money.
	stateNoted     = "noted"     // A script result notice.
	stateTombstone = "tombstone" // The reversal came first; the original will never be booked.
)

// txKey is the duplicate key of the dialect, §5.5.
type txKey struct {
	acquirer [11]byte // Field 32, right-aligned with leading zeros.
	rrn      [12]byte // Field 37.
	terminal [8]byte  // Field 41.
	trace    [6]byte  // Field 11.
}

// record is one transaction as the bank remembers it. What an answer needs is stored, so that a repeat gets the same one.
type record struct {
	key      txKey
	mti      string // Of the first try.
	kind     *kind
	content  [16]byte // Keyed digest of fields 2, 3 and 4.
	naming   string   // How the request named its original, see request.naming.
	account  *account // Nil for an unknown card or a tombstone.
	masked   string
	merchant string
	amount   int64 // Field 4.
	state    string
	code     string
	auth     string // Field 38 of an approval.
	settled  string // Field 15, MMDD.
	balance  string // Field 54, inquiries.
	at       time.Time

	total    int64     // What a sale amounts to now: the amount as last adjusted.
	moved    int64     // What it takes from the account now; negative: what it gives.
	held     int64     // What it holds of the account now.
	refunded int64     // Given back of it by refunds.
	original *record   // What it is built upon; nil for none.
	built    []*record // Approved ones that are built upon this one, oldest first.
}

// book holds accounts and records. One lock: a decision and its record are one step, so the same message on two connections is
// booked once.
type book struct {
	mu       sync.Mutex
	accounts map[string]*account // By PAN. The map itself never changes.
	order    []*account          // As configured.
	former   []*account          // Known from the state file only: not configured any more, kept for their records.
	digest   digestKey
	records  map[txKey]*record
	byName   map[naming]*record // The newest record under each name that an original can be called by.
	ring     []*record          // Oldest first, starting at head.
	head     int
	authSeq  int
	totals   Totals
}

func newBook(accounts []Account, key digestKey) (*book, error) {
	b := &book{accounts: map[string]*account{}, digest: key, records: map[txKey]*record{}, byName: map[naming]*record{}}
	for _, a := range accounts {
		if b.accounts[a.PAN] != nil {
			return nil, fmt.Errorf("%s is configured twice", a)
		}
		acc, err := newAccount(a, key)
		if err != nil {
			return nil, err
		}
		b.accounts[a.PAN] = acc
		b.order = append(b.order, acc)
	}
	return b, nil
}

func (b *book) reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, a := range b.order {
		a.balance, a.held, a.wrongPINs = a.opening, 0, 0
	}
	b.former = nil
	b.records, b.byName, b.ring, b.head, b.totals = map[txKey]*record{}, map[naming]*record{}, nil, 0, Totals{}
}

// remember files a new record and forgets the oldest when the book is full.
func (b *book) remember(r *record) {
	b.records[r.key] = r
	for _, name := range r.names() {
		b.byName[name] = r
	}
	if len(b.ring) < maxRecords {
		b.ring = append(b.ring, r)
		return
	}
	old := b.ring[b.head]
	delete(b.records, old.key)
	for _, name := range old.names() {
		if b.byName[name] == old {
			delete(b.byName, name)
		}
	}
	b.totals.Forgotten++
	b.ring[b.head] = r
	b.head = (b.head + 1) % len(b.ring)
}

// oldestFirst lists the records. The caller holds the lock.
func (b *book) oldestFirst() []*record {
	out := make([]*record, 0, len(b.ring))
	return append(append(out, b.ring[b.head:]...), b.ring[:b.head]...)
}

// set changes what a record takes and holds, and the account and the totals with it.
func (b *book) set(r *record, moved, held int64) {
	r.account.balance -= moved - r.moved
	r.account.held += held - r.held
	r.moved, r.held = moved, held
}

// settlementDate is field 15: the calendar day, this bank has no earlier cut-off.
func settlementDate(now time.Time) string { return now.Format("0102") }

// balanceField is one block of field 54: account type 00, amount type 02 (available), currency, sign, amount.
func balanceField(available int64) string {
	sign := "C"
	if available < 0 {
		sign, available = "D", -available
	}
	return "0002" + currency + sign + fmt.Sprintf("%012d", min(available, maxAmount))
}

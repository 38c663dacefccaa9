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
	codePINTries    = "75"
	codeDuplicate   = "94"
	codeSystem      = "96"
)

// States of a record.
const (
	stateBooked    = "booked"    // Approved, money moved.
	stateReversed  = "reversed"  // Was booked and has been booked back.
	stateDeclined  = "declined"  // Refused, no money moved.
	stateInquiry   = "inquiry"   // Approved, moves no money.
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
	key     txKey
	mti     string   // The original's.
	kind    string   // Name from the table of kinds.
	content [16]byte // Keyed digest of fields 2, 3 and 4.
	account *account // Nil for an unknown card or a tombstone.
	masked  string
	amount  int64
	state   string
	code    string
	auth    string // Field 38, approved purchases.
	settled string // Field 15, MMDD.
	balance string // Field 54, inquiries.
	at      time.Time
}

// request is what a financial message asks of the book.
type request struct {
	key     txKey
	mti     string
	kind    *kind
	content [16]byte
	account *account
	masked  string
	pin     pinVerdict
	amount  int64
	forced  string // A fault's response code: decline with it.
	now     time.Time
}

// outcome is what the book has to say to a message.
type outcome struct {
	code, auth, settled, balance string
	duplicate                    bool // Answered from memory.
	moved                        bool // This very message moved money.
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
	ring     []*record // Oldest first, starting at head.
	head     int
	authSeq  int
	totals   Totals
}

func newBook(accounts []Account, key digestKey) (*book, error) {
	b := &book{accounts: map[string]*account{}, digest: key, records: map[txKey]*record{}}
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
		a.balance, a.wrongPINs = a.opening, 0
	}
	b.former = nil
	b.records, b.ring, b.head, b.totals = map[txKey]*record{}, nil, 0, Totals{}
}

// transact answers a financial request: from memory when it is known, else by a decision that is remembered.
func (b *book) transact(req request) outcome {
	b.mu.Lock()
	defer b.mu.Unlock()
	if old := b.records[req.key]; old != nil {
		b.totals.Duplicates++
		if old.state == stateTombstone || old.content != req.content || old.mti != req.mti {
			return outcome{code: codeDuplicate, settled: settlementDate(req.now), duplicate: true}
		}
		return outcome{code: old.code, auth: old.auth, settled: old.settled, balance: old.balance, duplicate: true}
	}
	r := &record{
		key: req.key, mti: req.mti, kind: req.kind.name, content: req.content, account: req.account,
		masked: req.masked, amount: req.amount, settled: settlementDate(req.now), at: req.now,
	}
	r.code = b.decide(req)
	switch {
	case r.code != codeApproved:
		r.state = stateDeclined
		b.totals.Declined++
	case req.kind.debit == 0:
		r.state = stateInquiry
		r.balance = balanceField(req.account.balance)
	default:
		r.state = stateBooked
		req.account.balance -= req.kind.debit * r.amount
		b.totals.Booked++
		b.totals.BookedAmount += req.kind.debit * r.amount
		b.authSeq = b.authSeq%999_999 + 1
		r.auth = fmt.Sprintf("%06d", b.authSeq)
	}
	b.remember(r)
	return outcome{code: r.code, auth: r.auth, settled: r.settled, balance: r.balance, moved: r.state == stateBooked}
}

// decide is the order of the bank's checks: card, PIN, money.
func (b *book) decide(req request) string {
	if req.forced != "" {
		return req.forced
	}
	if req.account == nil {
		return codeUnknownCard
	}
	if code := req.account.acceptPIN(req.pin); code != "" {
		return code
	}
	if req.kind.debit*req.amount > req.account.balance {
		return codeNoMoney
	}
	return codeApproved
}

// reverse answers a 0400 or 0401. mti is the original's, from field 90.
func (b *book) reverse(req request) outcome {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := outcome{settled: settlementDate(req.now)}
	old := b.records[req.key]
	switch {
	case old == nil:
		out.code = codeNotFound
		b.totals.Tombstones++
		b.remember(&record{
			key: req.key, mti: req.mti, kind: "reversal", content: req.content, masked: req.masked, amount: req.amount,
			state: stateTombstone, code: codeNotFound, settled: out.settled, at: req.now,
		})
	case old.content != req.content || old.mti != req.mti:
		// The key fits and the content does not: one of the two messages is wrong, and moving money on a guess is worse
		// than a reversal that stays open and is looked at.
		out.code = codeFormat
	case old.state == stateTombstone:
		out.code, out.duplicate = codeNotFound, true
	case old.state == stateBooked:
		back := old.amount * kindDebit(old.kind)
		old.account.balance += back
		old.state = stateReversed
		b.totals.Reversed++
		b.totals.ReversedAmount += back
		out.code, out.moved = codeApproved, true
	default:
		out.code, out.duplicate = codeApproved, old.state == stateReversed
	}
	return out
}

// remember files a new record and forgets the oldest when the book is full.
func (b *book) remember(r *record) {
	b.records[r.key] = r
	if len(b.ring) < maxRecords {
		b.ring = append(b.ring, r)
		return
	}
	delete(b.records, b.ring[b.head].key)
	b.totals.Forgotten++
	b.ring[b.head] = r
	b.head = (b.head + 1) % len(b.ring)
}

// oldestFirst lists the records. The caller holds the lock.
func (b *book) oldestFirst() []*record {
	out := make([]*record, 0, len(b.ring))
	return append(append(out, b.ring[b.head:]...), b.ring[:b.head]...)
}

// settlementDate is field 15: the calendar day, this bank has no earlier cut-off.
func settlementDate(now time.Time) string { return now.Format("0102") }

// balanceField is one block of field 54: account type 00, amount type 02 (available), currency, sign, amount.
func balanceField(balance int64) string {
	return "0002" + currency + "C" + fmt.Sprintf("%012d", balance)
}

package bank

import "time"

// Book is a copy of the bank's book at one moment: what every account has and what happened to every transaction.
type Book struct {
	Balances []Balance `json:"balances"` // As configured.
	Bookings []Booking `json:"bookings"` // Oldest first; the oldest are forgotten when there are too many, see Totals.
	Totals   Totals    `json:"totals"`
}

// Balance is the money of one account.
type Balance struct {
	PAN       string `json:"pan"`     // Masked: first six and last four digits.
	Opening   int64  `json:"opening"` // As configured, smallest unit.
	Balance   int64  `json:"balance"` // Now, smallest unit; what is held is in it.
	Held      int64  `json:"held"`    // Of the balance, by pre-authorizations in force; the rest is available.
	WrongPINs int    `json:"wrong_pins"`
}

// Booking is one transaction, found by Terminal, Trace and RRN. Over all bookings, Moved adds up to what has left the accounts and Held to what
// they hold, as long as nothing is forgotten.
type Booking struct {
	Time         time.Time `json:"time"`
	Terminal     string    `json:"terminal"` // Field 41.
	Trace        string    `json:"trace"`    // Field 11.
	RRN          string    `json:"rrn"`      // Field 37.
	Acquirer     string    `json:"acquirer"` // Field 32, 11 digits with leading zeros.
	MTI          string    `json:"mti"`      // Of the original, also for a tombstone.
	Kind         string    `json:"kind"`     // Such as purchase, refund, preauth (docs/bank-sim.md §1); reversal for a tombstone.
	PAN          string    `json:"pan"`      // Masked.
	Amount       int64     `json:"amount"`   // Field 4, smallest unit; 0 for an inquiry.
	State        string    `json:"state"`    // docs/bank-sim.md §3.
	ResponseCode string    `json:"response_code"`
	AuthCode     string    `json:"auth_code,omitempty"`
	Moved        int64     `json:"moved"`                  // What it takes from the account now; negative: what it gives.
	Held         int64     `json:"held,omitempty"`         // What it holds of the account now.
	Refunded     int64     `json:"refunded,omitempty"`     // Given back of it by refunds, which have bookings of their own.
	OriginalRRN  string    `json:"original_rrn,omitempty"` // Of the transaction that it is built upon.
}

// Totals count since the last reset. The opening balances less the balances are BookedAmount less ReversedAmount at any
// moment.
type Totals struct {
	Booked         int   `json:"booked"`          // Transactions that moved or held money, later reversed ones included.
	BookedAmount   int64 `json:"booked_amount"`   // What they took less what they gave, smallest unit.
	Reversed       int   `json:"reversed"`        // Of these, undone by reversals.
	ReversedAmount int64 `json:"reversed_amount"` // What these took less what they gave, smallest unit.
	Declined       int   `json:"declined"`
	Duplicates     int   `json:"duplicates"` // Requests answered from memory or with 94.
	Tombstones     int   `json:"tombstones"` // Reversals that came before their original.
	Forgotten      int   `json:"forgotten"`  // Records dropped because the book was full.
}

// Book copies the book.
func (b *Bank) Book() Book { return b.book.view() }

func (b *book) view() Book {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := Book{Balances: []Balance{}, Bookings: []Booking{}, Totals: b.totals}
	for _, a := range b.order {
		out.Balances = append(out.Balances, Balance{
			PAN: a.masked, Opening: a.opening, Balance: a.balance, Held: a.held, WrongPINs: a.wrongPINs,
		})
	}
	for _, r := range b.oldestFirst() {
		booking := Booking{
			Time: r.at, Terminal: string(r.key.terminal[:]), Trace: string(r.key.trace[:]), RRN: string(r.key.rrn[:]),
			Acquirer: string(r.key.acquirer[:]), MTI: r.mti, Kind: r.kind.name, PAN: r.masked, Amount: r.amount,
			State: r.state, ResponseCode: r.code, AuthCode: r.auth, Moved: r.moved, Held: r.held, Refunded: r.refunded,
		}
		if r.original != nil {
			booking.OriginalRRN = string(r.original.key.rrn[:])
		}
		out.Bookings = append(out.Bookings, booking)
	}
	return out
}

// sum copies the totals alone.
func (b *book) sum() Totals {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.totals
}

// Package posptest says whether three sides agree about money after something went wrong: the terminals, posp's journal and the bank's book.
// Fault campaigns and the kill walk use it. For tests only.
package posptest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/keyward/keyward/sim/bank"
)

// View is what a terminal believes of one transaction after it has settled what it was in doubt about.
type View struct {
	Terminal string // field 41
	Trace    string // field 11
	// Kept says that the terminal holds an approval that it has not taken back: the customer went away with the goods.
	Kept bool
}

// transaction is the last state of one transaction in the journal.
type transaction struct {
	Terminal, Trace, HostTrace, RRN, Kind, State string
	Amount                                       int64
	Answered                                     bool
}

func (t transaction) String() string {
	return fmt.Sprintf("%s of terminal %s trace %s (%s, answered %v)", t.Kind, t.Terminal, t.Trace, t.State, t.Answered)
}

// told are the kinds that tell of something that has happened: they are forwarded until the bank answers, whatever the terminal has heard.
var told = map[string]bool{
	"completion_advice": true, "offline_settlement": true, "adjustment": true, "tip_adjustment": true, "offline_purchase": true, "offline_refund": true,
	"script_result": true,
}

// final says that nothing is owed any more: "answer handed to the socket", refused, reversed, or left to people.
func (t transaction) final() bool {
	switch t.State {
	case "approved":
		return t.Answered || told[t.Kind]
	case "declined", "failed", "reversed", "unresolved":
		return true
	}
	return false
}

// stands says that a booking is in force at the bank, or was until a later transaction ended it by right.
func stands(b bank.Booking) bool {
	switch b.State {
	case "booked", "held", "completed", "voided", "noted":
		return true
	}
	return false
}

const journalSQL = `
SELECT k.terminal_id, k.trace, coalesce(l.host_trace, ''), coalesce(l.rrn, ''), l.kind, coalesce(l.state, ''), coalesce(l.amount, 0),
       EXISTS (SELECT FROM transactions a WHERE a.txn_id = k.txn_id AND a.business_date = k.business_date AND a.event = 'answered')
  FROM transaction_keys k
  JOIN LATERAL (SELECT * FROM transactions t WHERE t.txn_id = k.txn_id AND t.business_date = k.business_date ORDER BY seq DESC LIMIT 1) l ON true
 WHERE l.kind NOT IN ('balance', 'reversal') ORDER BY k.created_at`

func journal(ctx context.Context, pool *pgxpool.Pool) ([]transaction, error) {
	rows, err := pool.Query(ctx, journalSQL)
	if err != nil {
		return nil, fmt.Errorf("read the journal: %w", err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (t transaction, err error) {
		err = row.Scan(&t.Terminal, &t.Trace, &t.HostTrace, &t.RRN, &t.Kind, &t.State, &t.Amount, &t.Answered)
		return t, err
	})
}

// Open lists the transactions in the journal that have come to no end yet, for people. The pool needs to read the journal.
func Open(ctx context.Context, pool *pgxpool.Pool) (open []string, err error) {
	all, err := journal(ctx, pool)
	for _, t := range all {
		if !t.final() {
			open = append(open, t.String())
		}
	}
	return open, err
}

// pollEvery is how often Await looks; there is no signal for agreement.
const pollEvery = 10 * time.Millisecond

// Await asks Check until all sides agree or ctx ends, and then gives the last contradictions. With journal.ack "local" the database follows
// what is durable already, so a single look may come too early.
func Await(ctx context.Context, pool *pgxpool.Pool, book func() bank.Book, views []View) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	var last error
	for {
		err := Check(context.WithoutCancel(ctx), pool, book, views)
		if err == nil {
			return nil
		}
		last = err
		select {
		case <-ctx.Done():
			return last
		case <-tick.C:
		}
	}
}

// Check holds the terminals' views, the journal and the bank's book against each other and names every contradiction. It is asked when
// Open lists nothing: a journal that is not at its end is a contradiction too.
func Check(ctx context.Context, pool *pgxpool.Pool, book func() bank.Book, views []View) error {
	all, err := journal(ctx, pool)
	if err != nil {
		return err
	}
	return compare(all, book(), views)
}

func compare(journal []transaction, book bank.Book, views []View) error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }

	booked, byRRN := map[string]bank.Booking{}, map[string]bank.Booking{}
	for _, b := range book.Bookings {
		booked[b.Terminal+b.Trace+b.RRN], byRRN[b.RRN] = b, b
	}
	ours, byTerminal := map[string]bool{}, map[string]transaction{}
	for _, t := range journal {
		key := t.Terminal + t.HostTrace + t.RRN
		ours[key], byTerminal[t.Terminal+t.Trace] = true, t
		b, known := booked[key]
		switch {
		case !t.final():
			wrong("%s has come to no end", t)
		case t.State == "unresolved":
			// Nobody knows, and the bank's book is what people will look at.
		case t.State == "approved" && b.State == "reversed" && byRRN[b.OriginalRRN].State == "reversed":
			// The reversal of what it was built upon has taken it along.
		case t.State == "approved" && (!known || !stands(b) || b.Kind != t.Kind || b.Amount != t.Amount && t.Kind != "script_result"):
			wrong("%s is approved, the bank has %s %q of %d", t, b.Kind, b.State, b.Amount)
		case t.State != "approved" && known && stands(b):
			wrong("%s is not approved, the bank has booked it", t)
		}
	}
	moved, holds := int64(0), int64(0)
	for _, b := range book.Bookings {
		moved += b.Moved
		holds += b.Held
		if b.Kind != "balance" && b.Kind != "reversal" && !ours[b.Terminal+b.Trace+b.RRN] {
			wrong("the bank has a %s of terminal %s, reference %s (%s), that the journal does not know", b.Kind, b.Terminal, b.RRN, b.State)
		}
	}
	gone, held := int64(0), int64(0)
	for _, b := range book.Balances {
		gone += b.Opening - b.Balance
		held += b.Held
	}
	if gone != moved && book.Totals.Forgotten == 0 {
		wrong("%d have left the accounts, the bookings say %d", gone, moved)
	}
	if held != holds && book.Totals.Forgotten == 0 {
		wrong("the accounts hold %d, the bookings say %d", held, holds)
	}
	for _, v := range views {
		t, known := byTerminal[v.Terminal+v.Trace]
		switch {
		case v.Kept && (!known || t.State != "approved"):
			wrong("terminal %s trace %s keeps an approval, the journal says %q", v.Terminal, v.Trace, t.State)
		case !v.Kept && known && t.State == "approved":
			wrong("terminal %s trace %s keeps no approval, the journal has one", v.Terminal, v.Trace)
		}
	}
	return errors.Join(errs...)
}

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

// View is what a terminal believes of one purchase after it has settled what it was in doubt about.
type View struct {
	Terminal string // field 41
	Trace    string // field 11
	// Kept says that the terminal holds an approval that it has not taken back: the customer went away with the goods.
	Kept bool
}

// transaction is the last state of one purchase in the journal.
type transaction struct {
	Terminal, Trace, HostTrace, RRN, State string
	Amount                                 int64
	Answered                               bool
}

func (t transaction) String() string {
	return fmt.Sprintf("terminal %s trace %s (%s, answered %v)", t.Terminal, t.Trace, t.State, t.Answered)
}

// final says that nothing is owed any more: "answer handed to the socket", refused, or reversed.
func (t transaction) final() bool {
	switch t.State {
	case "approved":
		return t.Answered
	case "declined", "failed", "reversed":
		return true
	}
	return false
}

const journalSQL = `
SELECT k.terminal_id, k.trace, coalesce(l.host_trace, ''), coalesce(l.rrn, ''), coalesce(l.state, ''), coalesce(l.amount, 0),
       EXISTS (SELECT FROM transactions a WHERE a.txn_id = k.txn_id AND a.business_date = k.business_date AND a.event = 'answered')
  FROM transaction_keys k
  JOIN LATERAL (SELECT * FROM transactions t WHERE t.txn_id = k.txn_id AND t.business_date = k.business_date ORDER BY seq DESC LIMIT 1) l ON true
 WHERE l.kind = 'purchase' ORDER BY k.created_at`

func journal(ctx context.Context, pool *pgxpool.Pool) ([]transaction, error) {
	rows, err := pool.Query(ctx, journalSQL)
	if err != nil {
		return nil, fmt.Errorf("read the journal: %w", err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (t transaction, err error) {
		err = row.Scan(&t.Terminal, &t.Trace, &t.HostTrace, &t.RRN, &t.State, &t.Amount, &t.Answered)
		return t, err
	})
}

// Open lists the purchases in the journal that have come to no end yet, for people. The pool needs to read the journal.
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

	booked := map[string]bank.Booking{}
	for _, b := range book.Bookings {
		booked[b.Terminal+b.Trace+b.RRN] = b
	}
	ours, byTerminal := map[string]bool{}, map[string]transaction{}
	for _, t := range journal {
		key := t.Terminal + t.HostTrace + t.RRN
		ours[key], byTerminal[t.Terminal+t.Trace] = true, t
		b, known := booked[key]
		switch {
		case !t.final():
			wrong("%s has come to no end", t)
		case t.State == "approved" && (!known || b.State != "booked" || b.Amount != t.Amount):
			wrong("%s is approved, the bank has %q of %d", t, b.State, b.Amount)
		case t.State != "approved" && known && b.State == "booked":
			wrong("%s is not approved, the bank has booked it", t)
		}
	}
	moved := int64(0)
	for _, b := range book.Bookings {
		if b.State == "booked" {
			moved += b.Amount
		}
		if b.Kind == "purchase" && !ours[b.Terminal+b.Trace+b.RRN] {
			wrong("the bank has a purchase of terminal %s, reference %s (%s), that the journal does not know", b.Terminal, b.RRN, b.State)
		}
	}
	gone := int64(0)
	for _, b := range book.Balances {
		gone += b.Opening - b.Balance
	}
	if gone != moved && book.Totals.Forgotten == 0 {
		wrong("%d have left the accounts, the bookings say %d", gone, moved)
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

package journal

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/keyward/keyward/internal/ledger"
	"github.com/keyward/keyward/internal/txn"
)

// Entry is one transaction in memory: its place in the journal and what a repeat or a reversal needs to know. All methods are
// safe for concurrent use; moves that money hangs on are written before they become visible.
type Entry struct {
	j       *Journal
	content string
	began   time.Time
	settled chan struct{} // closed when the outcome is known
	undone  chan struct{} // closed when a reversal was answered

	mu       sync.Mutex
	rec      ledger.Record // the fields that all records of the transaction share
	seq      int
	state    txn.State
	reply    *txn.Reply
	answered bool
	sealed   []byte
	cause    string
	tries    int
	nextTry  time.Time
}

// TakenElsewhereError says that the same request was taken up as another transaction: by another instance, or before memory
// forgot it.
type TakenElsewhereError struct{ Owner txn.ID }

// Error implements error.
func (e *TakenElsewhereError) Error() string {
	return fmt.Sprintf("the same request was taken up as transaction %s", e.Owner)
}

// ID is the transaction's id.
func (e *Entry) ID() txn.ID { return e.rec.Txn }

// Reference gives trace and retrieval reference number for the host.
func (e *Entry) Reference() (trace, rrn string) { return e.rec.HostTrace, e.rec.RRN }

// Began is when the request was received; the host knows the transaction by this time too.
func (e *Entry) Began() time.Time { return e.began }

// Original gives the shared facts of the transaction, for its reversal.
func (e *Entry) Original() ledger.Record {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.rec
}

// Sealed is what a reversal needs, sealed; nil when it was never stored.
func (e *Entry) Sealed() []byte {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.sealed
}

// Standing gives state, reply (nil for none) and whether an answer was handed over.
func (e *Entry) Standing() (state txn.State, reply *txn.Reply, answered bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.state, e.reply, e.answered
}

// Settled is closed when the outcome is known.
func (e *Entry) Settled() <-chan struct{} { return e.settled }

// Undone is closed when a reversal of the transaction was answered by the host.
func (e *Entry) Undone() <-chan struct{} { return e.undone }

// Sending records, durably, that the request is about to leave for the host (flow-purchase step 7). After an error nothing
// may be sent. A *TakenElsewhereError says that the request is another transaction already; this one is closed then.
func (e *Entry) Sending(ctx context.Context, host string, sealed []byte) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	r, err := e.next(ledger.Sending, txn.Sending)
	if err != nil {
		return err
	}
	e.rec.Host, r.Host = host, host
	r.Sealed, r.Content = sealed, []byte(e.content)
	if err := e.j.append(ctx, r, true); err != nil {
		return err
	}
	e.commit(r)
	e.sealed = sealed
	if owner, ok := e.j.takeConflict(e.rec.Txn); ok {
		if err := e.settle(ctx, txn.NotSent, &txn.Reply{}, "the same request is transaction "+owner.String()); err != nil {
			return err
		}
		return &TakenElsewhereError{Owner: owner}
	}
	return nil
}

// Conclude records, durably, what became of the request (step 9). An unknown outcome of a request that was sent owes a reversal
// from this record on. After an error nothing may be answered: the next start finds the transaction as sent.
func (e *Entry) Conclude(ctx context.Context, outcome txn.Outcome, reply txn.Reply, cause string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.settle(ctx, outcome, &reply, cause)
}

func (e *Entry) settle(ctx context.Context, outcome txn.Outcome, reply *txn.Reply, cause string) error {
	state := txn.Failed
	switch {
	case outcome == txn.Unknown && e.state == txn.Sending && e.rec.Kind.MovesMoney():
		state = txn.InDoubt
	case outcome == txn.Answered && reply.Approved():
		state = txn.Approved
	case outcome == txn.Answered:
		state = txn.Declined
	}
	money := e.rec.Kind.MovesMoney()
	if !money && e.state == "" {
		// What moves no money needs no record before it is sent: if it is lost, the terminal asks again.
		e.state = txn.Sending
	}
	r, err := e.next(ledger.Outcome, state)
	if err != nil {
		return err
	}
	r.Outcome, r.Reply, r.Cause = outcome, withoutBalance(reply), cause
	if r.Seq == 1 {
		r.Content = []byte(e.content)
	}
	if state == txn.InDoubt {
		r.NextTry = e.j.cfg.Now()
		e.cause, e.nextTry = cause, r.NextTry
	}
	if err := e.j.append(ctx, r, money); err != nil {
		return err
	}
	e.commit(r)
	e.reply = reply
	close(e.settled)
	if state == txn.InDoubt {
		e.j.cfg.Owed(e)
	}
	return nil
}

// Answered records that the answer is about to be handed to the socket (step 10). It is written before the socket is, and not
// waited for: a record without an answer is repaired by the terminal's own reversal, an answer without a record would be
// reversed behind the terminal's back.
func (e *Entry) Answered() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.state.NeedsReversal() || e.state == txn.Reversed {
		return fmt.Errorf("transaction %s is %s: its approval must not be answered any more", e.rec.Txn, e.state)
	}
	if e.answered || !e.rec.Kind.MovesMoney() {
		return nil
	}
	r := e.record(ledger.Answered, e.state)
	if err := e.j.append(context.Background(), r, false); err != nil {
		return err
	}
	e.commit(r)
	e.answered = true
	return nil
}

// TakeBack records, durably, that the transaction is to be taken back, when the host holds it as approved. For every other settled
// state it changes nothing. The caller has waited for Settled.
func (e *Entry) TakeBack(ctx context.Context, cause string) (txn.State, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.state != txn.Approved || !e.rec.Kind.MovesMoney() {
		return e.state, nil
	}
	r, err := e.next(ledger.ReversalQueued, txn.Reversing)
	if err != nil {
		return e.state, err
	}
	r.Cause, r.NextTry, r.Sealed = cause, e.j.cfg.Now(), e.sealed
	if err := e.j.append(ctx, r, true); err != nil {
		return e.state, err
	}
	e.commit(r)
	e.cause, e.nextTry = cause, r.NextTry
	e.j.cfg.Owed(e)
	return e.state, nil
}

// Owes gives cause, tries so far and the time of the next try of the reversal.
func (e *Entry) Owes() (cause string, tries int, next time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.cause, e.tries, e.nextTry
}

// Tried records that a reversal was sent without an answer, and when it is tried next.
func (e *Entry) Tried(ctx context.Context, next time.Time, why string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.state.NeedsReversal() {
		return fmt.Errorf("transaction %s owes no reversal", e.rec.Txn)
	}
	r := e.record(ledger.ReversalSent, e.state)
	r.Tries, r.NextTry, r.Text = e.tries+1, next, why
	if err := e.j.append(ctx, r, false); err != nil {
		return err
	}
	e.commit(r)
	e.tries, e.nextTry = r.Tries, next
	return nil
}

// Reversed records, durably, the host's answer to the reversal: the money is back where it was.
func (e *Entry) Reversed(ctx context.Context, reply txn.Reply) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	r, err := e.next(ledger.ReversalDone, txn.Reversed)
	if err != nil {
		return err
	}
	r.Reply, r.Tries = withoutBalance(&reply), e.tries+1
	if err := e.j.append(ctx, r, true); err != nil {
		return err
	}
	e.commit(r)
	e.tries, e.sealed = r.Tries, nil
	close(e.undone)
	return nil
}

// next prepares the record of a move, refusing a move that the states do not allow.
func (e *Entry) next(event ledger.Event, to txn.State) (*ledger.Record, error) {
	if err := e.state.CheckMove(to); err != nil {
		return nil, fmt.Errorf("transaction %s: %w", e.rec.Txn, err)
	}
	return e.record(event, to), nil
}

func (e *Entry) record(event ledger.Event, state txn.State) *ledger.Record {
	r := e.rec
	r.Seq, r.Event, r.At, r.State, r.Instance = e.seq+1, event, e.j.cfg.Now(), state, e.j.cfg.Instance
	return &r
}

// commit makes a written record's state the entry's.
func (e *Entry) commit(r *ledger.Record) { e.seq, e.state = r.Seq, r.State }

// errNotHere says that a transaction is neither in memory nor in the database.
var errNotHere = errors.New("no such transaction")

func withoutBalance(r *txn.Reply) *txn.Reply {
	if r == nil {
		return nil
	}
	c := *r
	c.Balance = ""
	return &c
}

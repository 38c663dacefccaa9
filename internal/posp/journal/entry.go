package journal

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/keyward/keyward/internal/ledger"
	"github.com/keyward/keyward/internal/spool"
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
	unsafe   spool.Pos     // newest record that is written and that nobody has confirmed as durable yet
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
	r.Host, r.Sealed, r.Content = host, sealed, []byte(e.content)
	written, err := e.write(ctx, r)
	if written {
		e.rec.Host, e.sealed = host, sealed
	}
	if err != nil {
		return err
	}
	if e.j.isQuarantined(e.rec.Txn) {
		// A restart would not find it, so it must not be sent.
		return fmt.Errorf("%w: the database refuses the record", ErrNotDurable)
	}
	if owner, ok := e.j.takeConflict(e.rec.Txn); ok {
		if _, err := e.settle(ctx, txn.NotSent, &txn.Reply{}, "the same request is transaction "+owner.String()); err != nil {
			return err
		}
		return &TakenElsewhereError{Owner: owner}
	}
	return nil
}

// Conclude records, durably, what became of the request (step 9). An unknown outcome of a request that was sent owes what its kind asks for
// from this record on: a reversal, or the advice once more. After an error nothing may be answered: an approval that nobody can promise to keep is taken back at
// once, and a transaction without any record of its outcome is found as sent by the next start.
func (e *Entry) Conclude(ctx context.Context, outcome txn.Outcome, reply txn.Reply, cause string) error {
	e.mu.Lock()
	owed, err := e.settle(ctx, outcome, &reply, cause)
	e.mu.Unlock()
	if owed {
		e.j.cfg.Owed(e)
	}
	return err
}

// stateAfter is where an outcome brings the transaction. The caller holds mu.
func (e *Entry) stateAfter(outcome txn.Outcome, reply *txn.Reply) txn.State {
	sent, doubt := e.state == txn.Sending, e.rec.Kind.Doubt()
	switch {
	case outcome == txn.Answered && reply.Approved():
		return txn.Approved
	case outcome == txn.Answered:
		return txn.Declined
	case sent && doubt == txn.Deliver:
		return txn.Forwarding // what has happened already is told until it is heard, whether or not a byte of it went out
	case sent && outcome == txn.Unknown && doubt == txn.Undo:
		return txn.InDoubt
	case sent && outcome == txn.Unknown:
		return txn.Unresolved
	default:
		return txn.Failed
	}
}

// settle does the work of Conclude; owed says that the caller has to announce what is owed once mu is free.
func (e *Entry) settle(ctx context.Context, outcome txn.Outcome, reply *txn.Reply, cause string) (owed bool, err error) {
	state := e.stateAfter(outcome, reply)
	r, err := e.next(ledger.Outcome, state)
	if err != nil {
		return false, err
	}
	r.Outcome, r.Reply, r.Cause = outcome, withoutBalance(reply), cause
	if r.Seq == 1 {
		r.Content = []byte(e.content)
	}
	if state.Owes() {
		r.NextTry = e.j.cfg.Now()
	}
	written, err := e.write(ctx, r)
	if !written {
		return false, err
	}
	if state.Owes() {
		e.cause, e.nextTry = cause, r.NextTry
	}
	e.reply = reply
	close(e.settled)
	if err != nil && state == txn.Approved && e.rec.Kind.Doubt() == txn.Undo {
		taken, _ := e.queueReversal(txn.CauseNotDone) // its failure adds nothing to err
		return taken, err
	}
	return state.Owes(), err
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
	if e.answered || !e.rec.Kind.Recorded() {
		return nil
	}
	r := e.record(ledger.Answered, e.state)
	if _, err := e.j.append(r); err != nil {
		return err
	}
	e.commit(r)
	e.answered = true
	return nil
}

// TakeBack records, durably, that the transaction is to be taken back, when the host holds it as approved. For every other settled
// state, and for a kind that is not reversed, it changes nothing. Without an error the state that it returns is safe. The caller has waited
// for Settled.
func (e *Entry) TakeBack(ctx context.Context, cause string) (txn.State, error) {
	e.mu.Lock()
	owed := false
	var err error
	if e.state == txn.Approved && e.rec.Kind.Doubt() == txn.Undo {
		owed, err = e.queueReversal(cause)
	}
	if err == nil {
		err = e.confirm(ctx)
	}
	state := e.state
	e.mu.Unlock()
	if owed {
		e.j.cfg.Owed(e)
	}
	return state, err
}

// queueReversal writes that an approval is to be taken back, and does not wait.
func (e *Entry) queueReversal(cause string) (owed bool, err error) {
	r, err := e.next(ledger.ReversalQueued, txn.Reversing)
	if err != nil {
		return false, err
	}
	r.Cause, r.NextTry, r.Sealed = cause, e.j.cfg.Now(), e.sealed
	pos, err := e.j.append(r)
	if err != nil {
		return false, err
	}
	e.commit(r)
	e.unsafe, e.cause, e.nextTry = pos, cause, r.NextTry
	return true, nil
}

// Drop forgets a request that was taken up and of which nothing was recorded or sent, so that it may come again. The terminals that
// repeat an advice use the same trace number.
func (e *Entry) Drop() {
	e.mu.Lock()
	fresh := e.seq == 0
	e.mu.Unlock()
	if fresh {
		e.j.index.remove(e)
		close(e.settled)
	}
}

// write appends the record of a move and waits until it is durable. Once it is written it is part of the transaction, durable or not: its
// number must never be given to another record, so the entry moves with it. The caller holds mu.
func (e *Entry) write(ctx context.Context, r *ledger.Record) (written bool, err error) {
	pos, err := e.j.append(r)
	if err != nil {
		return false, err
	}
	e.commit(r)
	e.unsafe = pos
	return true, e.confirm(ctx)
}

// confirm waits until all that was written about the transaction is durable. The caller holds mu.
func (e *Entry) confirm(ctx context.Context) error {
	if e.unsafe == 0 {
		return nil
	}
	if err := e.j.confirm(ctx, e.unsafe); err != nil {
		return err
	}
	e.unsafe = 0
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

package journal

import (
	"context"
	"fmt"
	"time"

	"github.com/keyward/keyward/internal/ledger"
	"github.com/keyward/keyward/internal/txn"
)

// Owes gives the cause, the tries so far and the time of the next try of the reversal, or of the advice, that is owed.
func (e *Entry) Owes() (cause string, tries int, next time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.cause, e.tries, e.nextTry
}

// Tried records that what is owed was sent without an answer, and when it is tried next.
func (e *Entry) Tried(next time.Time, why string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.state.Owes() {
		return fmt.Errorf("transaction %s owes nothing", e.rec.Txn)
	}
	event := ledger.ReversalSent
	if e.state == txn.Forwarding {
		event = ledger.Repeated
	}
	r := e.record(event, e.state)
	r.Tries, r.NextTry, r.Text = e.tries+1, next, why
	if _, err := e.j.append(r); err != nil {
		return err
	}
	e.commit(r)
	e.tries, e.nextTry = r.Tries, next
	return nil
}

// Reversed records, durably, the host's answer to the reversal: the money is back where it was. It may be called again after an error.
func (e *Entry) Reversed(ctx context.Context, reply txn.Reply) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.state == txn.Reversed {
		return e.confirm(ctx)
	}
	r, err := e.next(ledger.ReversalDone, txn.Reversed)
	if err != nil {
		return err
	}
	r.Reply, r.Tries = withoutBalance(&reply), e.tries+1
	written, err := e.write(ctx, r)
	if written {
		e.tries, e.sealed = r.Tries, nil
		close(e.undone)
	}
	return err
}

// Delivered records, durably, the host's answer to an advice that was owed: the terminal was told before that it is taken charge of, so the
// answer changes the state alone. It may be called again after an error.
func (e *Entry) Delivered(ctx context.Context, reply txn.Reply) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.state != txn.Forwarding {
		return e.confirm(ctx)
	}
	state := txn.Declined
	if reply.Approved() {
		state = txn.Approved
	}
	r, err := e.next(ledger.Delivered, state)
	if err != nil {
		return err
	}
	r.Reply, r.Tries = withoutBalance(&reply), e.tries+1
	written, err := e.write(ctx, r)
	if written {
		e.tries, e.sealed = r.Tries, nil
	}
	return err
}

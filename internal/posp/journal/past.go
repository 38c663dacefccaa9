package journal

import (
	"context"
	"fmt"

	"github.com/keyward/keyward/internal/ledger"
	"github.com/keyward/keyward/internal/spool"
)

// Past finds an earlier transaction in the database, or nil. What this instance recorded is shipped first, so that an original of a moment ago
// is found; while the database is away there is no answer, and a transaction that refers to another cannot be taken.
func (j *Journal) Past(ctx context.Context, ref ledger.Reference) (*ledger.Record, error) {
	if err := j.waitShipped(ctx, spool.Pos(j.appended.Load())); err != nil {
		return nil, fmt.Errorf("find an earlier transaction: %w", err)
	}
	return j.cfg.Store.Past(ctx, ref)
}

// Use takes an amount of an earlier transaction for this one, before anything is sent: ledger.ErrTaken and ledger.ErrOver are refusals. The
// records of this transaction settle it.
func (e *Entry) Use(ctx context.Context, original *ledger.Record, allowed int64, alone bool) error {
	e.mu.Lock()
	u := ledger.Use{
		Txn: e.rec.Txn, Original: original.Txn, Amount: e.rec.Amount, Allowed: allowed, Alone: alone, Instance: e.j.cfg.Instance, Date: e.rec.Date,
	}
	e.mu.Unlock()
	if err := e.j.cfg.Store.Use(ctx, u); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.rec.Original = original.Txn
	return nil
}

// Refer notes the earlier transaction that this one speaks of and takes nothing from.
func (e *Entry) Refer(original *ledger.Record) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.rec.Original = original.Txn
}

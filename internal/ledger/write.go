package ledger

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/keyward/keyward/internal/txn"
)

// Conflict tells that the duplicate key of a record belongs to another transaction already: the same request came in through
// another instance, or so long ago that memory forgot it. Owner is zero when the other one is not visible yet.
type Conflict struct {
	Txn   txn.ID
	Owner txn.ID
}

// The statements take whole columns, one row per record, so that a commit of many records costs a handful of statements. They
// run in the order of a transaction's life: a record that is written again, or with a later one of its transaction in the same
// commit, ends in the same rows as one by one.
const (
	insertRecords = `
INSERT INTO transactions (business_date, txn_id, seq, event, at, instance, terminal_id, merchant_id, batch, trace, mti, kind,
       proc_code, amount, currency, pan_masked, pan_digest, host, host_trace, rrn, auth_code, response_code, outcome, state, detail)
SELECT d, t, n, e, at, i, term, merch, batch, trace, mti, kind, nullif(pc, ''), amt, nullif(cur, ''), nullif(pan, ''), dig,
       nullif(h, ''), nullif(ht, ''), nullif(rrn, ''), nullif(auth, ''), nullif(code, ''), nullif(o, ''), s, det::jsonb
  FROM unnest($1::date[], $2::uuid[], $3::int[], $4::text[], $5::timestamptz[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[],
       $11::text[], $12::text[], $13::text[], $14::bigint[], $15::text[], $16::text[], $17::bytea[], $18::text[], $19::text[], $20::text[],
       $21::text[], $22::text[], $23::text[], $24::text[], $25::text[])
    AS r(d, t, n, e, at, i, term, merch, batch, trace, mti, kind, pc, amt, cur, pan, dig, h, ht, rrn, auth, code, o, s, det)
ON CONFLICT DO NOTHING`

	// takeKeys also respects the key of the business date before: a repeat does not become a new transaction because midnight passed
	// between the two. $10 is the oldest time of taking that still counts.
	takeKeys = `
INSERT INTO transaction_keys (terminal_id, merchant_id, batch, trace, mti, type60, business_date, content_digest, txn_id)
SELECT u.terminal, u.merchant, u.batch, u.trace, u.mti, u.type60, u.d, u.content, u.txn
  FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::date[], $8::bytea[], $9::uuid[], $10::timestamptz[])
    AS u(terminal, merchant, batch, trace, mti, type60, d, content, txn, since)
 WHERE NOT EXISTS (SELECT FROM transaction_keys k WHERE k.terminal_id = u.terminal AND k.merchant_id = u.merchant AND k.batch = u.batch
                      AND k.trace = u.trace AND k.mti = u.mti AND k.type60 = u.type60 AND k.business_date = u.d - 1 AND k.created_at > u.since)
ON CONFLICT DO NOTHING`

	// keyOwners runs after takeKeys with a snapshot of its own, so it sees the other instance's row that stood in the way: of the same
	// business date, else of the one before.
	keyOwners = `
SELECT u.txn, k.txn_id
  FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::date[], $8::uuid[])
    WITH ORDINALITY AS u(terminal, merchant, batch, trace, mti, type60, d, txn, row)
  LEFT JOIN LATERAL (
       SELECT o.txn_id FROM transaction_keys o
        WHERE o.terminal_id = u.terminal AND o.merchant_id = u.merchant AND o.batch = u.batch AND o.trace = u.trace
          AND o.mti = u.mti AND o.type60 = u.type60 AND o.business_date BETWEEN u.d - 1 AND u.d
        ORDER BY o.business_date DESC LIMIT 1) k ON true
 WHERE k.txn_id IS DISTINCT FROM u.txn
 ORDER BY u.row`

	insertSealed = `
INSERT INTO transaction_secrets (txn_id, business_date, instance, sealed)
SELECT * FROM unnest($1::uuid[], $2::date[], $3::text[], $4::bytea[]) ON CONFLICT DO NOTHING`

	queueReversals = `
INSERT INTO reversals (txn_id, business_date, cause, owner, host, host_trace, rrn, next_try_at, sealed, action, state)
SELECT t, d, cause, owner, h, ht, rrn, nt, CASE WHEN action <> 'reconcile' THEN coalesce(sealed, (SELECT x.sealed FROM transaction_secrets x WHERE x.txn_id = t)) END,
       action, CASE WHEN action = 'reconcile' THEN 'stopped' ELSE 'pending' END
  FROM unnest($1::uuid[], $2::date[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::timestamptz[], $9::bytea[], $10::text[])
    AS r(t, d, cause, owner, h, ht, rrn, nt, sealed, action)
ON CONFLICT DO NOTHING`

	triedReversals = `
UPDATE reversals SET tries = r.n, next_try_at = r.nt, last_error = r.why, updated_at = r.at
  FROM unnest($1::uuid[], $2::int[], $3::timestamptz[], $4::text[], $5::timestamptz[]) AS r(t, n, nt, why, at)
 WHERE txn_id = r.t AND state = 'pending' AND tries < r.n`

	doneReversals = `
UPDATE reversals SET state = 'done', response_code = r.code, tries = r.n, sealed = NULL, updated_at = r.at, done_at = r.at
  FROM unnest($1::uuid[], $2::text[], $3::int[], $4::timestamptz[]) AS r(t, code, n, at)
 WHERE txn_id = r.t AND state <> 'done'`

	// settleUses closes what was taken of an earlier transaction. A released use stays so: records come again after a crash.
	settleUses = `
UPDATE transaction_uses SET state = r.s FROM unnest($1::uuid[], $2::text[]) AS r(t, s)
 WHERE txn_id = r.t AND (r.s = 'released' OR state = 'held')`

	closeSecrets = `UPDATE transaction_secrets SET open = false WHERE txn_id = ANY($1::uuid[]) AND open`
	eraseSecrets = `DELETE FROM transaction_secrets WHERE txn_id = ANY($1::uuid[])`
)

// Write stores records in their order, in one commit and one round trip. It may be called again with the same records.
func (s *Store) Write(ctx context.Context, records []*Record) ([]Conflict, error) {
	var w writer
	for _, r := range records {
		if err := w.add(r); err != nil {
			return nil, err
		}
	}
	batch := w.batch()
	// A batch outside a transaction is one implicit transaction: all of it or nothing.
	if err := s.pool.SendBatch(ctx, batch).Close(); err != nil {
		return nil, fmt.Errorf("write %d journal records: %w", len(records), err)
	}
	return w.conflicts, nil
}

// keyLife is how long a duplicate key keeps others away across a change of the business date: what posp's memory does, which is some
// minutes longer, so that the owner is always found again (internal/posp/journal).
const keyLife = 25 * time.Hour

// columns is the content of one statement: one slice per parameter.
type columns []any

// push adds a value to column i. The first one fixes the column's type.
func push[T any](c *columns, i int, v T) {
	if len(*c) <= i {
		*c = append(*c, []T(nil))
	}
	(*c)[i] = append((*c)[i].([]T), v)
}

// writer sorts the facts of records into statements.
type writer struct {
	records, keys, owners, secrets, queued, done columns
	kept, released                               columns            // uses of earlier transactions
	tried                                        map[txn.ID]*Record // the latest try of each
	closed, erased                               []txn.ID
	conflicts                                    []Conflict
}

func (w *writer) add(r *Record) error {
	date, err := time.Parse(time.DateOnly, r.Date)
	if err != nil {
		return fmt.Errorf("journal record of %s: business date %q: %w", r.Txn, r.Date, err)
	}
	code, auth := "", ""
	if r.Reply != nil {
		code, auth = r.Reply.Code, r.Reply.AuthCode
	}
	w.addRecord(r, date, code, auth)
	if r.Seq == 1 && len(r.Content) > 0 {
		w.addKey(r, date)
	}
	w.addUse(r)
	switch {
	case r.Event == Sending && len(r.Sealed) > 0:
		c := &w.secrets
		push(c, 0, r.Txn)
		push(c, 1, date)
		push(c, 2, r.Instance)
		push(c, 3, r.Sealed)
	case actionOf(r) != "":
		w.addQueued(r, date)
		if r.State == txn.Unresolved {
			w.erased = append(w.erased, r.Txn)
		}
	case r.Event == Outcome && isFinal(r):
		w.erased = append(w.erased, r.Txn)
	case r.Event == Answered:
		w.closed = append(w.closed, r.Txn)
	case r.Event == ReversalSent || r.Event == Repeated:
		if w.tried == nil {
			w.tried = map[txn.ID]*Record{}
		}
		w.tried[r.Txn] = r
	case r.Event == ReversalDone || r.Event == Delivered:
		c := &w.done
		push(c, 0, r.Txn)
		push(c, 1, code)
		push(c, 2, int32(r.Tries))
		push(c, 3, r.At)
		w.erased = append(w.erased, r.Txn)
	}
	return nil
}

func (w *writer) addRecord(r *Record, date time.Time, code, auth string) {
	c := &w.records
	push(c, 0, date)
	push(c, 1, r.Txn)
	push(c, 2, int32(r.Seq))
	push(c, 3, string(r.Event))
	push(c, 4, r.At)
	for i, v := range []string{
		r.Instance, r.Key.Terminal, r.Key.Merchant, r.Key.Batch, r.Key.Trace, r.Key.MTI, string(r.Kind), r.ProcCode,
	} {
		push(c, 5+i, v)
	}
	push(c, 13, r.Amount)
	push(c, 14, r.Currency)
	push(c, 15, r.PANMasked)
	push(c, 16, r.PANDigest)
	for i, v := range []string{r.Host, r.HostTrace, r.RRN, auth, code, string(r.Outcome), string(r.State), string(r.detail())} {
		push(c, 17+i, v)
	}
}

func (w *writer) addKey(r *Record, date time.Time) {
	for _, c := range []*columns{&w.keys, &w.owners} {
		for i, v := range []string{r.Key.Terminal, r.Key.Merchant, r.Key.Batch, r.Key.Trace, r.Key.MTI, r.Key.Type} {
			push(c, i, v)
		}
		push(c, 6, date)
	}
	push(&w.keys, 7, r.Content)
	push(&w.keys, 8, r.Txn)
	push(&w.keys, 9, r.Began.Add(-keyLife))
	push(&w.owners, 7, r.Txn)
}

func (w *writer) addQueued(r *Record, date time.Time) {
	c := &w.queued
	push(c, 0, r.Txn)
	push(c, 1, date)
	for i, v := range []string{r.Cause, r.Instance, r.Host, r.HostTrace, r.RRN} {
		push(c, 2+i, v)
	}
	push(c, 7, r.NextTry)
	push(c, 8, r.Sealed)
	push(c, 9, actionOf(r))
}

// actionOf says what a record puts on the work list: "" for nothing.
func actionOf(r *Record) string {
	if r.Event != Outcome && r.Event != ReversalQueued {
		return ""
	}
	switch {
	case r.State.NeedsReversal():
		return "reverse"
	case r.State == txn.Forwarding:
		return "repeat"
	case r.State == txn.Unresolved:
		return "reconcile"
	}
	return ""
}

// isFinal says that nothing will ever be sent for the transaction again: it was refused, or approved and is of a kind that is not reversed.
func isFinal(r *Record) bool {
	return r.State == txn.Declined || r.State == txn.Failed || r.State == txn.Approved && r.Kind.Recorded() && r.Kind.Doubt() != txn.Undo
}

// addUse settles what the transaction took of an earlier one. What is in doubt stays taken.
func (w *writer) addUse(r *Record) {
	if r.Original == (txn.ID{}) {
		return
	}
	switch {
	case (r.Event == Outcome || r.Event == Delivered) && r.State == txn.Approved:
		push(&w.kept, 0, r.Txn)
		push(&w.kept, 1, "kept")
	case r.State == txn.Declined || r.State == txn.Failed || r.State == txn.Reversed:
		push(&w.released, 0, r.Txn)
		push(&w.released, 1, "released")
	}
}

// batch lists the statements in the order of a transaction's life.
func (w *writer) batch() *pgx.Batch {
	var b pgx.Batch
	b.Queue(insertRecords, w.records...)
	if w.keys != nil {
		b.Queue(takeKeys, w.keys...)
		b.Queue(keyOwners, w.owners...).Query(func(rows pgx.Rows) error {
			var c Conflict
			var owner *txn.ID
			_, err := pgx.ForEachRow(rows, []any{&c.Txn, &owner}, func() error {
				c.Owner = txn.ID{}
				if owner != nil {
					c.Owner = *owner
				}
				w.conflicts = append(w.conflicts, c)
				return nil
			})
			return err
		})
	}
	if w.secrets != nil {
		b.Queue(insertSealed, w.secrets...)
	}
	if w.queued != nil {
		b.Queue(queueReversals, w.queued...)
	}
	if len(w.tried) > 0 {
		var c columns
		for _, r := range w.tried {
			push(&c, 0, r.Txn)
			push(&c, 1, int32(r.Tries))
			push(&c, 2, r.NextTry)
			push(&c, 3, r.Text)
			push(&c, 4, r.At)
		}
		b.Queue(triedReversals, c...)
	}
	if w.done != nil {
		b.Queue(doneReversals, w.done...)
	}
	for _, uses := range []columns{w.kept, w.released} {
		if uses != nil {
			b.Queue(settleUses, uses...)
		}
	}
	if len(w.closed) > 0 {
		b.Queue(closeSecrets, w.closed)
	}
	if len(w.erased) > 0 {
		b.Queue(eraseSecrets, w.erased)
	}
	return &b
}

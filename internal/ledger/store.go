package ledger

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/keyward/keyward/internal/txn"
)

// Store writes and reads the ledger through posp's role.
type Store struct {
	pool *pgxpool.Pool
}

// New makes a store on a pool that is connected as posp's role.
func New(pool *pgxpool.Pool) *Store { return &Store{pool: pool} }

// Conflict tells that the duplicate key of a record belongs to another transaction already: the same request came in through
// another instance, or so long ago that memory forgot it. Owner is zero when the other one is not visible yet.
type Conflict struct {
	Txn   txn.ID
	Owner txn.ID
}

const insertRecord = `
INSERT INTO transactions (business_date, txn_id, seq, event, at, instance, terminal_id, merchant_id, batch, trace, mti, kind,
       proc_code, amount, currency, pan_masked, pan_digest, host, host_trace, rrn, auth_code, response_code, outcome, state, detail)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, nullif($13, ''), $14, nullif($15, ''), nullif($16, ''), $17,
       nullif($18, ''), nullif($19, ''), nullif($20, ''), nullif($21, ''), nullif($22, ''), nullif($23, ''), $24, $25)
ON CONFLICT DO NOTHING`

// takeKey gives the owner of the duplicate key: ours when we took it now or before, another's, or no row when another
// transaction has taken it but is not visible to this statement yet.
const takeKey = `
WITH taken AS (
  INSERT INTO transaction_keys (terminal_id, merchant_id, batch, trace, mti, type60, business_date, content_digest, txn_id)
  VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING RETURNING txn_id)
SELECT txn_id FROM taken
UNION ALL
SELECT txn_id FROM transaction_keys
 WHERE terminal_id = $1 AND merchant_id = $2 AND batch = $3 AND trace = $4 AND mti = $5 AND type60 = $6 AND business_date = $7`

const (
	insertSecret = `INSERT INTO transaction_secrets (txn_id, business_date, instance, sealed) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`
	closeSecret  = `UPDATE transaction_secrets SET open = false WHERE txn_id = $1 AND open`
	eraseSecret  = `DELETE FROM transaction_secrets WHERE txn_id = $1`
	queueReverse = `
INSERT INTO reversals (txn_id, business_date, cause, owner, host, host_trace, rrn, next_try_at, sealed)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, coalesce($9, (SELECT sealed FROM transaction_secrets WHERE txn_id = $1)))
ON CONFLICT DO NOTHING`
	triedReverse = `
UPDATE reversals SET tries = $2, next_try_at = $3, last_error = $4, updated_at = $5 WHERE txn_id = $1 AND state = 'pending'`
	doneReverse = `
UPDATE reversals SET state = 'done', response_code = $2, tries = $3, sealed = NULL, updated_at = $4, done_at = $4
 WHERE txn_id = $1 AND state <> 'done'`
)

// Write stores records in their order, in one commit and one round trip. It may be called again with the same records.
func (s *Store) Write(ctx context.Context, records []*Record) ([]Conflict, error) {
	var batch pgx.Batch
	var conflicts []Conflict
	for _, r := range records {
		if err := queue(&batch, r, &conflicts); err != nil {
			return nil, err
		}
	}
	// A batch outside a transaction is one implicit transaction: all of it or nothing.
	if err := s.pool.SendBatch(ctx, &batch).Close(); err != nil {
		return nil, fmt.Errorf("write %d journal records: %w", len(records), err)
	}
	return conflicts, nil
}

// queue adds the statements of one record: the journal line first, then its projections.
func queue(b *pgx.Batch, r *Record, conflicts *[]Conflict) error {
	date, err := time.Parse(time.DateOnly, r.Date)
	if err != nil {
		return fmt.Errorf("journal record of %s: business date %q: %w", r.Txn, r.Date, err)
	}
	code, auth := "", ""
	if r.Reply != nil {
		code, auth = r.Reply.Code, r.Reply.AuthCode
	}
	b.Queue(insertRecord, date, r.Txn, r.Seq, r.Event, r.At, r.Instance, r.Key.Terminal, r.Key.Merchant, r.Key.Batch, r.Key.Trace,
		r.Key.MTI, r.Kind, r.ProcCode, r.Amount, r.Currency, r.PANMasked, r.PANDigest, r.Host, r.HostTrace, r.RRN, auth, code,
		r.Outcome, r.State, r.detail())
	if r.Seq == 1 && len(r.Content) > 0 {
		b.Queue(takeKey, r.Key.Terminal, r.Key.Merchant, r.Key.Batch, r.Key.Trace, r.Key.MTI, r.Key.Type, date, r.Content, r.Txn).
			QueryRow(func(row pgx.Row) error {
				var owner txn.ID
				if err := row.Scan(&owner); err != nil && !errors.Is(err, pgx.ErrNoRows) {
					return err
				}
				if owner != r.Txn {
					*conflicts = append(*conflicts, Conflict{Txn: r.Txn, Owner: owner})
				}
				return nil
			})
	}
	switch {
	case r.Event == Sending && len(r.Sealed) > 0:
		b.Queue(insertSecret, r.Txn, date, r.Instance, r.Sealed)
	case r.State.NeedsReversal() && (r.Event == Outcome || r.Event == ReversalQueued):
		b.Queue(queueReverse, r.Txn, date, r.Cause, r.Instance, r.Host, r.HostTrace, r.RRN, r.NextTry, r.Sealed)
	case r.Event == Outcome && (r.State == txn.Declined || r.State == txn.Failed):
		b.Queue(eraseSecret, r.Txn)
	case r.Event == Answered:
		b.Queue(closeSecret, r.Txn)
	case r.Event == ReversalSent:
		b.Queue(triedReverse, r.Txn, r.Tries, r.NextTry, r.Text, r.At)
	case r.Event == ReversalDone:
		b.Queue(doneReverse, r.Txn, code, r.Tries, r.At)
		b.Queue(eraseSecret, r.Txn)
	}
	return nil
}

// EnsurePartitions makes the journal partitions of the days that begin at from.
func (s *Store) EnsurePartitions(ctx context.Context, from time.Time, days int) error {
	if _, err := s.pool.Exec(ctx, `SELECT ensure_transaction_partitions($1::date, $2)`, from.Format(time.DateOnly), days); err != nil {
		return fmt.Errorf("make journal partitions: %w", err)
	}
	return nil
}

// PurgeSecrets erases what was kept for reversals of transactions whose business date is before the given one: after the
// settlement cut-off nothing is reversed any more. What is still open or owed stays.
func (s *Store) PurgeSecrets(ctx context.Context, before time.Time) (int64, error) {
	tag, err := s.pool.Exec(ctx, `DELETE FROM transaction_secrets WHERE business_date < $1 AND NOT open
		AND txn_id NOT IN (SELECT txn_id FROM reversals WHERE state = 'pending')`, pgtype.Date{Time: before, Valid: true})
	if err != nil {
		return 0, fmt.Errorf("erase sealed data of settled days: %w", err)
	}
	return tag.RowsAffected(), nil
}

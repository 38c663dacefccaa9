package ledger

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Store writes and reads the ledger through posp's role.
type Store struct {
	pool *pgxpool.Pool
}

// New makes a store on a pool that is connected as posp's role.
func New(pool *pgxpool.Pool) *Store { return &Store{pool: pool} }

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

// PurgeKeys removes duplicate keys of business dates before the given one, which nobody asks for any more, when they are two days old by the
// database's clock too: one clock that jumps must not empty the duplicate check. What is still open or owed stays: a start finds it by
// its key.
func (s *Store) PurgeKeys(ctx context.Context, before time.Time) (int64, error) {
	tag, err := s.pool.Exec(ctx, `DELETE FROM transaction_keys k WHERE k.business_date < $1 AND k.created_at < now() - interval '48 hours'
		AND NOT EXISTS (SELECT FROM reversals r WHERE r.txn_id = k.txn_id AND r.state IN ('pending', 'sending'))
		AND NOT EXISTS (SELECT FROM transaction_secrets x WHERE x.txn_id = k.txn_id AND x.open)`, pgtype.Date{Time: before, Valid: true})
	if err != nil {
		return 0, fmt.Errorf("remove old duplicate keys: %w", err)
	}
	return tag.RowsAffected(), nil
}

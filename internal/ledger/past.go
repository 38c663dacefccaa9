package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/keyward/keyward/internal/txn"
)

// Reference names an earlier transaction of a merchant, in one of three ways: by terminal, batch and trace; by retrieval reference; or, a
// pre-authorisation only, by card and authorisation code. Days bound the search, since the journal has a partition per business date.
type Reference struct {
	Merchant string
	Kinds    []txn.Kind // what it may be

	Terminal, Batch, Trace string
	RRN                    string
	PANDigest              []byte
	AuthCode               string

	From, To time.Time // business dates, both included
}

// pastSQL finds the newest transaction that a condition on its outcome fits, its last record, and its amount as it was last adjusted. Adjustments
// come from the terminal of their original.
const pastSQL = `
SELECT t.txn_id, t.business_date, t.terminal_id, t.merchant_id, t.batch, t.trace, t.mti, t.kind,
       coalesce((SELECT a.amount FROM transactions a
                  WHERE a.terminal_id = t.terminal_id AND a.at > t.at AND a.business_date BETWEEN t.business_date AND $4::date
                    AND a.event = 'outcome' AND a.kind IN ('adjustment', 'tip_adjustment') AND a.state IN ('approved', 'forwarding')
                    AND a.detail->>'original' = t.txn_id::text
                    AND NOT EXISTS (SELECT FROM transactions d WHERE d.business_date = a.business_date AND d.txn_id = a.txn_id
                                       AND d.event = 'delivered' AND d.state = 'declined')
                  ORDER BY a.at DESC LIMIT 1), t.amount, 0), coalesce(t.currency, ''),
       t.pan_digest, coalesce(t.host, ''), coalesce(t.host_trace, ''), coalesce(t.rrn, ''), coalesce(t.auth_code, ''), coalesce(t.response_code, ''),
       t.detail, (SELECT coalesce(l.state, '') FROM transactions l WHERE l.business_date = t.business_date AND l.txn_id = t.txn_id ORDER BY l.seq DESC LIMIT 1)
  FROM transactions t
 WHERE t.event = 'outcome' AND t.merchant_id = $1 AND t.kind = ANY($2) AND t.business_date BETWEEN $3::date AND $4::date AND `

// Past finds an earlier transaction, the newest where the reference fits more than one, or nil. State is where it is now, Amount what
// the last adjustment made of it, Reply that of its outcome; what only its other records say is missing.
func (s *Store) Past(ctx context.Context, ref Reference) (*Record, error) {
	kinds := make([]string, 0, len(ref.Kinds))
	for _, k := range ref.Kinds {
		kinds = append(kinds, string(k))
	}
	args := []any{ref.Merchant, kinds, ref.From.Format(time.DateOnly), ref.To.Format(time.DateOnly)}
	var where string
	switch {
	case ref.Trace != "":
		where = "t.terminal_id = $5 AND t.batch = $6 AND t.trace = $7"
		args = append(args, ref.Terminal, ref.Batch, ref.Trace)
	case ref.RRN != "":
		where = "t.rrn = $5"
		args = append(args, ref.RRN)
	case len(ref.PANDigest) > 0 && ref.AuthCode != "":
		where = "t.kind = 'preauth' AND t.pan_digest = $5 AND t.auth_code = $6"
		args = append(args, ref.PANDigest, ref.AuthCode)
	default:
		return nil, errors.New("find an earlier transaction: the reference names neither trace, nor retrieval reference, nor card and authorisation code")
	}
	rows, err := s.pool.Query(ctx, pastSQL+where+" ORDER BY t.at DESC LIMIT 1", args...)
	if err != nil {
		return nil, fmt.Errorf("find an earlier transaction: %w", err)
	}
	past, err := pgx.CollectExactlyOneRow(rows, scanPast)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("find an earlier transaction: %w", err)
	}
	return past, nil
}

func scanPast(row pgx.CollectableRow) (*Record, error) {
	var p Record
	var date time.Time
	var detail []byte
	reply := &txn.Reply{}
	err := row.Scan(&p.Txn, &date, &p.Key.Terminal, &p.Key.Merchant, &p.Key.Batch, &p.Key.Trace, &p.Key.MTI, &p.Kind, &p.Amount, &p.Currency,
		&p.PANDigest, &p.Host, &p.HostTrace, &p.RRN, &reply.AuthCode, &reply.Code, &detail, &p.State)
	if err != nil {
		return nil, err
	}
	var facts struct {
		Began time.Time `json:"began"`
	}
	if err := json.Unmarshal(detail, &facts); err != nil {
		return nil, fmt.Errorf("journal detail of %s: %w", p.Txn, err)
	}
	p.Date, p.Began, p.Reply = date.Format(time.DateOnly), facts.Began, reply
	return &p, nil
}

// Use is what a transaction takes of an earlier one.
type Use struct {
	Txn, Original txn.ID
	Amount        int64 // fen
	Allowed       int64 // what all uses together may take, in fen
	Alone         bool  // bears no other use beside it: a void, a completion
	Instance      string
	Date          string // business date of the later transaction
}

// The refusals of Use.
var (
	ErrTaken = errors.New("the original is used by another transaction")
	ErrOver  = errors.New("the original has less left than is asked for")
)

// Use takes something of an earlier transaction, once however often it is asked for the same transaction. The records of the later one settle
// it: kept when it is approved, given back when it took nothing.
func (s *Store) Use(ctx context.Context, u Use) error {
	var answer string
	err := s.pool.QueryRow(ctx, `SELECT use_transaction($1, $2, $3, $4, $5, $6, $7::date)`,
		u.Txn, u.Original, u.Amount, u.Allowed, u.Alone, u.Instance, u.Date).Scan(&answer)
	switch {
	case err != nil:
		return fmt.Errorf("use transaction %s: %w", u.Original, err)
	case answer == "taken":
		return ErrTaken
	case answer == "over":
		return ErrOver
	}
	return nil
}

// ReleaseUses gives back what an instance had taken for transactions of which the journal has no record: its last life ended before
// anything was sent.
func (s *Store) ReleaseUses(ctx context.Context, instance string) (int64, error) {
	tag, err := s.pool.Exec(ctx, `UPDATE transaction_uses u SET state = 'released' WHERE instance = $1 AND state = 'held'
		AND NOT EXISTS (SELECT FROM transactions t WHERE t.business_date = u.business_date AND t.txn_id = u.txn_id)`, instance)
	if err != nil {
		return 0, fmt.Errorf("give back uses of %s: %w", instance, err)
	}
	return tag.RowsAffected(), nil
}

// PurgeUses removes uses of business dates before the given one: nothing refers to originals as old as theirs any more.
func (s *Store) PurgeUses(ctx context.Context, before time.Time) (int64, error) {
	tag, err := s.pool.Exec(ctx, `DELETE FROM transaction_uses WHERE business_date < $1::date`, before.Format(time.DateOnly))
	if err != nil {
		return 0, fmt.Errorf("remove old uses: %w", err)
	}
	return tag.RowsAffected(), nil
}

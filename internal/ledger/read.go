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

// Standing is where a transaction is: its last record, and what the flow needs to go on with it after a restart or for a
// repeat of the same request.
type Standing struct {
	Last     Record
	Content  []byte // digest of the request
	Sealed   []byte // what a reversal needs, nil when erased
	Answered bool   // an answer was about to be handed to the socket
	Open     bool   // neither answered nor final
	Tries    int    // of its reversal
	NextTry  time.Time
}

// standingSQL joins the last record of each transaction with its first journal facts and its projections. The last record has
// the state; the amount, card and so on are the same in all.
const standingSQL = `
SELECT k.txn_id, k.business_date, k.content_digest, k.terminal_id, k.merchant_id, k.batch, k.trace, k.mti, k.type60,
       l.seq, l.event, l.at, l.instance, coalesce(l.kind, ''), coalesce(l.proc_code, ''), coalesce(l.amount, 0),
       coalesce(l.currency, ''), coalesce(l.pan_masked, ''), l.pan_digest, coalesce(l.host, ''), coalesce(l.host_trace, ''),
       coalesce(l.rrn, ''), coalesce(l.state, ''), coalesce(l.detail, '{}'::jsonb),
       o.response_code, coalesce(o.auth_code, ''), coalesce(o.outcome, ''), coalesce(o.detail, '{}'::jsonb),
       coalesce(r.sealed, x.sealed), coalesce(x.open, false), coalesce(r.tries, 0), coalesce(r.next_try_at, l.at), coalesce(r.cause, ''),
       EXISTS (SELECT FROM transactions a WHERE a.business_date = k.business_date AND a.txn_id = k.txn_id AND a.event = 'answered')
  FROM transaction_keys k
  JOIN LATERAL (SELECT * FROM transactions t WHERE t.business_date = k.business_date AND t.txn_id = k.txn_id
                 ORDER BY seq DESC LIMIT 1) l ON true
  LEFT JOIN LATERAL (SELECT * FROM transactions t WHERE t.business_date = k.business_date AND t.txn_id = k.txn_id
                        AND t.event = 'outcome' ORDER BY seq LIMIT 1) o ON true
  LEFT JOIN transaction_secrets x ON x.txn_id = k.txn_id
  LEFT JOIN reversals r ON r.txn_id = k.txn_id`

// Find gives the newest transaction under a duplicate key that is not older than since, or nil.
func (s *Store) Find(ctx context.Context, k txn.Key, since time.Time) (*Standing, error) {
	rows, err := s.pool.Query(ctx, standingSQL+`
 WHERE k.terminal_id = $1 AND k.merchant_id = $2 AND k.batch = $3 AND k.trace = $4 AND k.mti = $5 AND k.type60 = $6 AND k.created_at >= $7
 ORDER BY k.business_date DESC LIMIT 1`, k.Terminal, k.Merchant, k.Batch, k.Trace, k.MTI, k.Type, since)
	if err != nil {
		return nil, fmt.Errorf("find transaction of terminal %s trace %s: %w", k.Terminal, k.Trace, err)
	}
	found, err := pgx.CollectExactlyOneRow(rows, scanStanding)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("find transaction of terminal %s trace %s: %w", k.Terminal, k.Trace, err)
	}
	return found, nil
}

// Unfinished gives the transactions of an instance that its last life left open, and the reversals it still owes.
func (s *Store) Unfinished(ctx context.Context, instance string) ([]*Standing, error) {
	rows, err := s.pool.Query(ctx, standingSQL+`
 WHERE k.txn_id IN (SELECT txn_id FROM transaction_secrets WHERE instance = $1 AND open
                    UNION SELECT txn_id FROM reversals WHERE owner = $1 AND state = 'pending')
 ORDER BY l.at`, instance)
	if err != nil {
		return nil, fmt.Errorf("read unfinished transactions of %s: %w", instance, err)
	}
	list, err := pgx.CollectRows(rows, scanStanding)
	if err != nil {
		return nil, fmt.Errorf("read unfinished transactions of %s: %w", instance, err)
	}
	return list, nil
}

// Recent gives the transactions that began since the given time, newest first, at most limit: what the duplicate check of a
// starting instance keeps in memory.
func (s *Store) Recent(ctx context.Context, since time.Time, limit int) ([]*Standing, error) {
	rows, err := s.pool.Query(ctx, standingSQL+` WHERE k.created_at >= $1 ORDER BY k.created_at DESC LIMIT $2`, since, limit)
	if err != nil {
		return nil, fmt.Errorf("read recent transactions: %w", err)
	}
	list, err := pgx.CollectRows(rows, scanStanding)
	if err != nil {
		return nil, fmt.Errorf("read recent transactions: %w", err)
	}
	return list, nil
}

func scanStanding(row pgx.CollectableRow) (*Standing, error) {
	var st Standing
	var date time.Time
	var code *string
	var reply txn.Reply
	var detail, last []byte
	l := &st.Last
	err := row.Scan(&l.Txn, &date, &st.Content, &l.Key.Terminal, &l.Key.Merchant, &l.Key.Batch, &l.Key.Trace, &l.Key.MTI, &l.Key.Type,
		&l.Seq, &l.Event, &l.At, &l.Instance, &l.Kind, &l.ProcCode, &l.Amount, &l.Currency, &l.PANMasked, &l.PANDigest,
		&l.Host, &l.HostTrace, &l.RRN, &l.State, &last, &code, &reply.AuthCode, &l.Outcome, &detail,
		&st.Sealed, &st.Open, &st.Tries, &st.NextTry, &l.Cause, &st.Answered)
	if err != nil {
		return nil, err
	}
	l.Date, l.Content = date.Format(time.DateOnly), st.Content
	var facts struct {
		Began    time.Time `json:"began"`
		Original string    `json:"original"`
	}
	if err := json.Unmarshal(last, &facts); err != nil {
		return nil, fmt.Errorf("journal detail of %s: %w", l.Txn, err)
	}
	l.Began = facts.Began
	if facts.Original != "" {
		if l.Original, err = txn.ParseID(facts.Original); err != nil {
			return nil, fmt.Errorf("journal detail of %s: %w", l.Txn, err)
		}
	}
	if code != nil {
		reply.Code, reply.RRN = *code, l.RRN
		var d struct {
			SettlementDate string    `json:"settlement_date"`
			Acquirer       string    `json:"acquirer"`
			Institutions   string    `json:"institutions"`
			HostTime       time.Time `json:"host_time"`
		}
		if err := json.Unmarshal(detail, &d); err != nil {
			return nil, fmt.Errorf("journal detail of %s: %w", l.Txn, err)
		}
		reply.SettlementDate, reply.AcquirerID, reply.Institutions, reply.HostTime = d.SettlementDate, d.Acquirer, d.Institutions, d.HostTime
		l.Reply = &reply
	}
	return &st, nil
}

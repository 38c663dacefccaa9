package dev

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/keyward/keyward/migrations"
)

// Journal tells what posp's journal in the database says of the newest purchase of a terminal with this trace number: one word per
// record, in order, such as "received", "sending", "reversal_done".
func (s *System) Journal(ctx context.Context, terminal, trace string) ([]string, error) {
	conn, err := pgx.Connect(ctx, s.database.URL(migrations.RolePOSP, databaseName))
	if err != nil {
		return nil, fmt.Errorf("read the journal: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	rows, err := conn.Query(ctx, `
SELECT t.event FROM transactions t
 WHERE t.txn_id = (SELECT txn_id FROM transaction_keys WHERE terminal_id = $1 AND trace = $2 AND mti = '0200' ORDER BY created_at DESC LIMIT 1)
 ORDER BY t.seq`, terminal, trace)
	if err != nil {
		return nil, fmt.Errorf("read the journal: %w", err)
	}
	events, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("read the journal: %w", err)
	}
	return events, nil
}

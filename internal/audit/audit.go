// Package audit appends to the audit table, reads it, and checks its SHA-256 chain without trusting the database that holds it
// (row X2). The chain is made by a trigger (migrations/0005); docs/database.md tells its bytes.
package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// maxPage bounds one reading of the table.
const maxPage = 1000

// Record is one row of the audit table.
type Record struct {
	Seq     int64     `json:"seq"` // 1, 2, 3 … without gaps
	At      time.Time `json:"at"`  // microseconds, by the clock of the database
	Service string    `json:"service"`
	Actor   string    `json:"actor"`
	Action  string    `json:"action"`
	Object  string    `json:"object"` // kind and name, for example "terminal:10000001"
	// Detail is PostgreSQL's own text of the JSON value, byte by byte: the hash covers it.
	Detail   string `json:"detail"`
	PrevHash []byte `json:"prev_hash"` // 32 bytes
	Hash     []byte `json:"hash"`      // 32 bytes
}

// Head is what the database says of the newest record.
type Head struct {
	Seq  int64  `json:"seq"`  // 0 for an empty chain
	Hash []byte `json:"hash"` // 32 bytes
}

// Filter chooses records. Empty members choose all.
type Filter struct {
	After   int64     // only records with a larger number
	Limit   int       // 1 to 1000; anything else is 1000
	Actor   string    // exactly
	Action  string    // exactly
	Object  string    // exactly
	Service string    // exactly
	Since   time.Time // at or after
	Newest  bool      // the newest first, then After is "only smaller numbers" unless zero
}

// Querier reads; *pgxpool.Pool and pgx.Tx do.
type Querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Execer writes; pgx.Tx does.
type Execer interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

// Append writes one record in the caller's transaction. Call it last before the commit: from then on every other writer of the
// chain waits. detail is encoded as a JSON object and must hold no key or card material; nil means none.
func Append(ctx context.Context, tx Execer, actor, action, object string, detail map[string]any) error {
	if detail == nil {
		detail = map[string]any{}
	}
	text, err := json.Marshal(detail)
	if err != nil {
		return fmt.Errorf("audit: encode the detail of %s: %w", action, err)
	}
	if _, err := tx.Exec(ctx, `INSERT INTO audit (actor, action, object, detail) VALUES ($1, $2, $3, $4::jsonb)`, actor, action, object, string(text)); err != nil {
		return fmt.Errorf("audit: write %s: %w", action, err)
	}
	return nil
}

// List reads records in the order of the chain, or newest first.
func List(ctx context.Context, q Querier, f Filter) ([]Record, error) {
	if f.Limit < 1 || f.Limit > maxPage {
		f.Limit = maxPage
	}
	order, edge := "ASC", "seq > $1"
	if f.Newest {
		order, edge = "DESC", "($1 = 0 OR seq < $1)"
	}
	var since *time.Time
	if !f.Since.IsZero() {
		since = &f.Since
	}
	rows, err := q.Query(ctx, `
SELECT seq, at, service, actor, action, object, detail::text, prev_hash, hash FROM audit
 WHERE `+edge+` AND ($2 = '' OR actor = $2) AND ($3 = '' OR action = $3) AND ($4 = '' OR object = $4) AND ($5 = '' OR service = $5)
   AND ($6::timestamptz IS NULL OR at >= $6)
 ORDER BY seq `+order+` LIMIT $7`, f.After, f.Actor, f.Action, f.Object, f.Service, since, f.Limit)
	if err != nil {
		return nil, fmt.Errorf("read audit records: %w", err)
	}
	records, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Record])
	if err != nil {
		return nil, fmt.Errorf("read audit records: %w", err)
	}
	return records, nil
}

// ReadHead reads the head of the chain. Only posv's role may.
func ReadHead(ctx context.Context, q Querier) (Head, error) {
	var h Head
	if err := q.QueryRow(ctx, `SELECT seq, hash FROM audit_head`).Scan(&h.Seq, &h.Hash); err != nil {
		return Head{}, fmt.Errorf("read the head of the audit chain: %w", err)
	}
	return h, nil
}

package registry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/keyward/keyward/internal/audit"
)

// Merchant owns terminals.
type Merchant struct {
	ID        string    `json:"merchant_id"` // 15 letters and digits, field 42
	Name      string    `json:"name"`
	State     string    `json:"state"` // active or suspended
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
}

const merchantColumns = `merchant_id, name, state, created_at, updated_at`

// PutMerchant registers or changes a merchant. An empty state keeps the one it has, or is active for a new one. A change of
// state concerns all of its terminals.
func (s *Store) PutMerchant(ctx context.Context, actor, id, name, state string) (m Merchant, created bool, err error) {
	if err := errors.Join(checkMerchantID(id), checkText("name", name, false)); err != nil {
		return m, false, firstRefusal(err)
	}
	if state != "" {
		if err := oneOf("state", state, active, "suspended"); err != nil {
			return m, false, err
		}
	}
	err = s.change(ctx, "put merchant "+id, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `INSERT INTO merchants (merchant_id, name, state) VALUES ($1, $2, coalesce(nullif($3, ''), 'active')) ON CONFLICT DO NOTHING`, id, name, state)
		if err != nil {
			return err
		}
		created = tag.RowsAffected() == 1
		if m, err = collectOne[Merchant](ctx, tx, `SELECT `+merchantColumns+` FROM merchants WHERE merchant_id = $1 FOR NO KEY UPDATE`, id); err != nil {
			return err
		}
		if created {
			return audit.Append(ctx, tx, actor, "merchant.register", "merchant:"+id, map[string]any{"name": name, "state": m.State})
		}
		return changeMerchant(ctx, tx, actor, &m, name, state)
	})
	return m, created, err
}

// changeMerchant brings a locked row to the new values.
func changeMerchant(ctx context.Context, tx pgx.Tx, actor string, m *Merchant, name, state string) error {
	if state == "" {
		state = m.State
	}
	if m.Name == name && m.State == state {
		return nil
	}
	before := *m
	var err error
	if *m, err = collectOne[Merchant](ctx, tx, `UPDATE merchants SET name = $2, state = $3, updated_at = now() WHERE merchant_id = $1 RETURNING `+merchantColumns, m.ID, name, state); err != nil {
		return err
	}
	if before.State != state { // the name concerns nobody but people
		terminals, err := collectTexts(ctx, tx, `SELECT terminal_id FROM terminals WHERE merchant_id = $1 ORDER BY 1`, m.ID)
		if err != nil {
			return err
		}
		if err := touch(ctx, tx, "merchant", terminals...); err != nil {
			return err
		}
	}
	return audit.Append(ctx, tx, actor, "merchant.change", "merchant:"+m.ID, map[string]any{
		"name": name, "former_name": before.Name, "state": state, "former_state": before.State,
	})
}

// Merchant reads one.
func (s *Store) Merchant(ctx context.Context, id string) (Merchant, error) {
	m, err := collectOne[Merchant](ctx, s.pool, `SELECT `+merchantColumns+` FROM merchants WHERE merchant_id = $1`, id)
	if errors.Is(err, pgx.ErrNoRows) {
		return m, &Refusal{Kind: NotFound, Detail: "merchant " + shown(id) + " is not registered", NextStep: "register it with PUT /v1/merchants/{merchant_id}"}
	}
	return m, wrap("read merchant", err)
}

// Merchants reads a page in the order of the numbers.
func (s *Store) Merchants(ctx context.Context, p Page) ([]Merchant, error) {
	return collect[Merchant](ctx, s.pool, `SELECT `+merchantColumns+` FROM merchants WHERE merchant_id > $1 ORDER BY merchant_id LIMIT $2`, p.After, p.limit())
}

// querier reads; the pool and a transaction do.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// collect reads rows by position into structs.
func collect[T any](ctx context.Context, q querier, sql string, args ...any) ([]T, error) {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("read the registry: %w", err)
	}
	out, err := pgx.CollectRows(rows, pgx.RowToStructByPos[T])
	return out, wrap("read the registry", err)
}

// collectOne reads one row; pgx.ErrNoRows when there is none.
func collectOne[T any](ctx context.Context, q querier, sql string, args ...any) (one T, err error) {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return one, err
	}
	return pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[T])
}

// collectTexts reads one column.
func collectTexts(ctx context.Context, q querier, sql string, args ...any) ([]string, error) {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

// shownID bounds how much of a wrong key comes back in an error.
const shownID = 24

// shown quotes a key that was asked for, bounded.
func shown(id string) string {
	if len(id) > shownID {
		id = id[:shownID] + "…"
	}
	return fmt.Sprintf("%q", id)
}

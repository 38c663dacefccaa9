// Package keystore holds the SQL and the rules of the key service's tables: keys as cryptograms under an LMK, their events, and the
// orders with the cards served under them. Every change commits together with its event and its audit record, or not at all.
//
// No clear key comes near it. The role is keyward_keys (migrations/0003_keys.up.sql).
package keystore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/keyward/keyward/keys"
)

// Errors that callers act on.
var (
	// ErrNotFound says that there is no such key.
	ErrNotFound = errors.New("no such key")
	// ErrOrderUsedUp says that the order allows no more: all its cards are served, or one card took too many tries.
	ErrOrderUsedUp = errors.New("the order is used up")
	// ErrOrderChanged says that another document with the same order number has been accepted before.
	ErrOrderChanged = errors.New("another order with this number is known")
	// ErrCheckValue says that a key made again is not the one that is stored.
	ErrCheckValue = errors.New("the check value differs from the stored one")
	// ErrState says that the key's state does not allow this.
	ErrState = errors.New("the key is not in a state for this")
	// ErrExists says that another key has this name, usage, algorithm and version.
	ErrExists = errors.New("another key has this name and version")
)

// Key is one row of the table keys. Cryptogram and KCV of the embedded key are empty until it is active.
type Key struct {
	keys.Wrapped
	ID      int64
	Name    string // PSAM-ROOT, PSAM:60000000000000000001 …
	State   keys.State
	Parent  int64    // the key it was derived from, 0 for none
	Factors []string // outermost level first, 16 hex digits each
}

// Store reads and writes the tables. It is safe for concurrent use.
type Store struct {
	pool *pgxpool.Pool
}

// New makes a store over connections of the role keyward_keys.
func New(pool *pgxpool.Pool) *Store { return &Store{pool: pool} }

const columns = `key_id, name, usage, algorithm, version, lmk_domain, coalesce(cryptogram, ''), coalesce(kcv, ''), state, coalesce(parent_id, 0), factors`

// Newest returns the highest version of a key that is neither failed nor destroyed, whatever its state else. The error is
// ErrNotFound when there is none.
func (s *Store) Newest(ctx context.Context, name string, usage keys.Usage, algorithm keys.Algorithm) (Key, error) {
	return newest(ctx, s.pool, name, usage, algorithm)
}

// Get returns one key by its number.
func (s *Store) Get(ctx context.Context, id int64) (Key, error) {
	return one(ctx, s.pool, `SELECT `+columns+` FROM keys WHERE key_id = $1`, id)
}

// OfCard returns all keys of a card in the order in which they were made.
func (s *Store) OfCard(ctx context.Context, psamNo string) ([]Key, error) {
	rows, err := s.pool.Query(ctx, `SELECT `+columns+` FROM keys WHERE name = ANY($1) ORDER BY key_id`, []string{CardName(psamNo), AppName(psamNo)})
	if err != nil {
		return nil, fmt.Errorf("read the keys of card %s: %w", psamNo, err)
	}
	found, err := pgx.CollectRows(rows, scan)
	if err != nil {
		return nil, fmt.Errorf("read the keys of card %s: %w", psamNo, err)
	}
	return found, nil
}

// CardName is the name of a card's master key (usage tmk) and of its card control key (usage card-control).
func CardName(psamNo string) string { return "PSAM:" + psamNo }

// AppName is the name of a card's application control key (usage card-control).
func AppName(psamNo string) string { return "PSAM:" + psamNo + ":ACK" }

// querier is a pool or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

func newest(ctx context.Context, q querier, name string, usage keys.Usage, algorithm keys.Algorithm) (Key, error) {
	k, err := one(ctx, q, `SELECT `+columns+` FROM keys WHERE name = $1 AND usage = $2 AND algorithm = $3 AND state NOT IN ('failed', 'destroyed')
		ORDER BY version DESC LIMIT 1`, name, usage.String(), algorithm.String())
	if err != nil {
		return Key{}, fmt.Errorf("key %s (%s, %s): %w", name, usage, algorithm, err)
	}
	return k, nil
}

func one(ctx context.Context, q querier, sql string, args ...any) (Key, error) {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return Key{}, err
	}
	k, err := pgx.CollectExactlyOneRow(rows, scan)
	if errors.Is(err, pgx.ErrNoRows) {
		return Key{}, ErrNotFound
	}
	return k, err
}

func scan(row pgx.CollectableRow) (k Key, err error) {
	var usage, algorithm, kcv, state string
	if err = row.Scan(&k.ID, &k.Name, &usage, &algorithm, &k.Version, &k.Domain, &k.Cryptogram, &kcv, &state, &k.Parent, &k.Factors); err != nil {
		return Key{}, err
	}
	k.KCV, k.State = keys.KCV(kcv), keys.State(state)
	if k.Usage, err = keys.ParseUsage(usage); err != nil {
		return Key{}, fmt.Errorf("key %d: %w", k.ID, err)
	}
	if k.Algorithm, err = keys.ParseAlgorithm(algorithm); err != nil {
		return Key{}, fmt.Errorf("key %d: %w", k.ID, err)
	}
	return k, nil
}

// tx runs fn in one transaction.
func (s *Store) tx(ctx context.Context, what string, fn func(tx pgx.Tx) error) error {
	if err := pgx.BeginFunc(ctx, s.pool, fn); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// lock holds a name until the transaction ends. The tables of orders are append-only for this role, so there is no row to lock.
func lock(ctx context.Context, tx pgx.Tx, kind, name string) error {
	_, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock(hashtextextended($1, 0))`, "keyward."+kind+":"+name)
	return err
}

// Detail holds further facts of an event. Never key material.
type Detail map[string]any

// event writes the event of a key and the audit record of the same fact. from and to are empty when the event changed no state.
func event(ctx context.Context, tx pgx.Tx, k Key, name string, from, to keys.State, actor string, detail Detail) error {
	if detail == nil {
		detail = Detail{}
	}
	text, err := json.Marshal(detail)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `INSERT INTO key_events (key_id, event, from_state, to_state, actor, detail) VALUES ($1, $2, nullif($3, ''), nullif($4, ''), $5, $6)`,
		k.ID, name, string(from), string(to), actor, text)
	if err != nil {
		return fmt.Errorf("write the event: %w", err)
	}
	_, err = tx.Exec(ctx, `INSERT INTO audit (actor, action, object, detail) VALUES ($1, $2, $3, $4)`,
		actor, "key."+name, fmt.Sprintf("%s %s/%s v%d", k.Name, k.Usage, k.Algorithm, k.Version), text)
	if err != nil {
		return fmt.Errorf("write the audit record: %w", err)
	}
	return nil
}

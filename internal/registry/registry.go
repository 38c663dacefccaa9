// Package registry holds the SQL and the rules of the device table: merchants, terminals, PSAM cards, and which card sits in which
// terminal (rows P4 and P5). It works with posv's role.
//
// Every change is one database transaction with four parts: the row, its history row, one device_changes row for each terminal
// that posp must read again, and the audit record. Nothing is ever deleted.
//
// Locks are taken in one order, so that two changes never wait for each other: terminal, card, binding, device_changes, audit head.
// Rows are locked with FOR NO KEY UPDATE, because a foreign key check of another change must not wait.
package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// MaxPage bounds one page of a list: a page of the console, or an export in steps.
	MaxPage = 500
	// maxText bounds names and reasons: a line on a screen.
	maxText = 200
	// maxHistory bounds the events, bindings and sign-ons shown of one object; the rest is in the audit.
	maxHistory = 100
)

// Kind says what a refusal is about.
type Kind uint8

// The kinds of refusal.
const (
	NotFound Kind = iota + 1 // there is no such object
	Invalid                  // a value is not allowed
	Conflict                 // the state of the registry does not allow it
)

// Refusal is a change that the rules do not allow. Its texts are for the person who asked.
type Refusal struct {
	Kind     Kind
	Detail   string // what is wrong
	NextStep string // what to do now
}

// Error implements error.
func (r *Refusal) Error() string { return r.Detail + "; " + r.NextStep }

// Page asks for a part of a list in the order of the keys.
type Page struct {
	After string // only keys above this one; empty starts at the beginning
	Limit int    // 1 to MaxPage; anything else is MaxPage
}

// Event is one row of the history of a terminal or a card.
type Event struct {
	ID        int64           `json:"id"`
	Event     string          `json:"event"` // one word: registered, changed, suspended, bound …
	FromState string          `json:"from_state,omitempty"`
	ToState   string          `json:"to_state,omitempty"`
	Actor     string          `json:"actor"`
	At        time.Time       `json:"at"`
	Detail    json.RawMessage `json:"detail"`
}

// Store is the registry in a database.
type Store struct{ pool *pgxpool.Pool }

// New makes a store on posv's role.
func New(pool *pgxpool.Pool) *Store { return &Store{pool: pool} }

// limit gives the rows to read.
func (p Page) limit() int {
	if p.Limit < 1 || p.Limit > MaxPage {
		return MaxPage
	}
	return p.Limit
}

// change runs one change in one transaction.
func (s *Store) change(ctx context.Context, what string, do func(tx pgx.Tx) error) error {
	err := pgx.BeginFunc(ctx, s.pool, do)
	var refusal *Refusal
	if err == nil || errors.As(err, &refusal) {
		return err
	}
	return fmt.Errorf("%s: %w", what, err)
}

// touch tells posp which terminals to read again. The trigger device_changes_lock holds pg_advisory_xact_lock until the commit, so
// that numbers become visible in their order.
func touch(ctx context.Context, tx pgx.Tx, kind string, terminals ...string) error {
	if len(terminals) == 0 {
		return nil
	}
	_, err := tx.Exec(ctx, `INSERT INTO device_changes (terminal_id, kind) SELECT t, $2 FROM unnest($1::text[]) AS t ORDER BY t`, terminals, kind)
	return err
}

// note is a history row to write.
type note struct {
	event, from, to, actor string
	detail                 map[string]any
}

// terminalEvent writes the history of a terminal.
func terminalEvent(ctx context.Context, tx pgx.Tx, id string, n note) error {
	return addEvent(ctx, tx, `INSERT INTO terminal_events (terminal_id, event, from_state, to_state, actor, detail) VALUES ($1, $2, $3, $4, $5, $6::jsonb)`, id, n)
}

// cardEvent writes the history of a card.
func cardEvent(ctx context.Context, tx pgx.Tx, psam string, n note) error {
	return addEvent(ctx, tx, `INSERT INTO card_events (psam_no, event, from_state, to_state, actor, detail) VALUES ($1, $2, $3, $4, $5, $6::jsonb)`, psam, n)
}

func addEvent(ctx context.Context, tx pgx.Tx, statement, id string, n note) error {
	if n.detail == nil {
		n.detail = map[string]any{}
	}
	detail, err := json.Marshal(n.detail)
	if err != nil {
		return fmt.Errorf("encode the event: %w", err)
	}
	_, err = tx.Exec(ctx, statement, id, n.event, nullText(n.from), nullText(n.to), n.actor, string(detail))
	return err
}

// eventColumns are those of Event, in its order.
const eventColumns = `id, event, coalesce(from_state, ''), coalesce(to_state, ''), actor, at, detail`

// events reads the newest events of one object, newest first.
func (s *Store) events(ctx context.Context, table, column, id string) ([]Event, error) {
	rows, err := s.pool.Query(ctx, `SELECT `+eventColumns+` FROM `+table+` WHERE `+column+` = $1 ORDER BY id DESC LIMIT $2`, id, maxHistory)
	if err != nil {
		return nil, fmt.Errorf("read events: %w", err)
	}
	events, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Event])
	if err != nil {
		return nil, fmt.Errorf("read events: %w", err)
	}
	return events, nil
}

func nullText(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// violates says that err comes from the named constraint or unique index.
func violates(err error, constraint string) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.ConstraintName == constraint
}

// checkID refuses a key that does not have n characters of the class.
func checkID(what, id string, n int, allowed func(byte) bool, form string) error {
	ok := len(id) == n
	for i := 0; ok && i < len(id); i++ {
		ok = allowed(id[i])
	}
	if !ok {
		return &Refusal{Kind: Invalid, Detail: what + " is not " + form, NextStep: "correct it and send the request again"}
	}
	return nil
}

func digit(c byte) bool { return '0' <= c && c <= '9' }

func alphanumeric(c byte) bool { return digit(c) || 'a' <= c|0x20 && c|0x20 <= 'z' }

func checkMerchantID(id string) error {
	return checkID("merchant_id", id, 15, alphanumeric, "15 letters and digits (field 42)")
}

func checkTerminalID(id string) error {
	return checkID("terminal_id", id, 8, alphanumeric, "8 letters and digits (field 41)")
}

func checkPSAM(no string) error { return checkID("psam_no", no, 20, digit, "20 digits") }

// checkText refuses what no screen can show in one line.
func checkText(what, text string, mayBeEmpty bool) error {
	bad := !utf8.ValidString(text) || utf8.RuneCountInString(text) > maxText || strings.ContainsFunc(text, unicode.IsControl) ||
		(!mayBeEmpty && strings.TrimSpace(text) == "")
	if bad {
		return &Refusal{Kind: Invalid, Detail: fmt.Sprintf("%s must be one line of 1 to %d characters", what, maxText), NextStep: "correct it and send the request again"}
	}
	return nil
}

func oneOf(what, value string, allowed ...string) error {
	for _, a := range allowed {
		if a == value {
			return nil
		}
	}
	return &Refusal{Kind: Invalid, Detail: what + " must be one of: " + strings.Join(allowed, ", "), NextStep: "correct it and send the request again"}
}

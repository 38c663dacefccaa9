package issuer

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/keyward/keyward/internal/audit"
)

// Run is one row of issue_runs.
type Run struct {
	ID      string    `json:"run_id"`
	PSAM    string    `json:"psam_no"`
	Order   string    `json:"order_id"`
	State   string    `json:"state"` // started, derived, written, verified, personalised, failed
	Step    string    `json:"step"`  // under way or failed
	Error   string    `json:"error"`
	Created time.Time `json:"created_at"`
	Updated time.Time `json:"updated_at"`
}

// States of a run.
const (
	runDerived      = "derived"
	runWritten      = "written"
	runVerified     = "verified"
	runPersonalised = "personalised"
)

// Errors of the table.
var (
	errNoRun    = errors.New("there is no such run")
	errOtherRun = errors.New("the idempotency key belongs to the run of another card")
	errBusy     = errors.New("a run for this card is under way")
)

// maxError bounds the text that is kept of a failure.
const maxError = 1000

// runs is the table issue_runs.
type runs struct{ pool *pgxpool.Pool }

const runColumns = `run_id::text, psam_no, order_id::text, state, step, error, created_at, updated_at`

func scanRun(row pgx.CollectableRow) (r Run, err error) {
	err = row.Scan(&r.ID, &r.PSAM, &r.Order, &r.State, &r.Step, &r.Error, &r.Created, &r.Updated)
	return r, err
}

func (s runs) one(ctx context.Context, where string, arg string) (Run, error) {
	rows, err := s.pool.Query(ctx, `SELECT `+runColumns+` FROM issue_runs WHERE `+where, arg)
	if err != nil {
		return Run{}, fmt.Errorf("read the run: %w", err)
	}
	r, err := pgx.CollectExactlyOneRow(rows, scanRun)
	if errors.Is(err, pgx.ErrNoRows) {
		return Run{}, errNoRun
	}
	return r, err
}

// get reads one run by its number.
func (s runs) get(ctx context.Context, id string) (Run, error) {
	return s.one(ctx, `run_id::text = $1`, id)
}

// byKey reads the run of an idempotency key. A run for another card is errOtherRun.
func (s runs) byKey(ctx context.Context, key, psamNo string) (Run, error) {
	r, err := s.one(ctx, `idempotency_key = $1`, key)
	if err == nil && r.PSAM != psamNo {
		return Run{}, errOtherRun
	}
	return r, err
}

// list reads the latest runs, newest first; an empty number means all cards.
func (s runs) list(ctx context.Context, psamNo string, limit int) ([]Run, error) {
	rows, err := s.pool.Query(ctx, `SELECT `+runColumns+` FROM issue_runs WHERE $1 = '' OR psam_no = $1 ORDER BY created_at DESC, run_id LIMIT $2`, psamNo, limit)
	if err != nil {
		return nil, fmt.Errorf("read the runs: %w", err)
	}
	return pgx.CollectRows(rows, scanRun)
}

// begin stores a new run, or takes the earlier one of the same key up again.
func (s runs) begin(ctx context.Context, key, psamNo, orderID, step string) (Run, error) {
	rows, err := s.pool.Query(ctx, `INSERT INTO issue_runs (run_id, psam_no, order_id, idempotency_key, step) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (idempotency_key) DO UPDATE SET order_id = excluded.order_id, state = 'started', step = excluded.step, error = '', updated_at = now()
		WHERE issue_runs.psam_no = excluded.psam_no AND issue_runs.state <> 'personalised' RETURNING `+runColumns, newID(), psamNo, orderID, key, step)
	if err != nil {
		return Run{}, fmt.Errorf("store the run: %w", err)
	}
	r, err := pgx.CollectExactlyOneRow(rows, scanRun)
	if errors.Is(err, pgx.ErrNoRows) {
		return Run{}, errOtherRun
	}
	if err != nil {
		return Run{}, fmt.Errorf("store the run: %w", err)
	}
	return r, nil
}

// step records what is about to be done.
func (s runs) step(ctx context.Context, id, step string) error {
	if _, err := s.pool.Exec(ctx, `UPDATE issue_runs SET step = $2, updated_at = now() WHERE run_id = $1`, id, step); err != nil {
		return fmt.Errorf("record the step: %w", err)
	}
	return nil
}

// state records how far the run has come.
func (s runs) state(ctx context.Context, id, state string) error {
	if _, err := s.pool.Exec(ctx, `UPDATE issue_runs SET state = $2, updated_at = now() WHERE run_id = $1`, id, state); err != nil {
		return fmt.Errorf("record the state: %w", err)
	}
	return nil
}

// end records the end of a run together with its audit record. cause is nil when the card is personalised.
func (s runs) end(ctx context.Context, r Run, actor string, cause error) error {
	state, text := runPersonalised, ""
	if cause != nil {
		state, text = "failed", cause.Error()
		text = text[:min(len(text), maxError)]
	}
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `UPDATE issue_runs SET state = $2, error = $3, updated_at = now() WHERE run_id = $1`, r.ID, state, text); err != nil {
			return err
		}
		return audit.Append(ctx, tx, actor, "card.issue", "card:"+r.PSAM, map[string]any{"run_id": r.ID, "order_id": r.Order, "state": state})
	})
	if err != nil {
		return fmt.Errorf("record the end of the run: %w", err)
	}
	return nil
}

// lock keeps other runs, in this process or another, from the same card. Call release when the run is over.
func (s runs) lock(ctx context.Context, psamNo string) (release func(), err error) {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return nil, fmt.Errorf("lock the card: %w", err)
	}
	name := "keyward.issue:" + psamNo
	var got bool
	if err := conn.QueryRow(ctx, `SELECT pg_try_advisory_lock(hashtextextended($1, 0))`, name).Scan(&got); err != nil {
		conn.Release()
		return nil, fmt.Errorf("lock the card: %w", err)
	}
	if !got {
		conn.Release()
		return nil, errBusy
	}
	return func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
		defer cancel()
		if _, err := conn.Exec(ctx, `SELECT pg_advisory_unlock(hashtextextended($1, 0))`, name); err != nil {
			_ = conn.Conn().Close(ctx) // the lock ends with its connection
		}
		conn.Release()
	}, nil
}

// newID makes a random UUID (RFC 9562 §5.4).
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0F|0x40, b[8]&0x3F|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

package rewrap

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/keyward/keyward/keys"
)

// dbTimeout bounds one statement or small transaction of the engine: the largest batch takes a fraction of a second.
const dbTimeout = 15 * time.Second

// querier is a pool, a connection or a transaction.
type querier interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// store holds the SQL of jobs, twins and differences. The role is keyward_keys (migrations/0010_rewrap.up.sql).
type store struct{ pool *pgxpool.Pool }

const jobSQL = `SELECT j.job_id, j.from_domain, j.to_domain, j.method, coalesce(j.zmk_key_id, 0), coalesce(z.name, ''), j.state, j.rate, j.share, j.names,
	j.started_by, j.ordered_by, j.trouble, j.created_at, j.updated_at, j.copied_at, j.switched_at, j.ended_at
	FROM rewrap_jobs j LEFT JOIN keys z ON z.key_id = j.zmk_key_id `

func scanJob(row pgx.CollectableRow) (j Job, err error) {
	err = row.Scan(&j.ID, &j.From, &j.To, &j.Method, &j.zmkID, &j.ZMK, &j.State, &j.Rate, &j.Share, &j.Names,
		&j.StartedBy, &j.OrderedBy, &j.Trouble, &j.CreatedAt, &j.UpdatedAt, &j.CopiedAt, &j.SwitchedAt, &j.EndedAt)
	return j, err
}

// job reads one job; lock is "" or a locking clause.
func job(ctx context.Context, q querier, id int64, lock string) (Job, error) {
	rows, err := q.Query(ctx, jobSQL+`WHERE j.job_id = $1 `+lock, id)
	if err != nil {
		return Job{}, fmt.Errorf("read job %d: %w", id, err)
	}
	j, err := pgx.CollectExactlyOneRow(rows, scanJob)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return Job{}, fmt.Errorf("job %d: %w", id, ErrNotFound)
	case err != nil:
		return Job{}, fmt.Errorf("read job %d: %w", id, err)
	}
	return j, nil
}

// jobs lists jobs, newest first; open ones alone when open is set.
func (s *store) jobs(ctx context.Context, q querier, open bool) ([]Job, error) {
	rows, err := q.Query(ctx, jobSQL+`WHERE NOT $1 OR j.state NOT IN ('retired', 'cancelled') ORDER BY j.job_id DESC LIMIT 200`, open)
	if err != nil {
		return nil, fmt.Errorf("list the jobs: %w", err)
	}
	list, err := pgx.CollectRows(rows, scanJob)
	if err != nil {
		return nil, fmt.Errorf("list the jobs: %w", err)
	}
	return list, nil
}

// tx runs fn in one transaction within dbTimeout.
func (s *store) tx(ctx context.Context, what string, fn func(ctx context.Context, tx pgx.Tx) error) error {
	ctx, cancel := context.WithTimeout(ctx, dbTimeout)
	defer cancel()
	if err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error { return fn(ctx, tx) }); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// move takes a job from the state that the caller read under lock to another, with its audit record, which comes last in the transaction
// because writers of the audit wait for each other.
func move(ctx context.Context, tx pgx.Tx, j Job, to State, actor, trouble string, detail map[string]any) error {
	if err := j.State.CheckMove(to); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, `UPDATE rewrap_jobs SET state = $2, trouble = $3, updated_at = now(),
		copied_at = CASE WHEN $2 = 'copied' THEN coalesce(copied_at, now()) ELSE copied_at END,
		switched_at = CASE WHEN $2 = 'switched' THEN now() WHEN $2 = 'copied' THEN NULL ELSE switched_at END,
		ended_at = CASE WHEN $2 IN ('retired', 'cancelled') THEN now() END WHERE job_id = $1`, j.ID, string(to), trouble)
	if err != nil {
		return fmt.Errorf("job %d: %w", j.ID, err)
	}
	return record(ctx, tx, j, string(to), actor, detail)
}

// record writes the audit record of a step.
func record(ctx context.Context, tx pgx.Tx, j Job, what, actor string, detail map[string]any) error {
	full := map[string]any{"from": j.From, "to": j.To, "method": j.Method}
	for name, value := range detail {
		full[name] = value
	}
	text, err := json.Marshal(full)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `INSERT INTO audit (actor, action, object, detail) VALUES ($1, $2, $3, $4)`,
		actor, "rewrap."+what, fmt.Sprintf("rewrap:%d", j.ID), text)
	if err != nil {
		return fmt.Errorf("write the audit record: %w", err)
	}
	return nil
}

// eventSQL writes one key event for each key number of $1 under the name $2, by $3, with the detail $4.
const eventSQL = `INSERT INTO key_events (key_id, event, actor, detail) SELECT k, $2, $3, $4 FROM unnest($1::bigint[]) AS k ORDER BY k`

// events writes the events of a batch of keys.
func events(ctx context.Context, tx pgx.Tx, j Job, ids []int64, name, actor string) error {
	text, err := json.Marshal(map[string]any{"job": j.ID, "from": j.From, "to": j.To})
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, eventSQL, ids, name, actor, text); err != nil {
		return fmt.Errorf("write the events: %w", err)
	}
	return nil
}

// stored is a key in the domain that a job leaves, as the work on it needs it.
type stored struct {
	keys.Wrapped
	id   int64
	name string
	// twin is the cryptogram in the new domain that is there already, from a ceremony or from a job before; "" for none.
	twin string
}

// storedColumns belong to keys as k and key_twins as t.
const storedColumns = `k.key_id, k.name, k.usage, k.algorithm, k.version, k.lmk_domain, k.cryptogram, k.kcv, coalesce(t.cryptogram, '')`

func scanStored(row pgx.CollectableRow) (s stored, err error) {
	var usage, algorithm string
	if err = row.Scan(&s.id, &s.name, &usage, &algorithm, &s.Version, &s.Domain, &s.Cryptogram, &s.KCV, &s.twin); err != nil {
		return s, err
	}
	var usageErr, algorithmErr error
	s.Usage, usageErr = keys.ParseUsage(usage)
	s.Algorithm, algorithmErr = keys.ParseAlgorithm(algorithm)
	if err := errors.Join(usageErr, algorithmErr); err != nil {
		return s, fmt.Errorf("key %d: %w", s.id, err)
	}
	return s, nil
}

// unproven reads the next keys of the old domain after a key number that have neither a proven twin of this job nor a difference.
func (s *store) unproven(ctx context.Context, q querier, j Job, after int64, limit int) ([]stored, error) {
	ctx, cancel := context.WithTimeout(ctx, dbTimeout)
	defer cancel()
	rows, err := q.Query(ctx, `SELECT `+storedColumns+` FROM keys k
		LEFT JOIN key_twins t ON t.key_id = k.key_id AND t.lmk_domain = $3 AND t.cryptogram IS NOT NULL
		WHERE k.lmk_domain = $2 AND k.cryptogram IS NOT NULL AND k.key_id > $4 AND (t.twin_id IS NULL OR t.job_id IS DISTINCT FROM $1)
		  AND NOT EXISTS (SELECT FROM rewrap_differences d WHERE d.job_id = $1 AND d.key_id = k.key_id)
		ORDER BY k.key_id LIMIT $5`, j.ID, j.From, j.To, after, limit)
	if err != nil {
		return nil, fmt.Errorf("read the keys of domain %s: %w", j.From, err)
	}
	list, err := pgx.CollectRows(rows, scanStored)
	if err != nil {
		return nil, fmt.Errorf("read the keys of domain %s: %w", j.From, err)
	}
	return list, nil
}

// zmk gives the number of the zone master key for keys of an algorithm: that of the job's name with the same algorithm, because devices let no
// key travel under one of another family; else the job's own.
func (s *store) zmk(ctx context.Context, j Job, algorithm keys.Algorithm) (int64, error) {
	var id int64
	err := s.pool.QueryRow(ctx, `SELECT k.key_id FROM keys k JOIN key_twins t ON t.key_id = k.key_id AND t.cryptogram IS NOT NULL
		WHERE k.name = $1 AND k.usage = $2 AND k.algorithm = $3 AND k.state = 'active' AND ARRAY[k.lmk_domain, t.lmk_domain] @> ARRAY[$4, $5]
		ORDER BY k.version DESC LIMIT 1`, j.ZMK, keys.ZoneMaster.String(), algorithm.String(), j.From, j.To).Scan(&id)
	if errors.Is(err, pgx.ErrNoRows) {
		return j.zmkID, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read zone master key %s: %w", j.ZMK, err)
	}
	return id, nil
}

// inDomain gives a key as it is held in a domain: its own row, or a twin.
func inDomain(ctx context.Context, q querier, id int64, domain string) (keys.Wrapped, error) {
	rows, err := q.Query(ctx, `SELECT k.key_id, k.name, k.usage, k.algorithm, k.version, $2::text, coalesce(CASE WHEN k.lmk_domain = $2 THEN k.cryptogram END, t.cryptogram),
		k.kcv, '' FROM keys k LEFT JOIN key_twins t ON t.key_id = k.key_id AND t.lmk_domain = $2 AND t.cryptogram IS NOT NULL
		WHERE k.key_id = $1 AND k.cryptogram IS NOT NULL AND (k.lmk_domain = $2 OR t.twin_id IS NOT NULL)`, id, domain)
	if err != nil {
		return keys.Wrapped{}, fmt.Errorf("read key %d: %w", id, err)
	}
	k, err := pgx.CollectExactlyOneRow(rows, scanStored)
	if errors.Is(err, pgx.ErrNoRows) {
		return keys.Wrapped{}, fmt.Errorf("key %d is not there in LMK domain %s", id, domain)
	}
	if err != nil {
		return keys.Wrapped{}, fmt.Errorf("read key %d: %w", id, err)
	}
	return k.Wrapped, nil
}

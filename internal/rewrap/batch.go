package rewrap

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
)

// errMoved says that somebody moved the job meanwhile: what was done for the old state is dropped.
var errMoved = errors.New("the job has moved on")

// hopeless is how many of the first keys must fail, and none succeed, for the job to be given up: a wrong LMK, not wrong keys.
const hopeless = 20

// maxReason bounds what is stored of a reason.
const maxReason = 500

// inState runs one batch of the background in a transaction that keeps the job in the state that it was read in: an order given meanwhile
// waits for the batch, and a batch after the order does nothing.
func (e *Engine) inState(ctx context.Context, j Job, what string, fn func(ctx context.Context, tx pgx.Tx) error) error {
	return e.store.tx(ctx, fmt.Sprintf("job %d: %s", j.ID, what), func(ctx context.Context, tx pgx.Tx) error {
		now, err := job(ctx, tx, j.ID, "FOR SHARE OF j")
		if err != nil {
			return err
		}
		if now.State != j.State || now.Share != j.Share || len(now.Names) != len(j.Names) {
			return errMoved
		}
		return fn(ctx, tx)
	})
}

// advance is a move that the work itself makes. What it audits are the counts at that moment.
func (e *Engine) advance(ctx context.Context, j Job, to State, trouble error) error {
	err := e.store.tx(ctx, fmt.Sprintf("job %d becomes %s", j.ID, to), func(ctx context.Context, tx pgx.Tx) error {
		now, err := job(ctx, tx, j.ID, "FOR UPDATE OF j")
		if err != nil {
			return err
		}
		if now.State != j.State || now.Share != j.Share || len(now.Names) != len(j.Names) {
			return errMoved
		}
		p, err := e.store.progress(ctx, tx, now)
		if err != nil {
			return err
		}
		text := ""
		if trouble != nil {
			text = trouble.Error()
		}
		return move(ctx, tx, now, to, now.OrderedBy, text, map[string]any{
			"done": p.Done, "left": p.Left, "differences": p.Differences, "switched": p.Switched, "share": now.Share,
		})
	})
	if err == nil {
		e.cfg.Log.InfoContext(ctx, "moving keys: the job has a new state", "job", j.ID, "from", j.From, "to", j.To, "state", string(to))
	}
	return err
}

// setTrouble notes what keeps a job waiting; "" when nothing does any more. It is for people to read, so a failure to note it is no more than
// a line in the log.
func (e *Engine) setTrouble(ctx context.Context, j Job, text string) {
	if len(text) > maxReason {
		text = text[:maxReason]
	}
	ctx, cancel := context.WithTimeout(ctx, dbTimeout)
	defer cancel()
	if _, err := e.store.pool.Exec(ctx, `UPDATE rewrap_jobs SET trouble = $2, updated_at = now() WHERE job_id = $1 AND state = $3 AND trouble <> $2`, j.ID, text, string(j.State)); err != nil && ctx.Err() == nil {
		e.cfg.Log.WarnContext(ctx, "moving keys: trouble cannot be noted", "job", j.ID, "error", err)
	}
}

// twinsSQL stores proven twins. The key's row is locked and must still be what was proven: a key that was destroyed or changed meanwhile gets
// no twin. A twin that was there before becomes the job's, if it is the one that was proven.
const twinsSQL = `
WITH proven AS (
    SELECT * FROM unnest($3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[]) AS p(key_id, cryptogram, twin, before, after)
), present AS (
    SELECT k.key_id, p.twin, p.before, p.after FROM keys k JOIN proven p USING (key_id)
     WHERE k.lmk_domain = $8 AND k.cryptogram = p.cryptogram ORDER BY k.key_id FOR SHARE OF k
)
INSERT INTO key_twins AS t (key_id, job_id, lmk_domain, cryptogram, kcv_before, kcv_after)
SELECT key_id, $1, $2, twin, before, after FROM present
ON CONFLICT (key_id, lmk_domain) WHERE cryptogram IS NOT NULL
DO UPDATE SET job_id = excluded.job_id, kcv_before = excluded.kcv_before, kcv_after = excluded.kcv_after WHERE t.cryptogram = excluded.cryptogram
RETURNING key_id`

// recordBatch stores twins and differences with their events.
func (e *Engine) recordBatch(ctx context.Context, j Job, results []result) error {
	var ids []int64
	var olds, twins, befores, afters []string
	var differing []result
	for _, r := range results {
		switch {
		case r.err == nil:
			ids, olds, twins = append(ids, r.key.id), append(olds, r.key.Cryptogram), append(twins, r.twin)
			befores, afters = append(befores, string(r.before)), append(afters, string(r.after))
		case errors.Is(r.err, errDiffers):
			differing = append(differing, r)
		}
	}
	if len(ids)+len(differing) == 0 {
		return nil
	}
	var lost bool
	var made []int64
	err := e.inState(ctx, j, "record a batch", func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, twinsSQL, j.ID, j.To, ids, olds, twins, befores, afters, j.From)
		if err != nil {
			return err
		}
		if made, err = pgx.CollectRows(rows, pgx.RowTo[int64]); err != nil {
			return err
		}
		for _, r := range differing {
			reason := r.err.Error()
			if _, err := tx.Exec(ctx, `INSERT INTO rewrap_differences (job_id, key_id, reason, kcv_before, kcv_after) VALUES ($1, $2, $3, $4, $5)
				ON CONFLICT (job_id, key_id) DO UPDATE SET reason = excluded.reason, kcv_before = excluded.kcv_before, kcv_after = excluded.kcv_after, at = now()`,
				j.ID, r.key.id, reason[:min(len(reason), maxReason)], string(r.before), string(r.after)); err != nil {
				return err
			}
			if err := events(ctx, tx, j, []int64{r.key.id}, "rewrap_difference", j.OrderedBy); err != nil {
				return err
			}
		}
		if err := events(ctx, tx, j, made, "rewrap_copied", j.OrderedBy); err != nil {
			return err
		}
		if len(made) == 0 && j.State == Copying {
			return tx.QueryRow(ctx, `SELECT NOT EXISTS (SELECT FROM key_twins WHERE job_id = $1) AND (SELECT count(*) FROM rewrap_differences WHERE job_id = $1) >= $2`,
				j.ID, hopeless).Scan(&lost)
		}
		return nil
	})
	if err != nil {
		return err
	}
	e.metrics.keys.WithLabelValues("copied").Add(float64(len(made)))
	e.metrics.keys.WithLabelValues("different").Add(float64(len(differing)))
	for _, r := range differing {
		e.cfg.Log.ErrorContext(ctx, "alarm: a key cannot be moved with proof", "job", j.ID, "key_id", r.key.id, "usage", r.key.Usage.String(), "reason", r.err)
	}
	if lost {
		return e.advance(ctx, j, Failed, fmt.Errorf("the first %d keys all differ: look at the report; as a rule a device holds another LMK than its domain says", hopeless))
	}
	return nil
}

// selected is the condition of a switch on keys k: $5 is the share in percent of the cards, $6 are names. A card's keys change over together;
// keys that belong to no card are in no share but the whole.
const selected = `($5 = 100 OR k.name = ANY ($6::text[]) OR
	(k.name ~ '^PSAM:[0-9]{20}' AND ('x' || substr(md5(substr(k.name, 6, 20)), 1, 7))::bit(28)::int % 100 < $5))`

// swapSQL exchanges the cryptograms of keys with those of their twins; %s chooses which. Each statement sees the rows as they were before.
const swapSQL = `
WITH picked AS (
    SELECT k.key_id, k.lmk_domain, k.cryptogram, t.twin_id, t.lmk_domain AS twin_domain, t.cryptogram AS twin
      FROM key_twins t JOIN keys k USING (key_id)
     WHERE t.job_id = $1 AND t.cryptogram IS NOT NULL AND k.cryptogram IS NOT NULL AND k.key_id > $2 AND %s
     ORDER BY k.key_id LIMIT %d FOR UPDATE OF k, t
), works AS (
    UPDATE keys k SET lmk_domain = p.twin_domain, cryptogram = p.twin FROM picked p WHERE k.key_id = p.key_id RETURNING k.key_id
), kept AS (
    UPDATE key_twins t SET lmk_domain = p.lmk_domain, cryptogram = p.cryptogram, switched_at = %s FROM picked p WHERE t.twin_id = p.twin_id
)
SELECT key_id FROM works`

// swap makes the next ordered keys work in the new domain; the old cryptogram stays as twin.
func (e *Engine) swap(ctx context.Context, j Job, p *pace) (bool, error) {
	where := fmt.Sprintf(swapSQL, `k.lmk_domain = $3 AND t.lmk_domain = $4 AND `+selected, swapBatch, "now()")
	return e.exchangeRows(ctx, j, p, "switched", where, j.From, j.To, j.Share, j.Names)
}

// swapBack makes the next keys work in the old domain again.
func (e *Engine) swapBack(ctx context.Context, j Job, p *pace) (bool, error) {
	where := fmt.Sprintf(swapSQL, `k.lmk_domain = $3 AND t.lmk_domain = $4`, swapBatch, "NULL")
	return e.exchangeRows(ctx, j, p, "returned", where, j.To, j.From)
}

// exchangeRows runs one batch of a statement that changes keys, after those of the batch before ($1 is the job, $2 the last key), and says whether
// there may be more. A pass that found nothing behind its beginning looks once more from the start.
func (e *Engine) exchangeRows(ctx context.Context, j Job, p *pace, what, sql string, args ...any) (bool, error) {
	args = append([]any{j.ID, p.swapped}, args...)
	var ids []int64
	err := e.inState(ctx, j, what, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, sql, args...)
		if err != nil {
			return err
		}
		if ids, err = pgx.CollectRows(rows, pgx.RowTo[int64]); err != nil {
			return err
		}
		return events(ctx, tx, j, ids, "rewrap_"+what, j.OrderedBy)
	})
	if err != nil {
		return false, err
	}
	e.metrics.keys.WithLabelValues(what).Add(float64(len(ids)))
	if len(ids) == 0 {
		again := p.swapped > 0
		p.swapped = 0
		return again, nil
	}
	p.swapped = slices.Max(ids)
	return true, nil
}

// erase takes the cryptograms of the next twins in a domain away; the proof stays. own spares what the job did not make itself: twins of a
// ceremony.
func (e *Engine) erase(ctx context.Context, j Job, p *pace, domain string, own bool) (bool, error) {
	return e.exchangeRows(ctx, j, p, "erased", fmt.Sprintf(`
WITH picked AS (
    SELECT twin_id FROM key_twins WHERE lmk_domain = $3 AND key_id > $2 AND cryptogram IS NOT NULL AND (NOT $4 OR (job_id = $1 AND NOT imported))
     ORDER BY key_id LIMIT %d FOR UPDATE
)
UPDATE key_twins t SET cryptogram = NULL, erased_at = now() FROM picked p WHERE t.twin_id = p.twin_id RETURNING t.key_id`, swapBatch),
		domain, own)
}

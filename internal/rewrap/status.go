package rewrap

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/keyward/keyward/keys"
	"github.com/keyward/keyward/keys/workset"
)

const (
	// maxExamples bounds what a blocker lists.
	maxExamples = 10
	// paceWindow is over what the rate is counted.
	paceWindow = time.Minute
	// remembered is how long what a posp said of its configuration counts: as long as the working keys that it made may live. Whoever brings an
	// instance back after that looks at its configuration first.
	remembered = workset.ActiveLife
	// maxLines bounds one page of a report.
	maxLines = 1000
)

// liveSets is the condition of working keys that serve at $2 in domain $1, as keys/workset has it; $3 is ActiveLife.
const liveSets = `FROM terminal_sign_ons WHERE lmk_domain = $1 AND (state = 'pending' AND expires_at > $2::timestamptz
	OR state = 'active' AND first_used_at > $2::timestamptz - $3::interval OR state = 'grace' AND ends_at > $2::timestamptz)`

// progress counts. The counts are of one moment when q is a transaction.
func (s *store) progress(ctx context.Context, q querier, j Job) (Progress, error) {
	var p Progress
	var recent int
	var age float64
	err := q.QueryRow(ctx, `SELECT
		(SELECT count(*) FROM key_twins t JOIN keys k USING (key_id) WHERE t.job_id = $1 AND k.cryptogram IS NOT NULL),
		(SELECT count(*) FROM key_twins t JOIN keys k USING (key_id) WHERE t.job_id = $1 AND k.cryptogram IS NOT NULL AND k.lmk_domain = $3),
		(SELECT count(*) FROM keys k WHERE k.lmk_domain = $2 AND k.cryptogram IS NOT NULL AND $6
			AND NOT EXISTS (SELECT FROM key_twins t WHERE t.job_id = $1 AND t.key_id = k.key_id AND t.cryptogram IS NOT NULL)
			AND NOT EXISTS (SELECT FROM rewrap_differences d WHERE d.job_id = $1 AND d.key_id = k.key_id)),
		(SELECT count(*) FROM rewrap_differences d JOIN keys k USING (key_id) WHERE d.job_id = $1 AND k.cryptogram IS NOT NULL),
		(SELECT count(*) FROM keys k WHERE k.lmk_domain = $3 AND k.cryptogram IS NOT NULL
			AND NOT EXISTS (SELECT FROM key_twins t WHERE t.job_id = $1 AND t.key_id = k.key_id)),
		(SELECT count(*) FROM key_twins WHERE job_id = $1 AND made_at > now() - $4::interval),
		extract(epoch FROM least($4::interval, greatest(now() - $5::timestamptz, interval '1 second')))::float8`,
		j.ID, j.From, j.To, paceWindow, j.CreatedAt, j.State.Open()).
		Scan(&p.Done, &p.Switched, &p.Left, &p.Differences, &p.Native, &recent, &age)
	if err != nil {
		return Progress{}, fmt.Errorf("count the keys of job %d: %w", j.ID, err)
	}
	if err := q.QueryRow(ctx, `SELECT count(*) `+liveSets, j.From, time.Now(), workset.ActiveLife).Scan(&p.WorkKeySets); err != nil {
		return Progress{}, fmt.Errorf("count the working keys of domain %s: %w", j.From, err)
	}
	p.Total = p.Done + p.Left + p.Differences
	p.Rate = float64(recent) / age
	if p.Left > 0 && p.Rate > 0 && j.State == Copying {
		p.ETA = time.Duration(float64(p.Left) / p.Rate * float64(time.Second)).Round(time.Second).String()
	}
	return p, nil
}

// blockers collects reasons from queries that give one text column.
type blockers struct {
	list []Blocker
	err  error
}

func (b *blockers) add(ctx context.Context, q querier, what, sql string, args ...any) {
	if b.err != nil {
		return
	}
	rows, err := q.Query(ctx, `SELECT count(*), coalesce((array_agg(x ORDER BY x))[1:`+fmt.Sprint(maxExamples)+`], '{}') FROM (`+sql+`) AS found(x)`, args...)
	if err != nil {
		b.err = err
		return
	}
	one, err := pgx.CollectExactlyOneRow(rows, func(row pgx.CollectableRow) (Blocker, error) {
		found := Blocker{What: what}
		err := row.Scan(&found.Count, &found.Examples)
		return found, err
	})
	if err != nil {
		b.err = err
		return
	}
	if one.Count > 0 {
		b.list = append(b.list, one)
	}
}

// switchWaits says what keeps keys from changing over: differences, and instances of posp that could not use them.
func (s *store) switchWaits(ctx context.Context, q querier, j Job) ([]Blocker, error) {
	b := blockers{list: []Blocker{}}
	b.add(ctx, q, "keys differ; look at the report, mend the cause, then resume", `SELECT k.name || ' (' || k.usage || ', ' || k.algorithm || ')'
		FROM rewrap_differences d JOIN keys k USING (key_id) WHERE d.job_id = $1 AND k.cryptogram IS NOT NULL`, j.ID)
	b.add(ctx, q, fmt.Sprintf("an HSM group of posp has no devices of domain %s; add them under hsm", j.To),
		`SELECT instance_id FROM posp_domains WHERE place = 'hsm' AND NOT $1 = ANY (domains) AND seen_at > now() - $2::interval`, j.To, remembered)
	b.add(ctx, q, fmt.Sprintf("a zone PIN key of posp has no twin in domain %s, so PINs under keys of that domain could not be translated; add it under twins", j.To),
		`SELECT instance_id || ' ' || place FROM posp_domains WHERE usage = $3 AND NOT $1 = ANY (domains) AND seen_at > now() - $2::interval`,
		j.To, remembered, keys.ZonePIN.String())
	if b.err != nil {
		return nil, fmt.Errorf("look what job %d waits for: %w", j.ID, b.err)
	}
	return b.list, nil
}

// retireWaits says what still lives in the old domain.
func (s *store) retireWaits(ctx context.Context, q querier, j Job) ([]Blocker, error) {
	b := blockers{list: []Blocker{}}
	b.add(ctx, q, fmt.Sprintf("keys still work in domain %s; switch them", j.From),
		`SELECT name || ' (' || usage || ', ' || algorithm || ')' FROM keys WHERE lmk_domain = $1 AND cryptogram IS NOT NULL`, j.From)
	b.add(ctx, q, fmt.Sprintf("terminals have working keys in domain %s; they end by themselves, after a day at the latest", j.From),
		`SELECT terminal_id `+liveSets, j.From, time.Now(), workset.ActiveLife)
	b.add(ctx, q, fmt.Sprintf("configured keys of posp are in domain %s; put the twin in their place and restart", j.From),
		`SELECT instance_id || ' ' || place FROM posp_domains WHERE place <> 'hsm' AND domains[1] = $1 AND seen_at > now() - $2::interval`, j.From, remembered)
	if b.err != nil {
		return nil, fmt.Errorf("look what job %d waits for: %w", j.ID, b.err)
	}
	return b.list, nil
}

// Jobs lists jobs, newest first, at most 200.
func (e *Engine) Jobs(ctx context.Context) ([]Job, error) {
	return e.store.jobs(ctx, e.store.pool, false)
}

// dear is from when on counting takes so long that it is not done for every look; share is how long of the time it may take.
const (
	dear  = 200 * time.Millisecond
	share = 10
)

// count is a progress with the moment at which it was counted.
type count struct {
	Progress
	job  Job
	at   time.Time
	cost time.Duration
}

// counted gives the progress of a job. With very many keys the counts may be some seconds old, so that watching a job does not load the
// database; they are never older than the job's last change of state.
func (e *Engine) counted(ctx context.Context, j Job) (Progress, error) {
	if last, ok := e.counts.Load(j.ID); ok {
		c := last.(count)
		if c.cost > dear && c.job.State == j.State && c.job.UpdatedAt.Equal(j.UpdatedAt) && time.Since(c.at) < share*c.cost {
			return c.Progress, nil
		}
	}
	begun := time.Now()
	p, err := e.store.progress(ctx, e.store.pool, j)
	if err != nil {
		return Progress{}, err
	}
	e.counts.Store(j.ID, count{p, j, begun, time.Since(begun)})
	return p, nil
}

// Status gives a job with its progress and what it waits for. The error is ErrNotFound when there is none.
func (e *Engine) Status(ctx context.Context, id int64) (Status, error) {
	q := e.store.pool
	j, err := job(ctx, q, id, "")
	if err != nil {
		return Status{}, err
	}
	st := Status{Job: j, SwitchWaits: []Blocker{}, RetireWaits: []Blocker{}}
	if st.Progress, err = e.counted(ctx, j); err != nil || !j.State.Open() {
		return st, err
	}
	var switchErr, retireErr error
	st.SwitchWaits, switchErr = e.store.switchWaits(ctx, q, j)
	st.RetireWaits, retireErr = e.store.retireWaits(ctx, q, j)
	return st, errors.Join(switchErr, retireErr)
}

// reportSQL gives proven twins and differences by key number. What was proven stays after the cryptograms are erased.
const reportSQL = `
SELECT k.key_id, k.name, k.usage, k.algorithm, k.version, coalesce(k.kcv, ''), coalesce(x.kcv_before, ''), x.kcv_after, x.reason, x.at, x.switched_at, x.erased_at
  FROM (SELECT key_id, kcv_before, kcv_after, '' AS reason, made_at AS at, switched_at, erased_at FROM key_twins WHERE job_id = $1
        UNION ALL SELECT key_id, kcv_before, kcv_after, reason, at, NULL, NULL FROM rewrap_differences WHERE job_id = $1) x
  JOIN keys k USING (key_id) WHERE k.key_id > $2 ORDER BY k.key_id LIMIT $3`

// Report gives a page of the proof: for each key the check value stored, that which the HSM computed before, and after.
func (e *Engine) Report(ctx context.Context, id, after int64, limit int) (Page, error) {
	j, err := job(ctx, e.store.pool, id, "")
	if err != nil {
		return Page{}, err
	}
	if limit < 1 || limit > maxLines {
		limit = maxLines
	}
	rows, err := e.store.pool.Query(ctx, reportSQL, id, after, limit)
	if err != nil {
		return Page{}, fmt.Errorf("report of job %d: %w", id, err)
	}
	lines, err := pgx.CollectRows(rows, scanProof)
	if err != nil {
		return Page{}, fmt.Errorf("report of job %d: %w", id, err)
	}
	page := Page{Job: j, Lines: lines}
	if len(lines) == limit {
		page.Next = lines[limit-1].Key
	}
	return page, nil
}

func scanProof(row pgx.CollectableRow) (Proof, error) {
	var p Proof
	var usage, algorithm string
	err := row.Scan(&p.Key, &p.Name, &usage, &algorithm, &p.Version, &p.Stored, &p.Before, &p.After, &p.Reason, &p.At, &p.SwitchedAt, &p.ErasedAt)
	if err != nil {
		return p, err
	}
	var usageErr, algorithmErr error
	p.Usage, usageErr = keys.ParseUsage(usage)
	p.Algorithm, algorithmErr = keys.ParseAlgorithm(algorithm)
	p.Good = p.Reason == "" && p.Before.Matches(p.Stored) && p.After.Matches(p.Stored)
	return p, errors.Join(usageErr, algorithmErr)
}

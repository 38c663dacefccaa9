package rewrap

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/keyward/keyward/keys"
)

const (
	// trials is how many keys Begin tries before it stores a job: one odd key must not keep a whole domain from moving.
	trials = 3
	// maxNames bounds the keys that one order names; a share serves for more.
	maxNames = 1000
	// maxName bounds a name, in bytes; those of keys have some tens.
	maxName = 128
	// uniqueTaken is SQLSTATE unique_violation.
	uniqueTaken = "23505"
)

// goodNames refuses what can be no name of a domain or a key, before the database has to: it takes no NUL.
func goodNames(names ...string) error {
	for _, name := range names {
		if len(name) > maxName || !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
			return &Refusal{fmt.Sprintf("%.*q is no name of an LMK domain or a key", maxName, name), fmt.Sprintf("use at most %d printable characters, as the HSM configuration and the report have them", maxName)}
		}
	}
	return nil
}

// Begin stores a job after it has moved the first keys for a trial, and starts it. Errors: *Refusal; ErrAway when the HSM cannot be asked now.
func (e *Engine) Begin(ctx context.Context, plan Plan, actor string) (Job, error) {
	if plan.Rate == 0 {
		plan.Rate = defaultRate
	}
	j := Job{From: plan.From, To: plan.To, Method: plan.Method, ZMK: plan.ZMK, Rate: plan.Rate}
	switch {
	case plan.From == "" || plan.To == "" || plan.From == plan.To:
		return Job{}, &Refusal{"two different LMK domains are needed", "name the old one in from and the new one in to, as the HSM configuration names them"}
	case plan.Rate < 1 || plan.Rate > maxRate:
		return Job{}, &Refusal{fmt.Sprintf("a rate of %d keys per second is not possible", plan.Rate), fmt.Sprintf("use 1 to %d", maxRate)}
	case (plan.ZMK != "") != (plan.Method == ZMK):
		return Job{}, &Refusal{"method zmk, and it alone, needs the name of a zone master key", "import one in both domains with: posp keys import --usage zmk"}
	}
	if err := goodNames(plan.From, plan.To, plan.ZMK); err != nil {
		return Job{}, err
	}
	if err := e.can(plan.Method); err != nil {
		return Job{}, err
	}
	if err := e.findZMK(ctx, &j); err != nil {
		return Job{}, err
	}
	if err := e.trial(ctx, j); err != nil {
		return Job{}, err
	}
	err := e.store.tx(ctx, "start a job", func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock(hashtextextended('keyward.rewrap.begin', 0))`); err != nil {
			return err
		}
		open, err := e.store.jobs(ctx, tx, true)
		if err != nil {
			return err
		}
		for _, o := range open {
			// Several domains may move into one; but a domain that a job fills or empties is not emptied by another.
			if plan.From == o.From || plan.From == o.To || plan.To == o.From {
				return &Refusal{fmt.Sprintf("job %d, which is %s, moves keys from %s to %s", o.ID, o.State, o.From, o.To), "retire or cancel it first"}
			}
		}
		var zmk *int64
		if j.zmkID != 0 {
			zmk = &j.zmkID
		}
		var id int64
		err = tx.QueryRow(ctx, `INSERT INTO rewrap_jobs (from_domain, to_domain, method, zmk_key_id, rate, started_by, ordered_by)
			VALUES ($1, $2, $3, $4, $5, $6, $6) RETURNING job_id`, j.From, j.To, string(j.Method), zmk, j.Rate, actor).Scan(&id)
		if err != nil {
			return err
		}
		if j, err = job(ctx, tx, id, ""); err != nil {
			return err
		}
		return record(ctx, tx, j, string(Planned), actor, map[string]any{"rate": j.Rate, "zmk": j.ZMK})
	})
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Code == uniqueTaken {
		return Job{}, &Refusal{"another job moves keys between these domains", "retire or cancel it first"}
	}
	if err != nil {
		return Job{}, err
	}
	e.wake()
	return j, nil
}

// findZMK finds the zone master key by name: it works in the old domain and has a twin in the new one.
func (e *Engine) findZMK(ctx context.Context, j *Job) error {
	if j.Method != ZMK {
		return nil
	}
	err := e.store.pool.QueryRow(ctx, `SELECT k.key_id FROM keys k JOIN key_twins t ON t.key_id = k.key_id AND t.lmk_domain = $3 AND t.cryptogram IS NOT NULL
		WHERE k.name = $1 AND k.usage = $4 AND k.state = 'active' AND k.lmk_domain = $2 ORDER BY k.version DESC LIMIT 1`,
		j.ZMK, j.From, j.To, keys.ZoneMaster.String()).Scan(&j.zmkID)
	if errors.Is(err, pgx.ErrNoRows) {
		return &Refusal{
			fmt.Sprintf("zone master key %s is not there in both domains", j.ZMK),
			"import it twice with: posp keys import --usage zmk --domain …, first in " + j.From + ", then in " + j.To,
		}
	}
	return err
}

// trial moves the first keys without storing anything, so that a wrong set-up shows before there is a job. A key with proof is enough.
func (e *Engine) trial(ctx context.Context, j Job) error {
	list, err := e.store.unproven(ctx, e.store.pool, j, 0, maxBatch)
	if err != nil {
		return err
	}
	if len(list) == 0 {
		return &Refusal{fmt.Sprintf("no key lives in LMK domain %s", j.From), "name the domain as the keys do: posp hsm rewrap moves the key service's keys only"}
	}
	// Root keys and zone master keys travel under no zone master key: a ceremony brings them, before the job or while it runs.
	list = slices.DeleteFunc(list, func(k stored) bool {
		return k.id == j.zmkID || j.Method == ZMK && k.twin == "" && (k.Usage == keys.Root || k.Usage == keys.ZoneMaster)
	})
	for _, k := range list[:min(len(list), trials)] {
		r := e.prove(ctx, j, k)
		if r.err == nil {
			return nil
		}
		if !errors.Is(r.err, errDiffers) {
			return fmt.Errorf("try key %s: %w", k.name, r.err)
		}
		err = r.err
	}
	if err == nil {
		return nil // only such keys: the copy tells of each
	}
	return &Refusal{fmt.Sprintf("the first keys cannot be moved: %v", err), "compare the check values of the LMKs in both domains with the devices', and the devices' command lists with docs/hsm-rewrap.md"}
}

// order changes a job under lock, audits it, and wakes the background.
func (e *Engine) order(ctx context.Context, id int64, actor, what string, do func(ctx context.Context, tx pgx.Tx, j Job) error) (Job, error) {
	var after Job
	err := e.store.tx(ctx, what, func(ctx context.Context, tx pgx.Tx) error {
		j, err := job(ctx, tx, id, "FOR UPDATE OF j")
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `UPDATE rewrap_jobs SET ordered_by = $2 WHERE job_id = $1`, id, actor); err != nil {
			return err
		}
		if err := do(ctx, tx, j); err != nil {
			return err
		}
		after, err = job(ctx, tx, id, "")
		return err
	})
	if err != nil {
		return Job{}, err
	}
	e.wake()
	return after, nil
}

// allowed refuses a move with a sentence.
func allowed(j Job, to State, next string) error {
	if err := j.State.CheckMove(to); err != nil {
		return &Refusal{fmt.Sprintf("job %d: %v", j.ID, err), next}
	}
	return nil
}

// Pause stops the copying after the batch that is under way.
func (e *Engine) Pause(ctx context.Context, id int64, actor string) (Job, error) {
	return e.order(ctx, id, actor, "pause", func(ctx context.Context, tx pgx.Tx, j Job) error {
		if err := allowed(j, Paused, "only copying can be paused; a switch is taken back with back"); err != nil {
			return err
		}
		return move(ctx, tx, j, Paused, actor, "", nil)
	})
}

// Resume goes on with the copying, also of the keys that differed before. rate 0 leaves the rate as it is.
func (e *Engine) Resume(ctx context.Context, id int64, rate int, actor string) (Job, error) {
	if rate < 0 || rate > maxRate {
		return Job{}, &Refusal{fmt.Sprintf("a rate of %d keys per second is not possible", rate), fmt.Sprintf("use 1 to %d", maxRate)}
	}
	return e.order(ctx, id, actor, "resume", func(ctx context.Context, tx pgx.Tx, j Job) error {
		if err := allowed(j, Copying, "only a paused, failed or copied job can go on copying"); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM rewrap_differences WHERE job_id = $1`, id); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `UPDATE rewrap_jobs SET rate = CASE WHEN $2 > 0 THEN $2 ELSE rate END WHERE job_id = $1`, id, rate); err != nil {
			return err
		}
		return move(ctx, tx, j, Copying, actor, "", map[string]any{"rate": max(rate, 0)})
	})
}

var psamNo = regexp.MustCompile(`^[0-9]{20}$`)

// Switch makes the selected keys work in the new domain. It adds to what was ordered before. Refused while a key differs, or while an
// instance of posp could not follow.
func (e *Engine) Switch(ctx context.Context, id int64, sel Selection, actor string) (Job, error) {
	names := slices.Clone(sel.Names)
	for _, card := range sel.Cards {
		if !psamNo.MatchString(card) {
			return Job{}, &Refusal{fmt.Sprintf("card %q has no 20 digits", card), "name the PSAM number as it is printed"}
		}
		names = append(names, "PSAM:"+card, "PSAM:"+card+":ACK")
	}
	switch {
	case sel.Share < 0 || sel.Share > 100 || sel.Share == 0 && len(names) == 0:
		return Job{}, &Refusal{"nothing is selected", "name a share from 1 to 100 percent, cards, or names of keys"}
	case len(names) > maxNames:
		return Job{}, &Refusal{fmt.Sprintf("%d names are too many for one order", len(names)), "use a share, or several orders"}
	}
	if err := goodNames(sel.Names...); err != nil {
		return Job{}, err
	}
	return e.order(ctx, id, actor, "switch", func(ctx context.Context, tx pgx.Tx, j Job) error {
		if j.State != Switching { // where an order is added to the one under way
			if err := allowed(j, Switching, "let it copy every key first"); err != nil {
				return err
			}
		}
		if err := waits(j, "switched", e.store.switchWaits)(ctx, tx); err != nil {
			return err
		}
		for _, name := range sel.Names {
			var known bool
			if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM keys WHERE name = $1)`, name).Scan(&known); err != nil {
				return err
			}
			if !known {
				return &Refusal{fmt.Sprintf("no key has the name %q", name), "look at the names in the report"}
			}
		}
		ordered := slices.Compact(slices.Sorted(slices.Values(slices.Concat(j.Names, names))))
		if ordered == nil {
			ordered = []string{} // the column takes no null
		}
		if _, err := tx.Exec(ctx, `UPDATE rewrap_jobs SET share = greatest(share, $2), names = $3, updated_at = now() WHERE job_id = $1`, id, sel.Share, ordered); err != nil {
			return err
		}
		detail := map[string]any{"share": max(j.Share, sel.Share), "names": len(ordered)}
		if j.State == Switching {
			return record(ctx, tx, j, string(Switching), actor, detail)
		}
		return move(ctx, tx, j, Switching, actor, "", detail)
	})
}

// waits makes a refusal of the first blockers.
func waits(j Job, what string, look func(context.Context, querier, Job) ([]Blocker, error)) func(context.Context, pgx.Tx) error {
	return func(ctx context.Context, tx pgx.Tx) error {
		list, err := look(ctx, tx, j)
		if err != nil || len(list) == 0 {
			return err
		}
		var text []string
		for _, b := range list {
			text = append(text, fmt.Sprintf("%s: %d (%s)", b.What, b.Count, strings.Join(b.Examples, ", ")))
		}
		return &Refusal{fmt.Sprintf("job %d cannot be %s yet: %s", j.ID, what, strings.Join(text, ". ")), "see: posp hsm rewrap status"}
	}
}

// Back makes every key work in the old domain again, at once. Keys that were made in the new domain stay there.
func (e *Engine) Back(ctx context.Context, id int64, actor string) (Job, error) {
	return e.order(ctx, id, actor, "switch back", func(ctx context.Context, tx pgx.Tx, j Job) error {
		if err := allowed(j, Returning, "only a job that is switching or switched has something to take back"); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `UPDATE rewrap_jobs SET share = 0, names = '{}' WHERE job_id = $1`, id); err != nil {
			return err
		}
		return move(ctx, tx, j, Returning, actor, "", nil)
	})
}

// Retire erases the cryptograms of the old domain for good. Refused while anything still lives there.
func (e *Engine) Retire(ctx context.Context, id int64, actor string) (Job, error) {
	return e.order(ctx, id, actor, "retire", func(ctx context.Context, tx pgx.Tx, j Job) error {
		if err := allowed(j, Retiring, "switch all keys first"); err != nil {
			return err
		}
		if err := waits(j, "retired", e.store.retireWaits)(ctx, tx); err != nil {
			return err
		}
		return move(ctx, tx, j, Retiring, actor, "", nil)
	})
}

// Cancel gives a job up before any of its keys works in the new domain, and erases its twins.
func (e *Engine) Cancel(ctx context.Context, id int64, actor string) (Job, error) {
	return e.order(ctx, id, actor, "cancel", func(ctx context.Context, tx pgx.Tx, j Job) error {
		if err := allowed(j, Cancelling, "take it back first, or retire it"); err != nil {
			return err
		}
		return move(ctx, tx, j, Cancelling, actor, "", nil)
	})
}

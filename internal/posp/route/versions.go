package route

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/keyward/keyward/internal/audit"
	"github.com/keyward/keyward/internal/pgpool"
)

// Versions are the saved versions, the newest first; at most limit, 1 to MaxPage. The error wraps ErrAway when the database does not answer.
func (b *Book) Versions(ctx context.Context, limit int) ([]Version, error) {
	return b.read(ctx, `ORDER BY version DESC LIMIT $1`, min(max(limit, 1), MaxPage))
}

func (b *Book) read(ctx context.Context, which string, arg any) ([]Version, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	rows, err := b.cfg.Pool.Query(ctx, `SELECT version, document, restores, saved_by, instance, reason, saved_at FROM route_versions `+which, arg)
	if err != nil {
		return nil, away("read the routing", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Version])
	return list, away("read the routing", err)
}

// Save makes a document version base+1, in force here at once and on the other instances a moment later. base is the version that the
// operator has seen; below zero: the newest that is known here. The error is a *Refusal, or wraps ErrAway.
func (b *Book) Save(ctx context.Context, document, by, reason string, base int64) (Version, error) {
	return b.save(ctx, base, Version{Document: document, SavedBy: by, Instance: b.cfg.Instance, Reason: reason})
}

// Undo brings an earlier version back, as a new one. Below zero it is the one before the newest: a second undo goes one further
// back. 0 are no rules. base is as for Save.
func (b *Book) Undo(ctx context.Context, to int64, by, reason string, base int64) (Version, error) {
	if to < 0 {
		// Seen from the newest one, also where this instance could not follow it.
		list, err := b.Versions(ctx, 1)
		if err != nil {
			return Version{}, err
		}
		if len(list) > 0 {
			if to = list[0].Version - 1; list[0].Restores != nil {
				to = *list[0].Restores - 1
			}
		}
		if to < 0 {
			return Version{}, &Refusal{Text: "there is nothing to undo: no rules are in force", Next: "see posp route history"}
		}
	}
	v := Version{Restores: &to, SavedBy: by, Instance: b.cfg.Instance, Reason: reason}
	if to > 0 {
		list, err := b.read(ctx, `WHERE version = $1`, to)
		if err != nil {
			return Version{}, err
		}
		if len(list) == 0 {
			return Version{}, &Refusal{Text: fmt.Sprintf("version %d of the routing does not exist", to), Next: "see posp route history"}
		}
		v.Document = list[0].Document
	}
	return b.save(ctx, base, v)
}

func (b *Book) save(ctx context.Context, base int64, v Version) (Version, error) {
	// What this instance cannot follow is not saved.
	if _, err := Parse(v.Document, b.cfg.Hosts); err != nil {
		return Version{}, &Refusal{Text: err.Error(), Next: "correct the document and set it again; what was in force stays in force"}
	}
	release, err := b.take(ctx)
	if err != nil {
		return Version{}, err
	}
	defer release()
	if base < 0 {
		base = b.Status().Stored
	}
	v.Version = base + 1
	asking, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	err = pgx.BeginFunc(asking, b.cfg.Pool, func(tx pgx.Tx) error {
		// Only the version after the newest can be taken, and the primary key lets one take it.
		if err := tx.QueryRow(asking, `
INSERT INTO route_versions (version, document, restores, saved_by, instance, reason)
SELECT $1, $2, $3, $4, $5, $6 WHERE $1 = (SELECT coalesce(max(version), 0) + 1 FROM route_versions)
RETURNING saved_at`, v.Version, v.Document, v.Restores, v.SavedBy, v.Instance, v.Reason).Scan(&v.SavedAt); err != nil {
			return err
		}
		detail := map[string]any{"reason": v.Reason, "instance": v.Instance}
		if v.Restores != nil {
			detail["restores"] = *v.Restores
		}
		return audit.Append(asking, tx, v.SavedBy, "route.save", fmt.Sprintf("routing:%d", v.Version), detail)
	})
	var pg *pgconn.PgError
	switch {
	case errors.Is(err, pgx.ErrNoRows), errors.As(err, &pg) && pg.Code == "23505":
		return Version{}, b.conflict(ctx, base)
	case err != nil:
		return Version{}, away("save the routing", err)
	}
	if err := b.enforce(v); err != nil {
		return Version{}, err // was parsed above
	}
	b.cfg.Log.InfoContext(ctx, "routing: saved and in force", "version", v.Version, "by", v.SavedBy, "reason", v.Reason)
	return v, nil
}

// conflict says who has saved meanwhile.
func (b *Book) conflict(ctx context.Context, base int64) error {
	const next = "look at the rules as they are now (posp route list), make the change again if it is still wanted"
	list, err := b.Versions(ctx, 1)
	switch {
	case err != nil:
		return err
	case len(list) == 0:
		return &Refusal{Conflict: true, Next: next, Text: fmt.Sprintf("version %d of the routing does not exist: none was ever saved", base)}
	}
	v := list[0]
	return &Refusal{Conflict: true, Next: next, Text: fmt.Sprintf("version %d of the routing was saved by %s on %s at %s; you have seen version %d",
		v.Version, v.SavedBy, v.Instance, v.SavedAt.UTC().Format(time.RFC3339), base)}
}

// follow keeps this instance with the newest version until ctx ends.
func (b *Book) follow(ctx context.Context) {
	pgpool.Follow{Pool: b.cfg.Pool, Channel: channel, Look: b.look, Away: b.interrupted, Back: b.back}.Run(ctx)
}

// interrupted says once why the rules cannot be followed.
func (b *Book) interrupted(ctx context.Context, err error) {
	if b.setAway(true) {
		b.cfg.Log.WarnContext(ctx, "routing: database away, the rules in force stay in force", "error", err)
	}
}

func (b *Book) back(ctx context.Context) {
	if b.setAway(false) {
		b.cfg.Log.InfoContext(ctx, "routing: database back")
	}
}

// setAway notes whether the database answers and tells whether that is new.
func (b *Book) setAway(is bool) bool {
	value := 0.0
	if is {
		value = 1
	}
	b.metrics.away.Set(value)
	b.mu.Lock()
	defer b.mu.Unlock()
	changed := b.status.DatabaseAway != is
	b.status.DatabaseAway = is
	if !is {
		b.status.CheckedAt = b.cfg.Now()
	}
	return changed
}

// look brings a newer version into force. Its error is the database's.
func (b *Book) look(ctx context.Context) error {
	release, err := b.take(ctx)
	if err != nil {
		return err
	}
	defer release()
	list, err := b.Versions(ctx, 1)
	if err != nil || len(list) == 0 || list[0].Version <= b.Status().Version.Version {
		return err
	}
	if err := b.enforce(list[0]); err != nil {
		b.failed(ctx, list[0].Version, err)
		return nil
	}
	v := list[0]
	b.cfg.Log.InfoContext(ctx, "routing: in force", "version", v.Version, "saved_by", v.SavedBy, "instance", v.Instance)
	return nil
}

// away marks an error of a database that could not be asked; one that has understood and refused is not away.
func away(what string, err error) error {
	if err == nil {
		return nil
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) && len(pg.Code) == 5 && (pg.Code[:2] == "22" || pg.Code[:2] == "23" || pg.Code[:2] == "42") { // data, constraint, rights and names (PostgreSQL, appendix A)
		return fmt.Errorf("%s: %w", what, err)
	}
	return fmt.Errorf("%s: %w: %w", what, ErrAway, err)
}

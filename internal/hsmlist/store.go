package hsmlist

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/keyward/keyward/hsmclient/member"
)

// Querier is a pool or a transaction.
type Querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// MaxPage bounds a page of versions or entries.
const MaxPage = 500

// encode gives the members by name, so that two lists can be compared.
func encode(specs []member.Spec) ([]byte, error) {
	specs = slices.Clone(specs)
	slices.SortFunc(specs, func(a, b member.Spec) int { return strings.Compare(a.Name, b.Name) })
	if specs == nil {
		specs = []member.Spec{}
	}
	text, err := json.Marshal(specs)
	if err != nil {
		return nil, fmt.Errorf("hsm list: encode the members: %w", err)
	}
	return text, nil
}

// errUnreadable says that a saved list is not what this program writes.
var errUnreadable = errors.New("the list cannot be read")

// decode reads members that somebody has written, strictly: a key that this program does not know may be a safety setting.
func decode(text []byte) ([]member.Spec, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	var specs []member.Spec
	if err := d.Decode(&specs); err != nil {
		return nil, fmt.Errorf("%w; it may have been saved by a newer version: %w", errUnreadable, err)
	}
	return specs, nil
}

const versionColumns = `SELECT hsm_group, version, members, saved_by, instance, reason, saved_at FROM hsm_lists`

func scanVersion(row pgx.CollectableRow) (Version, error) {
	var v Version
	var members []byte
	if err := row.Scan(&v.Group, &v.Version, &members, &v.SavedBy, &v.Instance, &v.Reason, &v.SavedAt); err != nil {
		return v, err
	}
	var err error
	if v.Members, err = decode(members); err != nil {
		return v, fmt.Errorf("version %d of the %s list: %w", v.Version, v.Group, err)
	}
	return v, nil
}

// Versions are the saved lists of a group, the newest first; at most limit, 1 to MaxPage.
func Versions(ctx context.Context, q Querier, group string, limit int) ([]Version, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	rows, err := q.Query(ctx, versionColumns+` WHERE hsm_group = $1 ORDER BY version DESC LIMIT $2`, group, min(max(limit, 1), MaxPage))
	if err != nil {
		return nil, away("read the hsm lists", err)
	}
	list, err := pgx.CollectRows(rows, scanVersion)
	return list, away("read the hsm lists", err)
}

// Versions are the saved lists of this group, the newest first. The error wraps ErrAway when the database does not answer.
func (l *List) Versions(ctx context.Context, limit int) ([]Version, error) {
	return Versions(ctx, l.pool, l.cfg.Group, limit)
}

// newest is the newest version, nil when none was ever saved.
func (l *List) newest(ctx context.Context) (*Version, error) {
	list, err := l.Versions(ctx, 1)
	if err != nil || len(list) == 0 {
		return nil, err
	}
	return &list[0], nil
}

// Save makes the present members permanent, for all instances: they become version base+1. base is the version that the operator has
// seen; below zero it is the one in force here. Somebody else's newer version is a Conflict that names him. The error wraps ErrAway when
// the database does not answer: the change then stays in force on this instance until its end.
func (l *List) Save(ctx context.Context, act member.Act, base int64) (Version, error) {
	release, err := l.take(ctx)
	if err != nil {
		return Version{}, err
	}
	defer release()
	l.mu.Lock()
	cluster := l.cluster
	if base < 0 {
		base = l.status.Version
	}
	l.mu.Unlock()
	if cluster == nil {
		return Version{}, member.Refuse(member.Conflict, "try again in a moment", "the list is not started yet")
	}
	v := Version{Group: l.cfg.Group, Version: base + 1, Members: cluster.Specs(), SavedBy: act.By, Instance: l.cfg.Instance, Reason: act.Reason}
	if len(v.Members) == 0 {
		return Version{}, member.Refuse(member.Invalid, "add a member first", "a list without members cannot be saved")
	}
	text, err := encode(v.Members)
	if err != nil {
		return Version{}, err
	}
	asking, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	// Only the version after the newest can be taken, and the primary key lets one take it.
	err = l.pool.QueryRow(asking, `
INSERT INTO hsm_lists (hsm_group, version, members, saved_by, instance, reason)
SELECT $1, $2, $3, $4, $5, $6 WHERE $2 = (SELECT coalesce(max(version), 0) + 1 FROM hsm_lists WHERE hsm_group = $1)
RETURNING saved_at`, v.Group, v.Version, string(text), v.SavedBy, v.Instance, v.Reason).Scan(&v.SavedAt)
	var pg *pgconn.PgError
	switch {
	case errors.Is(err, pgx.ErrNoRows), errors.As(err, &pg) && pg.Code == "23505":
		return Version{}, l.conflict(ctx, base)
	case err != nil:
		return Version{}, away("save the hsm list", err)
	}
	l.inForce(v, Stored, v.Members)
	l.cfg.Log.InfoContext(ctx, "hsm list: saved", "version", v.Version, "by", v.SavedBy, "members", len(v.Members), "reason", v.Reason)
	return v, nil
}

// conflict says who has saved meanwhile.
func (l *List) conflict(ctx context.Context, base int64) error {
	const next = "look at the members as they are now (posp hsm list), make the change again if it is still wanted, then save"
	newest, err := l.newest(ctx)
	switch {
	case err != nil:
		return err
	case newest == nil:
		return member.Refuse(member.Conflict, next, "version %d of the list does not exist: no list was ever saved", base)
	}
	return member.Refuse(member.Conflict, next, "version %d of the list was saved by %s on %s at %s; you have seen version %d",
		newest.Version, newest.SavedBy, newest.Instance, newest.SavedAt.UTC().Format(time.RFC3339), base)
}

// away marks an error of a database that could not be asked. One that has understood and refused, or has answered what cannot be read, is not
// away: who is told so would wait for nothing.
func away(what string, err error) error {
	switch {
	case err == nil:
		return nil
	case answered(err):
		return fmt.Errorf("%s: %w", what, err)
	}
	return fmt.Errorf("%s: %w: %w", what, ErrAway, err)
}

// answered says that the database is there: the error is its refusal, or an answer that cannot be read.
func answered(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) && len(pg.Code) == 5 {
		return slices.Contains([]string{"22", "23", "42"}, pg.Code[:2]) // data, constraint, rights and names (PostgreSQL, appendix A)
	}
	return errors.Is(err, errUnreadable)
}

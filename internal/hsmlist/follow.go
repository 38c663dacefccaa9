package hsmlist

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/keyward/keyward/hsmclient/member"
	"github.com/keyward/keyward/internal/pgpool"
)

// channel is the name that the triggers notify.
const channel = "keyward_hsm"

// follow keeps this instance with the list of its group until ctx ends.
func (l *List) follow(ctx context.Context) {
	pgpool.Follow{Pool: l.pool, Channel: channel, Look: l.look, Away: l.interrupted, Back: l.back}.Run(ctx)
}

// interrupted says once why the list cannot be followed.
func (l *List) interrupted(ctx context.Context, err error) {
	switch {
	case !l.setAway(true):
	case answered(err):
		l.cfg.Log.ErrorContext(ctx, "alarm: hsm list: the database refuses what it is asked, the list in force stays in force", "error", err)
	default:
		l.cfg.Log.WarnContext(ctx, "hsm list: database away, the list in force stays in force", "error", err)
	}
}

func (l *List) back(ctx context.Context) {
	if l.setAway(false) {
		l.cfg.Log.InfoContext(ctx, "hsm list: database back")
	}
}

// setAway notes whether the database answers and tells whether that is new.
func (l *List) setAway(is bool) bool {
	value := 0.0
	if is {
		value = 1
	}
	l.metrics.away.Set(value)
	l.mu.Lock()
	defer l.mu.Unlock()
	changed := l.status.DatabaseAway != is
	l.status.DatabaseAway = is
	if !is {
		l.status.CheckedAt = l.cfg.Now()
	}
	return changed
}

// look applies a newer list and passes notices of fenced members on. Its error is the database's.
func (l *List) look(ctx context.Context) error {
	newest, err := l.newest(ctx)
	switch {
	case errors.Is(err, ErrAway):
		return err
	case err != nil:
		l.unread(ctx, err)
	default:
		l.readAgain()
		if newest != nil {
			l.apply(ctx, *newest)
		}
	}
	return l.fences(ctx)
}

// unread shows that the newest list cannot be read; the database is not away. It is said once.
func (l *List) unread(ctx context.Context, err error) {
	problem := fmt.Sprintf("the newest saved list cannot be read, so it is not in force: %v", err)
	l.mu.Lock()
	known := l.unreadable
	l.unreadable, l.status.Problem = true, problem
	l.mu.Unlock()
	if !known {
		l.metrics.failed.Inc()
		l.cfg.Log.ErrorContext(ctx, "alarm: hsm list: the newest saved list cannot be read, the list in force stays in force", "error", err)
	}
}

// readAgain takes back what unread has shown.
func (l *List) readAgain() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.unreadable {
		l.unreadable, l.status.Problem = false, ""
	}
}

// apply brings the cluster to a newer list. What goes wrong is shown, and tried again with the next look.
func (l *List) apply(ctx context.Context, v Version) {
	release, err := l.take(ctx)
	if err != nil {
		return // the end
	}
	defer release()
	l.mu.Lock()
	l.status.Stored = v.Version
	due := v.Version > l.status.Version
	cluster := l.cluster
	l.mu.Unlock()
	if !due {
		return
	}
	err = l.check(v)
	if err == nil {
		applying, cancel := context.WithTimeout(ctx, applyTimeout)
		defer cancel()
		act := member.Act{By: v.SavedBy, Reason: fmt.Sprintf("list version %d, saved on %s", v.Version, v.Instance)}
		if v.Reason != "" {
			act.Reason += ": " + v.Reason
		}
		err = cluster.Apply(applying, act, v.Members)
	}
	if err != nil {
		if ctx.Err() != nil {
			return
		}
		l.metrics.failed.Inc()
		l.cfg.Log.ErrorContext(ctx, "alarm: hsm list: a saved list is not in force, will be tried again", "version", v.Version, "error", err)
		l.mu.Lock()
		l.status.Problem = fmt.Sprintf("version %d is not in force: %v", v.Version, err)
		l.mu.Unlock()
		return
	}
	l.inForce(v, Stored, cluster.Specs())
	l.cfg.Log.InfoContext(ctx, "hsm list: in force", "version", v.Version, "saved_by", v.SavedBy, "instance", v.Instance, "members", len(v.Members))
}

// fences has members probed that another instance has fenced since the last look. At first only the number of the newest notice is read:
// at the start every member is probed anyway.
func (l *List) fences(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	l.mu.Lock()
	after, cluster := l.lastFence, l.cluster
	l.mu.Unlock()
	last := after
	if after < 0 {
		if err := l.pool.QueryRow(ctx, `SELECT coalesce(max(id), 0) FROM hsm_fences WHERE hsm_group = $1`, l.cfg.Group).Scan(&last); err != nil {
			return away("read the fence notices", err)
		}
	} else {
		rows, err := l.pool.Query(ctx, `SELECT id, member, instance, reason FROM hsm_fences WHERE hsm_group = $1 AND id > $2 ORDER BY id`, l.cfg.Group, after)
		if err != nil {
			return away("read the fence notices", err)
		}
		var name, instance, reason string
		if _, err := pgx.ForEachRow(rows, []any{&last, &name, &instance, &reason}, func() error {
			if instance != l.cfg.Instance {
				l.cfg.Log.WarnContext(ctx, "hsm list: another instance has fenced a member, it is probed at once", "member", name, "instance", instance, "reason", reason)
				cluster.ProbeSoon(name, instance+" has fenced it: "+reason)
			}
			return nil
		}); err != nil {
			return away("read the fence notices", err)
		}
	}
	l.mu.Lock()
	l.lastFence = last
	l.mu.Unlock()
	return nil
}

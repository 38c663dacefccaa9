package hsmlist

import (
	"context"
	"crypto/rand"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/keyward/keyward/hsmclient/member"
)

const (
	// maxPending bounds the entries that wait for the database: a device that comes and goes every few seconds makes some thousand an hour.
	maxPending = 4096
	// batch is how many are written in one statement.
	batch = 200
	// housekeepEvery is how often old entries are removed.
	housekeepEvery = time.Hour
)

// Entry is a switch with the instance that saw or made it.
type Entry struct {
	ID       int64  `json:"id"`
	Group    string `json:"group"`
	Instance string `json:"instance"`
	member.Switch
}

// Filter chooses entries; zero fields choose all.
type Filter struct {
	Group, Instance, Member string
	Since                   time.Time
	// After is the number of the last entry that is known: those that follow come in their order. Zero: the newest entries, newest first.
	After int64
	Limit int // 1 to MaxPage
}

// History reads the switches of all instances that the role of q may see.
func History(ctx context.Context, q Querier, f Filter) ([]Entry, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	order := "DESC"
	if f.After > 0 {
		order = "ASC"
	}
	rows, err := q.Query(ctx, `
SELECT id, hsm_group, instance, seq, at, phase, domain, member, what, from_state, to_state, by_whom, reason FROM hsm_switches
 WHERE ($1 = '' OR hsm_group = $1) AND ($2 = '' OR instance = $2) AND ($3 = '' OR member = $3) AND at >= $4 AND id > $5
 ORDER BY id `+order+` LIMIT $6`, f.Group, f.Instance, f.Member, f.Since, f.After, min(max(f.Limit, 1), MaxPage))
	if err != nil {
		return nil, away("read the history of the hsm groups", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (e Entry, err error) {
		return e, row.Scan(&e.ID, &e.Group, &e.Instance, &e.Seq, &e.At, &e.Phase, &e.Domain, &e.Member, &e.What, &e.From, &e.To, &e.By, &e.Reason)
	})
	return list, away("read the history of the hsm groups", err)
}

// History reads the switches of all instances of this group.
func (l *List) History(ctx context.Context, f Filter) ([]Entry, error) {
	f.Group = l.cfg.Group
	return History(ctx, l.pool, f)
}

// history writes switches to the database, in their order, behind the cluster's back.
type history struct {
	cfg     Config
	pool    *pgxpool.Pool
	metrics *metrics
	runID   string
	wake    chan struct{}

	mu      sync.Mutex
	pending []member.Switch
}

func newHistory(cfg Config, pool *pgxpool.Pool, m *metrics) *history {
	run := strconv.FormatInt(cfg.Now().UnixMilli(), 36) + "-" + rand.Text()[:6]
	return &history{cfg: cfg, pool: pool, metrics: m, runID: run, wake: make(chan struct{}, 1)}
}

// add keeps a switch for the database; when too many wait, the oldest goes, and its missing number tells.
func (h *history) add(s member.Switch) {
	h.mu.Lock()
	if len(h.pending) >= maxPending {
		h.pending = h.pending[1:]
		h.metrics.lost.Inc()
	}
	h.pending = append(h.pending, s)
	h.mu.Unlock()
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

func (h *history) run(ctx context.Context) {
	wait, cleaned := backoffMin, time.Time{}
	for {
		var again <-chan time.Time
		switch err := h.write(ctx); {
		case ctx.Err() != nil:
			return
		case err != nil:
			if wait == backoffMin {
				h.cfg.Log.WarnContext(ctx, "hsm list: the history is not written, it waits in memory", "error", err)
			}
			again = time.After(wait)
			wait = min(2*wait, backoffMax)
		default:
			wait = backoffMin
			if time.Since(cleaned) >= housekeepEvery && h.clean(ctx) == nil {
				cleaned = time.Now()
			}
			again = time.After(housekeepEvery)
		}
		wake := h.wake
		if wait > backoffMin {
			wake = nil // the database is away: a new entry brings it back no sooner
		}
		select {
		case <-ctx.Done():
			return
		case <-wake:
		case <-again:
		}
	}
}

// flush writes what is left, once.
func (h *history) flush(ctx context.Context) {
	if err := h.write(ctx); err != nil {
		h.mu.Lock()
		left := len(h.pending)
		h.mu.Unlock()
		h.cfg.Log.WarnContext(ctx, "hsm list: history entries are lost with the end of the process", "entries", left, "error", err)
	}
}

// write brings all that waits into the database.
func (h *history) write(ctx context.Context) error {
	for {
		h.mu.Lock()
		some := h.pending[:min(len(h.pending), batch):min(len(h.pending), batch)]
		h.mu.Unlock()
		if len(some) == 0 {
			return nil
		}
		if err := h.insert(ctx, some); err != nil {
			return err
		}
		h.mu.Lock()
		// The oldest may have been given up meanwhile.
		last := some[len(some)-1].Seq
		for len(h.pending) > 0 && h.pending[0].Seq <= last {
			h.pending = h.pending[1:]
		}
		h.mu.Unlock()
	}
}

func (h *history) insert(ctx context.Context, some []member.Switch) error {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	b := &pgx.Batch{}
	for _, s := range some {
		b.Queue(`
INSERT INTO hsm_switches (hsm_group, instance, run, seq, at, phase, domain, member, what, from_state, to_state, by_whom, reason)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) ON CONFLICT DO NOTHING`,
			h.cfg.Group, h.cfg.Instance, h.runID, int64(s.Seq), s.At, string(s.Phase), s.Domain, s.Member, s.What, s.From, s.To, s.By, s.Reason)
		if fencedByCluster(s) {
			b.Queue(`INSERT INTO hsm_fences (hsm_group, member, instance, reason) VALUES ($1, $2, $3, $4)`, h.cfg.Group, s.Member, h.cfg.Instance, s.Reason)
		}
	}
	// The statements of a batch are one transaction.
	if err := h.pool.SendBatch(ctx, b).Close(); err != nil {
		return fmt.Errorf("write the history of the hsm group: %w", err)
	}
	return nil
}

// fencedByCluster says that this instance has found a reason not to trust a device. What an operator fences is his decision for one
// instance.
func fencedByCluster(s member.Switch) bool {
	return s.What == "state" && s.To == string(member.Fenced) && s.Phase == member.After && s.By == "cluster"
}

func (h *history) clean(ctx context.Context) error {
	if h.cfg.Retention <= 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	_, err := h.pool.Exec(ctx, `DELETE FROM hsm_switches WHERE hsm_group = $1 AND at < now() - $2::interval`, h.cfg.Group, h.cfg.Retention)
	if err == nil {
		_, err = h.pool.Exec(ctx, `DELETE FROM hsm_fences WHERE hsm_group = $1 AND at < now() - $2::interval`, h.cfg.Group, h.cfg.Retention)
	}
	return err
}

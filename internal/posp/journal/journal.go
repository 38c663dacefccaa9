// Package journal is the one path by which posp records what happens to money (design.md §4): every record goes to the local
// spool first, a shipper writes batches of them to PostgreSQL, and a caller that needs durability waits until one of the two
// holds it safely. Memory keeps what the duplicate check and the reversals need.
//
// With acknowledgement mode "database" a record counts as durable when PostgreSQL has committed it; while PostgreSQL is away,
// after a bounded wait, an fsync of the spool serves instead. With "local" the fsync always serves.
package journal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyward/keyward/internal/ledger"
	"github.com/keyward/keyward/internal/spool"
	"github.com/keyward/keyward/internal/txn"
)

// AckMode says what makes a record durable.
type AckMode string

// The acknowledgement modes; the configuration key journal.ack takes the same words.
const (
	AckDatabase AckMode = "database"
	AckLocal    AckMode = "local"
)

// databaseWait is how long a record waits for PostgreSQL before the fsync of the spool serves instead: longer than a healthy
// commit under load, much shorter than a terminal's patience.
const databaseWait = 1500 * time.Millisecond

// ErrNotDurable means that nobody can promise to keep the record: the caller must not do what the record announces.
var ErrNotDurable = errors.New("journal record is not durable")

// Config is what a journal needs.
type Config struct {
	Instance string // stable name of this posp
	Ack      AckMode
	Spool    spool.Config
	Store    *ledger.Store
	Location *time.Location // of the business date
	// Owed is called once for each reversal that begins to be owed, also after a restart. It must not block.
	Owed    func(*Entry)
	Log     *slog.Logger
	Metrics prometheus.Registerer
	Now     func() time.Time
}

// Journal is the journal of one posp instance.
type Journal struct {
	cfg     Config
	spool   *spool.Spool
	index   *index
	metrics *metrics

	mu        sync.Mutex
	shipped   spool.Pos     // in PostgreSQL
	moved     chan struct{} // closed when shipped or away changes, then replaced
	conflicts map[txn.ID]txn.ID
	// quarantined are transactions of which the database refused a record.
	quarantined map[txn.ID]bool

	appended atomic.Uint64 // the newest record in the spool
	away     atomic.Bool   // PostgreSQL did not take the last batch
	cancel   context.CancelFunc
	done     chan struct{}
}

// New makes a journal; Start opens it.
func New(cfg Config) (*Journal, error) {
	switch {
	case cfg.Instance == "":
		return nil, errors.New("journal: the instance has no name; set instance in the configuration")
	case cfg.Ack != AckDatabase && cfg.Ack != AckLocal:
		return nil, fmt.Errorf("journal: ack mode %q is not %q or %q", cfg.Ack, AckDatabase, AckLocal)
	}
	m, err := newMetrics(cfg.Metrics)
	if err != nil {
		return nil, err
	}
	return &Journal{
		cfg: cfg, index: newIndex(), metrics: m, moved: make(chan struct{}), conflicts: map[txn.ID]txn.ID{}, quarantined: map[txn.ID]bool{},
		done: make(chan struct{}),
	}, nil
}

// Start opens the spool, ships what the last life left in it, and brings unfinished transactions to an end: sent without a
// recorded outcome means unknown, and approved without an answer means that the answer was never handed over. PostgreSQL must be
// there: without it nobody knows what is unfinished.
func (j *Journal) Start(ctx context.Context) error {
	sp, recovery, err := spool.Open(j.cfg.Spool)
	if err != nil {
		return fmt.Errorf("open the journal: %w", err)
	}
	j.spool = sp
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	j.cancel = cancel
	if err := j.drain(ctx); err != nil {
		cancel()
		close(j.done)
		return errors.Join(fmt.Errorf("ship the journal of the last run: %w", err), sp.Close())
	}
	go j.ship(run)
	// A spool that has never held a record, under a name that the database knows, has lost what its forerunner held.
	lost := recovery.Last == 0 && recovery.Acked == 0
	if err := j.recover(ctx, recovery.Rebooted || recovery.SyncFailed || lost); err != nil {
		return errors.Join(err, j.Stop(ctx))
	}
	return nil
}

// Stop ships what is left, bounded by ctx, and closes the spool. What could not be shipped is shipped by the next start.
func (j *Journal) Stop(ctx context.Context) error {
	if j.spool == nil {
		return nil
	}
	_ = j.waitShipped(ctx, spool.Pos(j.appended.Load()))
	j.cancel()
	<-j.done
	return j.spool.Close()
}

// Admit says whether a new transaction may begin: not when the spool is nearly full or has failed.
func (j *Journal) Admit() error { return j.spool.Admit() }

// Failed is closed when the spool has failed for good: the instance must stop.
func (j *Journal) Failed() <-chan struct{} { return j.spool.Failed() }

// DatabaseAway says that records are kept locally because PostgreSQL does not take them.
func (j *Journal) DatabaseAway() bool { return j.away.Load() }

// append writes a record into the spool; it survives the death of the process from then on, not of the machine. After an error nothing
// was written.
func (j *Journal) append(r *ledger.Record) (spool.Pos, error) {
	b, err := r.Encode()
	if err != nil {
		return 0, err
	}
	pos, err := j.spool.Append(b)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrNotDurable, err)
	}
	for seen := j.appended.Load(); uint64(pos) > seen && !j.appended.CompareAndSwap(seen, uint64(pos)); {
		seen = j.appended.Load()
	}
	j.metrics.records.WithLabelValues(string(r.Event)).Inc()
	return pos, nil
}

// confirm waits until a record is safe.
func (j *Journal) confirm(ctx context.Context, pos spool.Pos) error {
	began := time.Now()
	defer func() { j.metrics.durable.Observe(time.Since(began).Seconds()) }()
	return j.waitDurable(ctx, pos)
}

func (j *Journal) waitDurable(ctx context.Context, pos spool.Pos) error {
	if j.cfg.Ack == AckDatabase && !j.away.Load() {
		waitCtx, cancel := context.WithTimeout(ctx, databaseWait)
		err := j.waitShipped(waitCtx, pos)
		cancel()
		if err == nil {
			return nil
		}
		j.metrics.fallbacks.Inc()
	}
	if err := j.spool.Sync(ctx, pos); err != nil {
		return fmt.Errorf("%w: %w", ErrNotDurable, err)
	}
	return nil
}

// waitShipped waits until PostgreSQL holds pos; it gives up at once when PostgreSQL goes away.
func (j *Journal) waitShipped(ctx context.Context, pos spool.Pos) error {
	for {
		j.mu.Lock()
		shipped, moved := j.shipped, j.moved
		j.mu.Unlock()
		switch {
		case shipped >= pos:
			return nil
		case j.away.Load():
			return errors.New("the database is away")
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// announce publishes progress of the shipper to all who wait.
func (j *Journal) announce(shipped spool.Pos, away bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.shipped = max(j.shipped, shipped)
	j.away.Store(away)
	close(j.moved)
	j.moved = make(chan struct{})
}

// takeConflict returns and forgets who owns the duplicate key that this transaction asked for; ok is false for no conflict.
func (j *Journal) takeConflict(id txn.ID) (owner txn.ID, ok bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	owner, ok = j.conflicts[id]
	delete(j.conflicts, id)
	return owner, ok
}

func (j *Journal) businessDate(t time.Time) string {
	return t.In(j.cfg.Location).Format(time.DateOnly)
}

package journal

import (
	"context"
	"fmt"
	"time"

	"github.com/keyward/keyward/internal/ledger"
	"github.com/keyward/keyward/internal/spool"
	"github.com/keyward/keyward/internal/txn"
)

const (
	// shipBatch bounds one commit: large enough that a busy instance shares its commits, small enough to be one quick statement.
	shipBatch = 256
	// shipTimeout bounds one commit; after it PostgreSQL counts as away.
	shipTimeout = 5 * time.Second
	// Retry bounds while PostgreSQL is away: back within a second of its return, without hammering it.
	shipRetryMin = 100 * time.Millisecond
	shipRetryMax = time.Second
	// ackEvery is how often the spool learns what may be removed. Losing an acknowledgement only ships records again.
	ackEvery = time.Second
	// maxConflicts bounds remembered conflicts of transactions that stopped waiting for theirs.
	maxConflicts = 10_000
)

// ship moves records from the spool to PostgreSQL until ctx ends.
func (j *Journal) ship(ctx context.Context) {
	defer close(j.done)
	var acked time.Time
	retry := shipRetryMin
	for {
		j.mu.Lock()
		after := j.shipped
		j.mu.Unlock()
		records, err := j.spool.Next(ctx, after, shipBatch)
		if err != nil {
			if ctx.Err() == nil && j.spool.Err() == nil {
				j.cfg.Log.ErrorContext(ctx, "journal: cannot read the spool", "error", err)
				if !pause(ctx, shipRetryMax) {
					return
				}
				continue
			}
			j.acknowledge(ctx)
			return
		}
		if err := j.shipOnce(ctx, records); err != nil {
			if ctx.Err() != nil {
				return
			}
			if !j.away.Load() {
				j.cfg.Log.WarnContext(ctx, "journal: database away, keeping records locally", "error", err)
			}
			j.announce(0, true)
			j.metrics.away.Set(1)
			if !pause(ctx, retry) {
				return
			}
			retry = min(2*retry, shipRetryMax)
			continue
		}
		if j.away.Load() {
			j.cfg.Log.InfoContext(ctx, "journal: database back, catching up")
			j.metrics.away.Set(0)
		}
		retry = shipRetryMin
		j.announce(records[len(records)-1].Pos, false)
		if now := j.cfg.Now(); now.Sub(acked) >= ackEvery {
			acked = now
			j.acknowledge(ctx)
		}
	}
}

// drain ships everything that is in the spool now; it is used before the flows start.
func (j *Journal) drain(ctx context.Context) error {
	for {
		j.mu.Lock()
		after := j.shipped
		j.mu.Unlock()
		// A spool without unshipped records would make Next wait; a short deadline tells the two apart, since records that are
		// there are returned at once.
		nextCtx, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
		records, err := j.spool.Next(nextCtx, after, shipBatch)
		cancel()
		if err != nil {
			if nextCtx.Err() != nil && ctx.Err() == nil && j.spool.Err() == nil {
				return nil
			}
			return err
		}
		if err := j.shipOnce(ctx, records); err != nil {
			return err
		}
		j.announce(records[len(records)-1].Pos, false)
		j.acknowledge(ctx)
	}
}

func (j *Journal) shipOnce(ctx context.Context, batch []spool.Record) error {
	records := make([]*ledger.Record, 0, len(batch))
	for _, raw := range batch {
		r, err := ledger.Decode(raw.Data)
		if err != nil {
			return fmt.Errorf("spool record %d: %w", raw.Pos, err)
		}
		records = append(records, r)
	}
	ctx, cancel := context.WithTimeout(ctx, shipTimeout)
	defer cancel()
	began := time.Now()
	conflicts, err := j.cfg.Store.Write(ctx, records)
	if refused(err) {
		conflicts, err = j.shipOneByOne(ctx, batch, records)
	}
	if err != nil {
		return err
	}
	j.metrics.commit.Observe(time.Since(began).Seconds())
	j.metrics.batch.Observe(float64(len(records)))
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, c := range conflicts {
		if len(j.conflicts) >= maxConflicts {
			j.conflicts = map[txn.ID]txn.ID{}
		}
		j.conflicts[c.Txn] = c.Owner
	}
	return nil
}

func (j *Journal) acknowledge(ctx context.Context) {
	if err := j.spool.Ack(j.last()); err != nil && j.spool.Err() == nil {
		j.cfg.Log.WarnContext(ctx, "journal: cannot acknowledge shipped records; they will be shipped again", "error", err)
	}
}

// last is the last record that PostgreSQL holds.
func (j *Journal) last() spool.Pos {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.shipped
}

func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

package journal

import (
	"context"
	"fmt"

	"github.com/keyward/keyward/internal/ledger"
	"github.com/keyward/keyward/internal/txn"
)

// recover brings to an end what the last life of this instance left open. doubtful says that records which were not fsynced may
// be missing (the machine was restarted): then an approval without an "answered" record may have been answered after all,
// and reversing it behind the terminal's back would be worse than leaving it to the terminal's own reversal.
func (j *Journal) recover(ctx context.Context, doubtful bool) error {
	now := j.cfg.Now()
	if err := j.cfg.Store.EnsurePartitions(ctx, now.In(j.cfg.Location).AddDate(0, 0, -1), partitionDays); err != nil {
		return err
	}
	recent, err := j.cfg.Store.Recent(ctx, now.Add(-memory), maxEntries/2)
	if err != nil {
		return err
	}
	for i := len(recent) - 1; i >= 0; i-- {
		j.adopt(recent[i])
	}
	if _, err := j.cfg.Store.ReleaseUses(ctx, j.cfg.Instance); err != nil {
		return err
	}
	open, err := j.cfg.Store.Unfinished(ctx, j.cfg.Instance)
	if err != nil {
		return err
	}
	for _, s := range open {
		if err := j.finish(ctx, j.adopt(s), s, doubtful); err != nil {
			return fmt.Errorf("finish transaction %s of the last run: %w", s.Last.Txn, err)
		}
	}
	if len(open) > 0 {
		j.cfg.Log.WarnContext(ctx, "journal: brought transactions of the last run to an end", "count", len(open), "rebooted", doubtful)
	}
	return nil
}

// partitionDays is how many days of journal partitions are made ahead, yesterday included.
const partitionDays = 9

func (j *Journal) finish(ctx context.Context, e *Entry, s *ledger.Standing, doubtful bool) error {
	state, _, answered := e.Standing()
	switch {
	case state == txn.Sending:
		return e.Conclude(ctx, txn.Unknown, unheard(e), txn.CauseNoAnswer)
	case state.Owes():
		j.cfg.Owed(e)
		return nil
	case state == txn.Approved && e.Original().Kind.Doubt() != txn.Undo:
		return e.Answered() // it is not reversed, whether or not the terminal heard of it
	case state == txn.Approved && !answered && doubtful:
		return e.leaveUnconfirmed()
	case state == txn.Approved && !answered:
		_, err := e.TakeBack(ctx, txn.CauseNotDone)
		return err
	case s.Open:
		// Settled, and only the mark of it is missing in the projection.
		return e.Answered()
	}
	return nil
}

// unheard is the reply of a transaction whose outcome the last life did not learn: posp takes charge of an advice, and nothing else.
func unheard(e *Entry) txn.Reply {
	if rec := e.Original(); rec.Kind.Doubt() == txn.Deliver {
		return txn.Reply{Code: "00", RRN: rec.RRN, HostTime: rec.Began}
	}
	return txn.Reply{}
}

// leaveUnconfirmed closes an approval of which nobody knows whether it was answered: the terminal's next message, its reversal or
// the end-of-day comparison settles it.
func (e *Entry) leaveUnconfirmed() error {
	e.mu.Lock()
	note := e.record(ledger.Note, e.state)
	note.Text = "answered, unconfirmed: the machine was restarted before the answer was known to be on disk"
	_, err := e.j.append(note)
	if err == nil {
		e.commit(note)
	}
	e.mu.Unlock()
	if err != nil {
		return err
	}
	return e.Answered()
}

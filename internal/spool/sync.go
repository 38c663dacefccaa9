package spool

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"
)

// Sync waits until every record up to pos is fsynced. Callers that wait at the same time share one fsync. A ctx that ends
// only ends the wait. Errors: ErrFailed (the record must be taken as not durable), ErrClosed, the cause of ctx.
func (s *Spool) Sync(ctx context.Context, pos Pos) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if pos <= s.synced {
			return nil
		}
		if err := s.usableLocked(); err != nil {
			return err
		}
		if pos > s.last {
			return fmt.Errorf("sync record %d: the last one appended is %d", pos, s.last)
		}
		wait := s.roundLocked()
		s.mu.Unlock()
		s.kickSync()
		var err error
		select {
		case <-wait:
		case <-ctx.Done():
			err = fmt.Errorf("wait for fsync of the spool: %w", context.Cause(ctx))
		}
		s.mu.Lock()
		if err != nil {
			return err
		}
	}
}

// roundLocked returns a channel that is closed at the end of a sync round, or at a failure.
func (s *Spool) roundLocked() <-chan struct{} {
	if s.round == nil {
		s.round = make(chan struct{})
	}
	return s.round
}

func (s *Spool) kickSync() {
	select {
	case s.kick <- struct{}{}:
	default: // A round is already asked for and will see all that is appended now.
	}
}

// syncLoop is the only goroutine of a spool. It runs until Close.
func (s *Spool) syncLoop() {
	defer close(s.done)
	for {
		select {
		case <-s.stop:
			return
		case <-s.kick:
		}
		if s.cfg.SyncWindow > 0 {
			window := time.NewTimer(s.cfg.SyncWindow)
			select {
			case <-s.stop:
			case <-window.C:
			}
			window.Stop()
		}
		if s.syncRound() {
			s.ackMu.Lock()
			s.trim()
			s.ackMu.Unlock()
		}
	}
}

// syncRound makes durable what was appended before it began, older segments first, and wakes all who wait. It tells
// whether the spool is still good.
func (s *Spool) syncRound() bool {
	s.syncMu.Lock()
	defer s.syncMu.Unlock()
	s.mu.Lock()
	if s.err != nil {
		s.endRoundLocked()
		s.mu.Unlock()
		return false
	}
	target, unlinked := s.last, false
	s.dirty = s.dirty[:0]
	for _, seg := range s.segs {
		if !seg.clean() {
			s.dirty = append(s.dirty, seg)
			unlinked = unlinked || !seg.linked
		}
	}
	s.mu.Unlock()

	var err error
	for _, seg := range s.dirty {
		if err = s.fsync(seg.file); err != nil {
			err = fmt.Errorf("fsync %s: %w", seg.name, err)
			break
		}
	}
	if err == nil && unlinked {
		if err = s.cfg.FS.SyncDir(s.cfg.Dir); err != nil {
			err = fmt.Errorf("fsync directory %s: %w", s.cfg.Dir, err)
		}
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		_ = s.failLocked(err) // Waiters read s.err.
		return false
	}
	for _, seg := range s.dirty {
		seg.synced, seg.linked = min(seg.last, target), true
	}
	s.synced = max(s.synced, target)
	s.endRoundLocked()
	return true
}

// fsync syncs one file, counted and timed.
func (s *Spool) fsync(f File) error {
	begin := time.Now() // The clock of the histogram is not the injected one: a test's clock would make it lie.
	defer func() {
		s.metrics.fsyncs.Inc()
		s.metrics.fsyncSeconds.Observe(time.Since(begin).Seconds())
	}()
	return f.Sync()
}

func (s *Spool) endRoundLocked() {
	if s.round != nil {
		close(s.round)
		s.round = nil
	}
}

// unsyncedLocked counts the segments that a power cut could still damage.
func (s *Spool) unsyncedLocked() int {
	n := 0
	for _, seg := range s.segs {
		if !seg.clean() {
			n++
		}
	}
	return n
}

// failLocked records the first failure, which is final. After a failed fsync the kernel may have dropped the written
// pages and report success next time, so nothing may be retried; the mark tells the next Open not to trust what it
// reads from the page cache.
func (s *Spool) failLocked(cause error) error {
	if s.err != nil {
		return s.err
	}
	s.err = fmt.Errorf("%w: %w", ErrFailed, cause)
	close(s.failed)
	s.endRoundLocked()
	if s.grown != nil {
		close(s.grown)
		s.grown = nil
	}
	s.cfg.Log.Error("spool failed for good, the instance must stop", slog.Any("error", cause))
	if err := s.markSuspect(); err != nil {
		s.cfg.Log.Error("spool could not leave a mark of its failure", slog.Any("error", err))
	}
	return s.err
}

func (s *Spool) markSuspect() error {
	f, err := s.cfg.FS.OpenFile(filepath.Join(s.cfg.Dir, suspectName), os.O_RDWR|os.O_CREATE, filePerm)
	if err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	// Only the name matters. It is not fsynced here, since the disk is failing and callers are waiting: the mark is for a restart
	// within this boot, and after a power cut the next Open trusts nothing unsynced anyway.
	return nil
}

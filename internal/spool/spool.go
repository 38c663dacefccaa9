// Package spool is the local journal file of design.md §4: an append-only sequence of opaque records in segment files.
//
// A record is first appended (it then survives the death of the process, not of the machine), then, where the caller
// needs it, synced (it then survives a power cut). Many callers share one fsync. A shipper reads the records in
// order, stores them elsewhere and acknowledges; segments that are acknowledged as a whole are removed.
//
// What is promised: a record that Sync confirmed is read again after any crash, once and in order, until it is
// acknowledged. A torn tail is cut at the last good record. Damage to records that were fsynced is never cut away:
// Open refuses, naming file and offset. After an fsync error nothing is confirmed any more and the instance must stop.
//
// The records are opaque: what is secret in them must be sealed by the caller before it reaches Append.
package spool

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"sync"
	"syscall"
	"time"
)

var (
	// ErrFull means that the spool is at its limit or the disk is full. Nothing was written; refuse new work and try
	// again when the shipper has caught up.
	ErrFull = errors.New("spool full")
	// ErrFailed means that an fsync or a write failed earlier. It is final: stop the instance, look at the disk, start again.
	ErrFailed = errors.New("spool failed for good: stop this instance, check the disk, then start it again")
	// ErrClosed means that Close was called.
	ErrClosed = errors.New("spool closed")
	// ErrSize means that a record is empty or larger than MaxRecord.
	ErrSize = errors.New("record size not between 1 and 16384 bytes")
	// ErrCorrupt means that stored records are damaged beyond a torn tail. The text names file, offset and next step.
	ErrCorrupt = errors.New("spool corrupt")
)

// maxUnsynced bounds the segments not yet fsynced: an appender that is this far ahead of the disk waits for it.
const maxUnsynced = 3

// segment is one file. The fields below file are guarded by Spool.mu.
type segment struct {
	name  string
	first Pos
	file  File

	last   Pos   // Number of the last record, or of the last before the segment when it is empty.
	end    int64 // Offset behind the last record: readers go no further.
	synced Pos   // Every record of the segment up to this number is fsynced.
	linked bool  // The head is fsynced and so is the directory entry.
	refs   int   // Readers using file.
	dead   bool  // Removed: the last reader closes file.
}

// clean tells that a power cut could not change the segment.
func (seg *segment) clean() bool { return seg.linked && seg.synced == seg.last }

// countAfter is the number of records with a number above pos.
func (seg *segment) countAfter(pos Pos) uint64 {
	if from := max(pos, seg.first-1); seg.last > from {
		return uint64(seg.last - from)
	}
	return 0
}

// Spool is an open spool. All methods may be called from several goroutines.
type Spool struct {
	cfg     Config
	id      [16]byte
	boot    [16]byte
	seed    uint32
	metrics *metrics
	lock    io.Closer

	kick   chan struct{} // Capacity 1: asks syncLoop for a round.
	stop   chan struct{} // Closed by Close.
	done   chan struct{} // Closed when syncLoop has ended.
	failed chan struct{} // Closed by the first failure.

	mu      sync.Mutex // Held for memory and page-cache writes only, never during an fsync.
	segs    []*segment // In order; the last one is written to. Never empty.
	bytes   int64      // Sum of the segments' sizes.
	last    Pos        // Last record appended.
	synced  Pos        // Every record up to this one is durable.
	acked   Pos        // Every record up to this one is acknowledged.
	pending uint64     // Records after acked.
	full    bool       // MaxBytes was hit; ends at LowWater.
	high    bool       // HighWater was hit; ends at LowWater.
	noSpace time.Time  // Admit refuses until then, because the disk was full.
	err     error      // The first failure; final.
	closed  bool
	grown   chan struct{} // Closed at the next Append; nil when nobody waits.
	round   chan struct{} // Closed at the end of the current or next sync round; nil when nobody waits.
	buf     []byte        // Reused by Append.
	cursors [2]cursor     // Where the last Next began and ended.

	syncMu sync.Mutex // One sync round at a time.
	dirty  []*segment // Reused by syncRound; guarded by syncMu.
	ackMu  sync.Mutex // One Ack or trim at a time.
	ack    *ackFile   // Guarded by ackMu.
}

// ID returns the random name of the spool, 32 hex digits, made when its directory was first used.
func (s *Spool) ID() string { return hex.EncodeToString(s.id[:]) }

// Failed returns a channel that is closed when the spool has failed for good. Err tells why.
func (s *Spool) Failed() <-chan struct{} { return s.failed }

// Err returns nil, or an error wrapping ErrFailed and its cause, or ErrClosed.
func (s *Spool) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.usableLocked()
}

func (s *Spool) usableLocked() error {
	if s.err != nil {
		return s.err
	}
	if s.closed {
		return ErrClosed
	}
	return nil
}

// Append writes one record of 1 to MaxRecord bytes and returns its number. When it returns, the record survives the death
// of the process; Sync makes it survive the death of the machine. rec is not kept. Append waits only when it is
// maxUnsynced segments ahead of the disk. Errors: ErrSize, ErrFull (nothing was written), ErrFailed, ErrClosed.
func (s *Spool) Append(rec []byte) (Pos, error) {
	if len(rec) == 0 || len(rec) > MaxRecord {
		return 0, fmt.Errorf("append %d bytes: %w", len(rec), ErrSize)
	}
	need := framePayload + int64(len(rec))
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.makeRoomLocked(need); err != nil {
		return 0, err
	}
	active := s.segs[len(s.segs)-1]
	s.buf = appendFrame(s.buf[:0], s.seed, s.last+1, s.synced, rec)
	if _, err := active.file.WriteAt(s.buf, active.end); err != nil {
		return 0, s.writeFailedLocked(active, err)
	}
	active.end += need
	s.bytes += need
	s.last++
	active.last = s.last
	s.pending++
	if s.bytes >= s.cfg.HighWater {
		s.high = true
	}
	s.metrics.records.Inc()
	s.metrics.bytes.Add(float64(need))
	s.gaugesLocked()
	if s.grown != nil {
		close(s.grown)
		s.grown = nil
	}
	return s.last, nil
}

// Admit tells whether new work may begin: nil, ErrFull from HighWater on until LowWater is reached again (or for a
// moment after the disk was found full), ErrFailed or ErrClosed. Work that was admitted still has room up to MaxBytes.
func (s *Spool) Admit() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usableLocked(); err != nil {
		return err
	}
	if s.full || s.high {
		return s.refuseLocked(fmt.Errorf("%w: %d of %d bytes used, new work is accepted again at %d",
			ErrFull, s.bytes, s.cfg.MaxBytes, s.cfg.LowWater))
	}
	if s.cfg.Now().Before(s.noSpace) {
		return s.refuseLocked(fmt.Errorf("%w: no space left on the disk of %s", ErrFull, s.cfg.Dir))
	}
	return nil
}

func (s *Spool) refuseLocked(err error) error {
	s.metrics.refusals.Inc()
	return err
}

// makeRoomLocked checks the limits and begins a new segment where needed. It may release and retake mu.
func (s *Spool) makeRoomLocked(need int64) error {
	for {
		if err := s.usableLocked(); err != nil {
			return err
		}
		active := s.segs[len(s.segs)-1]
		roll := active.end+need > s.cfg.SegmentBytes
		total := s.bytes + need
		if roll {
			total += headLen
		}
		if s.full || total > s.cfg.MaxBytes {
			s.full = true
			return s.refuseLocked(fmt.Errorf("%w: %d of %d bytes used, accepted again at %d: check that the shipper reaches the database",
				ErrFull, s.bytes, s.cfg.MaxBytes, s.cfg.LowWater))
		}
		if !roll {
			return nil
		}
		if s.unsyncedLocked() >= maxUnsynced {
			wait := s.roundLocked()
			s.mu.Unlock()
			s.kickSync()
			<-wait
			s.mu.Lock()
			continue
		}
		seg, err := s.createSegment(s.last+1, s.last, s.synced)
		if err != nil {
			return s.writeFailedLocked(nil, err)
		}
		s.segs = append(s.segs, seg)
		s.bytes += seg.end
		s.kickSync()
		return nil
	}
}

// writeFailedLocked cuts a partial write back, so that the file stays whole. A full disk is a refusal; all else is final.
func (s *Spool) writeFailedLocked(seg *segment, cause error) error {
	full := errors.Is(cause, syscall.ENOSPC) || errors.Is(cause, syscall.EDQUOT)
	if seg != nil {
		if err := seg.file.Truncate(seg.end); err != nil {
			return s.failLocked(fmt.Errorf("cut back a partial write in %s: %w", seg.name, errors.Join(err, cause)))
		}
	}
	if !full {
		return s.failLocked(fmt.Errorf("write a record: %w", cause))
	}
	s.noSpace = s.cfg.Now().Add(noSpaceRetry)
	return s.refuseLocked(fmt.Errorf("%w: disk of %s: %w", ErrFull, s.cfg.Dir, cause))
}

// lowWaterLocked ends a refusal when enough was removed.
func (s *Spool) lowWaterLocked() {
	if s.bytes <= s.cfg.LowWater {
		s.full, s.high = false, false
	}
}

func (s *Spool) gaugesLocked() {
	s.metrics.pendingRecords.Set(float64(s.pending))
	s.metrics.pendingSize.Set(float64(s.bytes))
}

// Close syncs what was appended, wakes all who wait and releases the directory. After a failure it returns that failure.
func (s *Spool) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		<-s.done
		return nil
	}
	s.closed = true
	close(s.stop)
	if s.grown != nil {
		close(s.grown)
		s.grown = nil
	}
	s.mu.Unlock()
	<-s.done
	s.syncRound()
	s.mu.Lock()
	err := s.err
	for _, seg := range s.segs {
		seg.dead = true
		s.releaseLocked(seg, 0)
	}
	s.mu.Unlock()
	s.ackMu.Lock()
	defer s.ackMu.Unlock()
	s.metrics.unregister()
	return errors.Join(err, s.ack.file.Close(), s.lock.Close())
}

package spool

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
)

const (
	dirPerm  = 0o700 // Records describe transactions: only the service's user may read them.
	filePerm = 0o600
)

// Recovery is what Open found.
type Recovery struct {
	// Records counts those not acknowledged; Next returns them first.
	Records uint64
	// Last is the number of the last record that was read, 0 for none; Acked the last acknowledged one.
	Last, Acked Pos
	// TornBytes counts what was cut behind the last good record. None of it had been confirmed by Sync.
	TornBytes int64
	// Rebooted tells that the machine was started since the spool was last opened. Records that were appended and not
	// synced may then be missing; without it, and without SyncFailed, every appended record is there.
	Rebooted bool
	// SyncFailed tells that the last use ended with a failure to write. The same doubt applies as for Rebooted.
	SyncFailed bool
}

// Open opens the spool of a directory or begins a new one. When it returns, every record that it recovered is durable.
// It refuses with ErrCorrupt when records that were durable are damaged or missing, and with a sentence naming the
// process when another one uses the directory.
func Open(c Config) (*Spool, Recovery, error) {
	s, rec, err := open(c)
	if err != nil {
		return nil, Recovery{}, fmt.Errorf("open spool %s: %w", c.Dir, err)
	}
	return s, rec, nil
}

func open(c Config) (_ *Spool, _ Recovery, err error) {
	if c, err = c.complete(); err != nil {
		return nil, Recovery{}, err
	}
	if err = c.FS.MkdirAll(c.Dir, dirPerm); err != nil {
		return nil, Recovery{}, err
	}
	s := &Spool{
		cfg: c, kick: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}), failed: make(chan struct{}),
		buf: make([]byte, 0, framePayload+MaxRecord),
	}
	sum := sha256.Sum256([]byte(c.BootID))
	copy(s.boot[:], sum[:])
	if s.lock, err = c.FS.Lock(filepath.Join(c.Dir, lockName)); err != nil {
		return nil, Recovery{}, err
	}
	defer func() {
		if err != nil {
			s.abandon()
		}
	}()
	if s.metrics, err = newMetrics(c.Metrics); err != nil {
		return nil, Recovery{}, err
	}
	rec, err := s.recover()
	if err != nil {
		return nil, Recovery{}, err
	}
	s.lowWaterLocked()
	s.high = s.bytes >= c.HighWater
	s.gaugesLocked()
	c.Log.Info("spool opened", slog.Uint64("unacknowledged", rec.Records), slog.Int64("torn_bytes", rec.TornBytes),
		slog.Bool("rebooted", rec.Rebooted), slog.Bool("sync_failed", rec.SyncFailed))
	go s.syncLoop()
	return s, rec, nil
}

// abandon undoes an Open that failed half-way.
func (s *Spool) abandon() {
	for _, seg := range s.segs {
		_ = seg.file.Close() // The first error is the one to report.
	}
	if s.ack != nil {
		_ = s.ack.file.Close() // As above.
	}
	if s.metrics != nil {
		s.metrics.unregister()
	}
	_ = s.lock.Close() // As above.
}

// recover reads the directory, repairs what may be repaired and begins a new segment.
func (s *Spool) recover() (Recovery, error) {
	found, err := s.list()
	if err != nil {
		return Recovery{}, err
	}
	rec := Recovery{SyncFailed: found.suspect}
	ack, err := s.openAck()
	if err != nil {
		return rec, err
	}
	kept, err := s.examine(found, &rec, ack)
	if err != nil {
		return rec, err
	}
	next := s.last + 1
	if rec.Rebooted || rec.SyncFailed {
		next = max(s.last, s.acked, found.highest()) + bootGap
	} else {
		next = max(next, s.acked+1, found.highest()) // The newest may be empty and begin behind a jump.
	}
	rec.Last, rec.Acked = s.last, s.acked
	if err := s.adopt(kept, &rec, next); err != nil {
		return rec, err
	}
	return rec, nil
}

// adopt makes what was recovered durable and begins the segment of this run.
func (s *Spool) adopt(kept []*candidate, rec *Recovery, next Pos) error {
	for i, k := range kept {
		seg, err := s.repair(k, rec.SyncFailed && i >= len(kept)-maxUnsynced-1)
		if err != nil {
			for _, rest := range kept[i:] {
				_ = rest.file.Close() // The first error is the one to report.
			}
			return err
		}
		s.segs = append(s.segs, seg)
		s.bytes += seg.end
		s.pending += seg.countAfter(s.acked)
	}
	rec.Records = s.pending
	prev := s.last
	s.last, s.synced = next-1, next-1
	if err := s.cfg.FS.SyncDir(s.cfg.Dir); err != nil {
		return fmt.Errorf("fsync directory: %w", err)
	}
	// An empty last segment of this boot is used on: a service that restarts in a loop must not fill the directory.
	if n := len(s.segs); n > 0 && s.segs[n-1].first == next && s.segs[n-1].last < next {
		return s.clearSuspect(rec.SyncFailed)
	}
	seg, err := s.createSegment(next, prev, prev)
	if err != nil {
		return fmt.Errorf("begin a segment: %w", err)
	}
	s.segs = append(s.segs, seg)
	s.bytes += seg.end
	if err := s.fsync(seg.file); err != nil {
		return fmt.Errorf("fsync %s: %w", seg.name, err)
	}
	if err := s.cfg.FS.SyncDir(s.cfg.Dir); err != nil {
		return fmt.Errorf("fsync directory: %w", err)
	}
	seg.linked = true
	// The numbering jumped, so an empty segment before the new one has done its work of keeping the old numbers.
	if n := len(s.segs); n > 1 && s.segs[n-2].last < s.segs[n-2].first {
		empty := s.segs[n-2]
		if err := s.cfg.FS.Remove(filepath.Join(s.cfg.Dir, empty.name)); err != nil {
			return fmt.Errorf("remove empty segment: %w", err)
		}
		_ = empty.file.Close() // It holds nothing.
		s.segs = append(s.segs[:n-2], seg)
		s.bytes -= empty.end
	}
	return s.clearSuspect(rec.SyncFailed)
}

// clearSuspect removes the mark of a failure once all that was recovered is written and fsynced anew.
func (s *Spool) clearSuspect(marked bool) error {
	if !marked {
		return nil
	}
	if err := s.cfg.FS.Remove(filepath.Join(s.cfg.Dir, suspectName)); err != nil {
		return fmt.Errorf("remove the mark of an earlier failure: %w", err)
	}
	return s.cfg.FS.SyncDir(s.cfg.Dir)
}

// createSegment makes a file with its head. It is neither fsynced nor linked yet.
func (s *Spool) createSegment(first, prev, synced Pos) (*segment, error) {
	name := segmentName(first)
	path := filepath.Join(s.cfg.Dir, name)
	f, err := s.cfg.FS.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, filePerm)
	if err != nil {
		return nil, err
	}
	h := header{id: s.id, boot: s.boot, first: first, prev: prev, synced: synced}
	if _, err = f.WriteAt(h.encode(), 0); err != nil {
		return nil, errors.Join(err, f.Close(), s.cfg.FS.Remove(path))
	}
	return &segment{name: name, first: first, file: f, last: prev, end: headLen, synced: prev}, nil
}

// openAck opens or makes the acknowledgement file and sets the spool's id and acked from it.
func (s *Spool) openAck() (stored, error) {
	path := filepath.Join(s.cfg.Dir, ackName)
	f, err := s.cfg.FS.OpenFile(path, os.O_RDWR|os.O_CREATE, filePerm)
	if err != nil {
		return stored{}, err
	}
	s.ack = &ackFile{file: f}
	b, err := readAll(f, ackSlots*ackSpacing)
	if err != nil {
		return stored{}, fmt.Errorf("read %s: %w", ackName, err)
	}
	a := readAck(b)
	s.id, s.acked, s.ack.next = a.id, a.pos, (a.slot+1)%ackSlots
	return a, nil
}

// writeAck fills a new or unreadable acknowledgement file.
func (s *Spool) writeAck() error {
	b := make([]byte, ackSlots*ackSpacing)
	copy(b, encodeAck(s.id, s.acked))
	s.ack.next = 1
	if _, err := s.ack.file.WriteAt(b, 0); err != nil {
		return fmt.Errorf("write %s: %w", ackName, err)
	}
	if err := s.fsync(s.ack.file); err != nil {
		return fmt.Errorf("fsync %s: %w", ackName, err)
	}
	return nil
}

// newID names a new spool.
func (s *Spool) newID() { _, _ = rand.Read(s.id[:]) } // Read never fails (package crypto/rand).

// readAll reads a file up to limit bytes; a longer one is an error, since its content is not a spool's.
func readAll(f File, limit int64) ([]byte, error) {
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	if size > limit {
		return nil, fmt.Errorf("%w: %d bytes, at most %d expected: move the file away if it is not a spool's", ErrCorrupt, size, limit)
	}
	b := make([]byte, size)
	if n, err := f.ReadAt(b, 0); n < len(b) {
		return nil, fmt.Errorf("read %d of %d bytes: %w", n, size, err)
	}
	return b, nil
}

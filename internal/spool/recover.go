package spool

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// candidate is a segment file found by Open.
type candidate struct {
	name    string
	first   Pos
	file    File
	scanned scanned
	head    header
	headOK  bool
}

// listing is the content of the directory.
type listing struct {
	segs    []*candidate // By first number.
	suspect bool
}

func (l listing) highest() Pos {
	if len(l.segs) == 0 {
		return 0
	}
	return l.segs[len(l.segs)-1].first
}

// list reads the directory and removes what a crash may have left behind.
func (s *Spool) list() (listing, error) {
	var l listing
	names, err := s.cfg.FS.ReadDir(s.cfg.Dir)
	if err != nil {
		return l, err
	}
	for _, name := range names {
		first, ok := parseSegmentName(name)
		switch {
		case ok:
			l.segs = append(l.segs, &candidate{name: name, first: first})
		case name == suspectName:
			l.suspect = true
		case name == ackName, name == lockName:
		case strings.HasSuffix(name, segmentSuffix+tempSuffix):
			if err := s.cfg.FS.Remove(filepath.Join(s.cfg.Dir, name)); err != nil {
				return l, err
			}
		default:
			s.cfg.Log.Warn("spool directory holds a file that is not its own", slog.String("name", name))
		}
	}
	slices.SortFunc(l.segs, func(a, b *candidate) int {
		if a.first < b.first {
			return -1
		}
		return 1
	})
	return l, nil
}

// examine decides which segments are kept and where a torn tail is cut. It sets id, seed, acked and last.
func (s *Spool) examine(l listing, rec *Recovery, ack stored) (kept []*candidate, err error) {
	segs := l.segs
	defer func() {
		for _, c := range segs {
			if c.file != nil && !slices.Contains(kept, c) {
				_ = c.file.Close() // Only read.
			}
		}
	}()
	for _, c := range segs {
		if err = s.openCandidate(c); err != nil {
			return nil, err
		}
	}
	known := ack.ok
	for _, c := range segs {
		if c.headOK && !known {
			s.id, known = c.head.id, true
		}
		if c.headOK && c.head.id != s.id {
			return nil, fmt.Errorf("%w: %s belongs to another spool: move it to a directory of its own", ErrCorrupt, c.name)
		}
	}
	if !known {
		s.newID()
	}
	s.seed = seedOf(s.id)
	// Segments whose records are all acknowledged may be gone, or come back when a crash undid their removal.
	drop := 0
	for drop+1 < len(segs) && ack.ok && segs[drop+1].headOK && segs[drop+1].head.prev <= s.acked {
		drop++
	}
	// With a damaged acknowledgement the oldest segment tells what was acknowledged at least: the rest is returned again.
	if !ack.exact && len(segs) > 0 && segs[0].headOK {
		s.acked = max(s.acked, segs[0].head.prev)
	}
	if !ack.exact || rec.SyncFailed { // See repair for the second.
		if err = s.writeAck(); err != nil {
			return nil, err
		}
	}
	for _, c := range segs[drop:] {
		if err = s.scan(c); err != nil {
			return nil, err
		}
	}
	if len(segs) == 0 && s.acked > 0 {
		return nil, fmt.Errorf("%w: records up to %d were acknowledged, but no segment file is left: restore the directory, "+
			"or move %s away to start an empty spool", ErrCorrupt, s.acked, ackName)
	}
	n, err := s.judge(segs[drop:], rec)
	if err != nil {
		return nil, err
	}
	kept = segs[drop : drop+n]
	if len(kept) > 0 {
		s.last = kept[n-1].scanned.last
	} else {
		s.last = s.acked
	}
	for _, c := range segs {
		if slices.Contains(kept, c) {
			continue
		}
		if err = s.cfg.FS.Remove(filepath.Join(s.cfg.Dir, c.name)); err != nil {
			return nil, fmt.Errorf("remove segment: %w", err)
		}
	}
	return kept, nil
}

// judge walks the segments in order and returns how many are kept. Behind the first break nothing is kept; the break must
// be explained by a crash, else the spool is corrupt.
func (s *Spool) judge(segs []*candidate, rec *Recovery) (int, error) {
	// The newest head is of the last run: every Open begins a segment or uses an empty one of the same boot. Where none can
	// be read, a power cut is the safe reading.
	rec.Rebooted = len(segs) > 0
	for _, c := range segs {
		if c.headOK {
			rec.Rebooted = c.head.boot != s.boot
		}
	}
	for i, c := range segs {
		prev, want := s.acked, s.acked+1
		if i > 0 {
			prev, want = segs[i-1].scanned.last, segs[i-1].scanned.want()
		}
		if !c.headOK || i > 0 && c.head.prev != prev || i == 0 && c.head.prev > prev {
			if err := s.explain(segs, i, 0, want, rec); err != nil {
				return 0, err
			}
			for _, dropped := range segs[i:] {
				rec.TornBytes += dropped.scanned.size
			}
			return i, nil
		}
		if !c.scanned.broken() {
			continue
		}
		if err := s.explain(segs, i, c.scanned.end, c.scanned.want(), rec); err != nil {
			return 0, err
		}
		rec.TornBytes += c.scanned.size - c.scanned.end
		for _, dropped := range segs[i+1:] {
			rec.TornBytes += dropped.scanned.size
		}
		return i + 1, nil
	}
	return len(segs), nil
}

// explain returns nil when a break before record lost can be what a crash leaves, else an ErrCorrupt. Every record and
// head tells up to where all was fsynced when it was written. One that tells this of a lost record proves damage. Within
// one boot the page cache survives: whole records behind a break then prove damage even without that.
func (s *Spool) explain(segs []*candidate, i int, off int64, lost Pos, rec *Recovery) error {
	crashed := rec.SyncFailed
	proof, hint := "", ""
	for j, c := range segs[i:] {
		if c.headOK && c.head.boot != s.boot {
			crashed = true
		}
		whole := c.scanned.later >= 0 || c.headOK && (j > 0 || off == 0)
		switch {
		case proof == "" && c.scanned.synced >= lost:
			proof = c.name
		case hint == "" && whole:
			hint = c.name
		}
	}
	if !segs[i].headOK && (i == 0 || segs[i-1].head.boot != s.boot) {
		crashed = true
	}
	if proof == "" && !crashed {
		proof = hint
	}
	if proof == "" {
		return nil
	}
	return fmt.Errorf("%w: %s at offset %d: record %d is damaged or missing, and %s shows that this is no torn tail; "+
		"keep a copy of the directory, restore the file from the disk's mirror or backup, or move the directory away to start "+
		"an empty spool and reconcile the transactions it held", ErrCorrupt, segs[i].name, off, lost, proof)
}

func (s *Spool) openCandidate(c *candidate) error {
	f, err := s.cfg.FS.OpenFile(filepath.Join(s.cfg.Dir, c.name), os.O_RDWR, filePerm)
	if err != nil {
		return err
	}
	c.file = f
	size, err := f.Size()
	if err != nil {
		return fmt.Errorf("size of %s: %w", c.name, err)
	}
	b := make([]byte, min(size, headLen))
	if n, err := f.ReadAt(b, 0); n < len(b) {
		return fmt.Errorf("read %s: %w", c.name, err)
	}
	c.head, c.headOK = parseHeader(b)
	c.headOK = c.headOK && c.head.first == c.first
	return nil
}

func (s *Spool) scan(c *candidate) error {
	b, err := readAll(c.file, maxSegmentBytes+headLen)
	if err != nil {
		return fmt.Errorf("read %s: %w", c.name, err)
	}
	c.scanned = scanSegment(b, c.first, s.id)
	return nil
}

// repair cuts a candidate at its last good record and fsyncs it. With rewrite the good part is written to a new file first:
// after a failed fsync the page cache may hold what the disk does not, and another fsync would not write it.
func (s *Spool) repair(c *candidate, rewrite bool) (*segment, error) {
	if rewrite {
		if err := s.rewrite(c); err != nil {
			return nil, fmt.Errorf("rewrite %s: %w", c.name, err)
		}
	} else if c.scanned.end < c.scanned.size {
		if err := c.file.Truncate(c.scanned.end); err != nil {
			return nil, fmt.Errorf("cut the torn tail of %s: %w", c.name, err)
		}
	}
	if err := s.fsync(c.file); err != nil {
		return nil, fmt.Errorf("fsync %s: %w", c.name, err)
	}
	return &segment{
		name: c.name, first: c.first, file: c.file, last: c.scanned.last, end: c.scanned.end, synced: c.scanned.last, linked: true,
	}, nil
}

func (s *Spool) rewrite(c *candidate) error {
	good := make([]byte, c.scanned.end)
	if n, err := c.file.ReadAt(good, 0); n < len(good) {
		return err
	}
	path := filepath.Join(s.cfg.Dir, c.name)
	f, err := s.cfg.FS.OpenFile(path+tempSuffix, os.O_RDWR|os.O_CREATE|os.O_TRUNC, filePerm)
	if err != nil {
		return err
	}
	if _, err = f.WriteAt(good, 0); err == nil {
		err = s.fsync(f)
	}
	if err == nil {
		err = s.cfg.FS.Rename(path+tempSuffix, path)
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	old := c.file
	c.file = f
	return old.Close()
}

package spool

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// nextBytes bounds what one Next reads and returns: large enough for a batch of hundreds of records, and for one of
// MaxRecord with its head.
const nextBytes = 256 << 10

// Record is one record read back.
type Record struct {
	// Pos is its number.
	Pos Pos
	// Data is its content; it belongs to the caller.
	Data []byte
}

// cursor remembers where in a file the records after a number begin, so that reading on, or again, needs no search.
type cursor struct {
	seg   *segment
	after Pos
	off   int64
}

// Next returns up to limit records after the given number, in order, at least one; it waits while there is none.
// Acknowledged records are skipped. Records are returned before they are fsynced: whoever stores them elsewhere makes
// them durable there. Memory per call is bounded by 256 KiB. Errors: the cause of ctx, ErrFailed, ErrClosed, ErrCorrupt
// (a record in the file does not match its checksum), or a read error, after which Next may be called again.
func (s *Spool) Next(ctx context.Context, after Pos, limit int) ([]Record, error) {
	if limit < 1 {
		return nil, fmt.Errorf("read records: limit %d is below 1", limit)
	}
	var at cursor
	s.mu.Lock()
	for {
		if err := s.usableLocked(); err != nil {
			s.mu.Unlock()
			return nil, err
		}
		after = max(after, s.acked)
		if at = s.locateLocked(after); at.seg != nil {
			break
		}
		if s.grown == nil {
			s.grown = make(chan struct{})
		}
		wait := s.grown
		s.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for records: %w", context.Cause(ctx))
		}
		s.mu.Lock()
	}
	end := at.seg.end
	at.seg.refs++
	s.mu.Unlock()

	records, begin, stop, err := s.read(at, end, limit)

	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		s.cursors = [2]cursor{
			{seg: at.seg, after: after, off: begin},
			{seg: at.seg, after: records[len(records)-1].Pos, off: stop},
		}
	}
	s.releaseLocked(at.seg, 1)
	return records, err
}

// locateLocked finds the segment that holds the first record after a number, and the best offset known. The segment is
// nil when there is no such record.
func (s *Spool) locateLocked(after Pos) cursor {
	for _, seg := range s.segs {
		if seg.countAfter(after) == 0 {
			continue
		}
		for _, c := range s.cursors {
			if c.seg == seg && c.after == after {
				return c
			}
		}
		return cursor{seg: seg, after: after, off: headLen}
	}
	return cursor{}
}

// releaseLocked ends the use of a segment and closes it when it was removed meanwhile.
func (s *Spool) releaseLocked(seg *segment, refs int) {
	seg.refs -= refs
	if seg.dead && seg.refs == 0 {
		_ = seg.file.Close() // Nothing is buffered in the process, and durability was decided by fsync.
		for i := range s.cursors {
			if s.cursors[i].seg == seg {
				s.cursors[i] = cursor{}
			}
		}
	}
}

// read returns records from one chunk of the file, and the offsets where the first of them begins and the last ends.
func (s *Spool) read(at cursor, end int64, limit int) (records []Record, begin, stop int64, err error) {
	chunk := make([]byte, min(nextBytes, end-at.off))
	for off := at.off; off < end; {
		b := chunk[:min(int64(len(chunk)), end-off)]
		if n, err := at.seg.file.ReadAt(b, off); n < len(b) {
			if err == nil || errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, 0, 0, fmt.Errorf("read %s at offset %d: %w", at.seg.name, off, err)
		}
		for len(b) > 0 && len(records) < limit {
			f, ok, short := parseFrame(b, s.seed, 0)
			if short && off+int64(len(b)) < end {
				break
			}
			if !ok {
				return nil, 0, 0, fmt.Errorf("%w: %s at offset %d: the record does not match its checksum: check the disk", ErrCorrupt, at.seg.name, off)
			}
			if f.seq > at.after {
				if records == nil {
					begin = off
				}
				records = append(records, Record{Pos: f.seq, Data: f.payload})
			}
			b = b[f.size():]
			off += f.size()
			stop = off
		}
		if records != nil {
			return records, begin, stop, nil
		}
	}
	return nil, 0, 0, fmt.Errorf("%w: %s holds no record after %d: check the disk", ErrCorrupt, at.seg.name, at.after)
}

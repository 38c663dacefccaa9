package spool

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"path/filepath"
)

// Layout of the acknowledgement file: two slots that are written in turn, each in a block of its own, so that a torn
// write leaves the other one whole. The file is written in full when it is made: a full disk does not stop it later.
const (
	ackMagic   = "KWSPACK\x01" // 8: name and format version 1.
	ackID      = 8             // 16: spool id.
	ackPos     = 24            // 8: every record up to this number is acknowledged.
	ackCRC     = 32            // 4: CRC32C over the 32 bytes before.
	ackLen     = 36
	ackSpacing = 4096
	ackSlots   = 2
)

type ackFile struct {
	file File
	next int64 // Slot for the next write: never the one that holds the newest number.
}

func encodeAck(id [16]byte, pos Pos) []byte {
	b := make([]byte, ackLen)
	copy(b, ackMagic)
	copy(b[ackID:], id[:])
	binary.BigEndian.PutUint64(b[ackPos:], uint64(pos))
	binary.BigEndian.PutUint32(b[ackCRC:], crc32.Checksum(b[:ackCRC], castagnoli))
	return b
}

func parseAck(b []byte) (id [16]byte, pos Pos, ok bool) {
	if len(b) < ackLen || string(b[:len(ackMagic)]) != ackMagic ||
		binary.BigEndian.Uint32(b[ackCRC:]) != crc32.Checksum(b[:ackCRC], castagnoli) {
		return id, 0, false
	}
	copy(id[:], b[ackID:])
	return id, Pos(binary.BigEndian.Uint64(b[ackPos:])), true
}

// stored is what the bytes of an acknowledgement file say.
type stored struct {
	id   [16]byte
	pos  Pos
	slot int64
	// ok is false when no slot is good.
	ok bool
	// exact is false when a slot is damaged, which may have held a higher number.
	exact bool
}

func readAck(b []byte) stored {
	a := stored{exact: len(b) == ackSlots*ackSpacing}
	for i := range int64(ackSlots) {
		if i*ackSpacing >= int64(len(b)) {
			break
		}
		slot := b[i*ackSpacing:]
		slot = slot[:min(len(slot), ackLen)]
		id, pos, good := parseAck(slot)
		if good && (!a.ok || pos > a.pos) {
			a.id, a.pos, a.slot, a.ok = id, pos, i, true
		}
		unused := bytes.Count(slot, []byte{0}) == len(slot)
		a.exact = a.exact && (good || unused)
	}
	a.exact = a.exact && a.ok
	return a
}

// Ack records durably that every record up to pos is stored elsewhere, and removes segments that are no longer needed. A
// number at or below the last acknowledged one changes nothing. Should the acknowledgement be lost, records are
// returned again after the next Open.
func (s *Spool) Ack(pos Pos) error {
	s.ackMu.Lock()
	defer s.ackMu.Unlock()
	s.mu.Lock()
	err := s.usableLocked()
	acked, last := s.acked, s.last
	s.mu.Unlock()
	switch {
	case err != nil:
		return err
	case pos <= acked:
		return nil
	case pos > last:
		return fmt.Errorf("acknowledge record %d: the last one appended is %d", pos, last)
	}
	// A failed write may be tried again: it goes to the same slot, and the other one still holds the number before.
	if _, err = s.ack.file.WriteAt(encodeAck(s.id, pos), s.ack.next*ackSpacing); err != nil {
		return fmt.Errorf("acknowledge record %d: %w", pos, err)
	}
	if err = s.fsync(s.ack.file); err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.failLocked(fmt.Errorf("fsync the acknowledgement: %w", err))
	}
	s.ack.next = (s.ack.next + 1) % ackSlots
	s.mu.Lock()
	s.acked = pos
	s.pending = 0
	for _, seg := range s.segs {
		s.pending += seg.countAfter(pos)
	}
	s.gaugesLocked()
	s.mu.Unlock()
	s.trim()
	return s.Err()
}

// trim removes segments whose records are all acknowledged and durable, never the active one. The caller holds ackMu.
func (s *Spool) trim() {
	s.mu.Lock()
	n := 0
	for n < len(s.segs)-1 && s.segs[n].last <= s.acked && s.segs[n+1].linked {
		n++ // The next one is linked: this one was then fsynced before, and a power cut never leaves no readable segment.
	}
	if n == 0 || s.err != nil {
		s.mu.Unlock()
		return
	}
	gone := append([]*segment(nil), s.segs[:n]...)
	s.segs = append(s.segs[:0], s.segs[n:]...)
	s.mu.Unlock()

	var err error
	var freed int64
	for _, seg := range gone {
		if err = s.cfg.FS.Remove(filepath.Join(s.cfg.Dir, seg.name)); err != nil {
			err = fmt.Errorf("remove acknowledged segment: %w", err)
			break
		}
		freed += seg.end
	}
	if err == nil {
		if err = s.cfg.FS.SyncDir(s.cfg.Dir); err != nil {
			err = fmt.Errorf("fsync directory %s: %w", s.cfg.Dir, err)
		}
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	for _, seg := range gone {
		seg.dead = true
		s.releaseLocked(seg, 0)
	}
	if err != nil {
		_ = s.failLocked(err) // Err tells; the records themselves are acknowledged.
		return
	}
	s.bytes -= freed
	s.lowWaterLocked()
	s.gaugesLocked()
}

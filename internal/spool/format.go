package spool

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
)

// MaxRecord is the largest record in bytes. A transaction's record is a few hundred bytes; the bound keeps a
// wrong caller from filling a segment with one record and lets a reader use one fixed buffer.
const MaxRecord = 16 << 10

// Pos is the number of a record in its spool; the first is 1 and 0 stands for "before the first". Numbers rise by one
// within a boot of the machine and jump ahead by bootGap after it restarted, so that a number is never used for two
// records, even when the first one was shipped and then lost in a power cut: (spool id, Pos) is a safe key for
// idempotent replay.
type Pos uint64

// bootGap is larger than the number of records that can be written and not yet fsynced, whatever the settings.
const bootGap Pos = 1 << 32

// Layout of a segment file: one header, then records without padding. All numbers are big endian.
const (
	headMagic  = "KWSPOOL\x01" // 8: name and format version 1.
	headID     = 8             // 16: spool id, random per directory.
	headBoot   = 24            // 16: first half of SHA-256 over the machine's boot id.
	headFirst  = 40            // 8: number of the first record of this segment.
	headPrev   = 48            // 8: number of the last record before this segment.
	headSynced = 56            // 8: every record up to this number was fsynced when the segment was made.
	headCRC    = 64            // 4: CRC32C over the 64 bytes before.
	headLen    = 68

	frameSize    = 0  // 4: payload length, 1 to MaxRecord.
	frameCRC     = 4  // 4: CRC32C over length, number, synced and payload, seeded with the spool id.
	frameSeq     = 8  // 8: number of the record.
	frameSynced  = 16 // 8: every record up to this number was fsynced when this one was written.
	framePayload = 24 // n: payload.
)

const (
	segmentSuffix = ".seg" // Named by the first number, 16 hex digits: names sort in order.
	tempSuffix    = ".tmp" // A segment being rewritten; worthless after a crash.
	ackName       = "ack"
	lockName      = "lock"
	suspectName   = "suspect" // Exists from an fsync error until the next successful Open.
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// header is the decoded head of a segment.
type header struct {
	id, boot            [16]byte
	first, prev, synced Pos
}

func (h header) encode() []byte {
	b := make([]byte, headLen)
	copy(b, headMagic)
	copy(b[headID:], h.id[:])
	copy(b[headBoot:], h.boot[:])
	binary.BigEndian.PutUint64(b[headFirst:], uint64(h.first))
	binary.BigEndian.PutUint64(b[headPrev:], uint64(h.prev))
	binary.BigEndian.PutUint64(b[headSynced:], uint64(h.synced))
	binary.BigEndian.PutUint32(b[headCRC:], crc32.Checksum(b[:headCRC], castagnoli))
	return b
}

// parseHeader reads a segment head; ok is false when it is short, foreign, damaged or contradicts itself.
func parseHeader(b []byte) (h header, ok bool) {
	if len(b) < headLen || string(b[:len(headMagic)]) != headMagic ||
		binary.BigEndian.Uint32(b[headCRC:]) != crc32.Checksum(b[:headCRC], castagnoli) {
		return header{}, false
	}
	copy(h.id[:], b[headID:])
	copy(h.boot[:], b[headBoot:])
	h.first = Pos(binary.BigEndian.Uint64(b[headFirst:]))
	h.prev = Pos(binary.BigEndian.Uint64(b[headPrev:]))
	h.synced = Pos(binary.BigEndian.Uint64(b[headSynced:]))
	return h, h.first > h.prev && h.prev >= h.synced
}

// seedOf mixes the spool id into every record's checksum, so that a payload that happens to look like a record, or
// a record of another spool, is not taken for one of ours.
func seedOf(id [16]byte) uint32 { return crc32.Checksum(id[:], castagnoli) }

// appendFrame encodes one record at the end of b.
func appendFrame(b []byte, seed uint32, seq, synced Pos, rec []byte) []byte {
	at := len(b)
	b = binary.BigEndian.AppendUint32(b, uint32(len(rec))) // len(rec) is at most MaxRecord.
	b = binary.BigEndian.AppendUint32(b, 0)
	b = binary.BigEndian.AppendUint64(b, uint64(seq))
	b = binary.BigEndian.AppendUint64(b, uint64(synced))
	b = append(b, rec...)
	binary.BigEndian.PutUint32(b[at+frameCRC:], frameSum(b[at:], seed))
	return b
}

func frameSum(b []byte, seed uint32) uint32 {
	return crc32.Update(crc32.Update(seed, castagnoli, b[:frameCRC]), castagnoli, b[frameSeq:])
}

// frame is one decoded record; payload aliases the bytes it was read from.
type frame struct {
	seq, synced Pos
	payload     []byte
}

func (f frame) size() int64 { return framePayload + int64(len(f.payload)) }

// parseFrame reads the record at the start of b. want, if not 0, is the only number that is accepted; it is compared
// before the checksum is computed. short tells that b ends before the record does.
func parseFrame(b []byte, seed uint32, want Pos) (f frame, ok, short bool) {
	if len(b) < framePayload {
		return frame{}, false, true
	}
	n := binary.BigEndian.Uint32(b[frameSize:])
	f.seq = Pos(binary.BigEndian.Uint64(b[frameSeq:]))
	f.synced = Pos(binary.BigEndian.Uint64(b[frameSynced:]))
	if n == 0 || n > MaxRecord || f.seq == 0 || f.synced >= f.seq || want != 0 && f.seq != want {
		return frame{}, false, false
	}
	if uint64(len(b)) < framePayload+uint64(n) {
		return frame{}, false, true
	}
	b = b[: framePayload+n : framePayload+n]
	if binary.BigEndian.Uint32(b[frameCRC:]) != frameSum(b, seed) {
		return frame{}, false, false
	}
	f.payload = b[framePayload:]
	return f, true, false
}

func segmentName(first Pos) string { return fmt.Sprintf("%016x%s", uint64(first), segmentSuffix) }

// parseSegmentName returns the first number told by a segment's file name.
func parseSegmentName(name string) (Pos, bool) {
	hex, ok := strings.CutSuffix(name, segmentSuffix)
	if !ok || len(hex) != 16 {
		return 0, false
	}
	n, err := strconv.ParseUint(hex, 16, 64)
	return Pos(n), err == nil && n != 0 && segmentName(Pos(n)) == name
}

package spool

// scanned is what the bytes of one segment file say.
type scanned struct {
	head   header
	headOK bool
	size   int64
	// end is the offset behind the last record of the unbroken run from the start (0 when the head is bad).
	end int64
	// last is the number of that record, or head.prev when there is none.
	last Pos
	// later is the offset of the first whole record found behind a break, -1 for none.
	later int64
	// synced is the highest number that the head or any whole record, in the run or behind a break, tells to have been
	// fsynced. A break at or below it is damage to durable data, not a torn tail.
	synced Pos
}

// want is the number that the next record has: the numbering may have jumped to the first of the segment.
func (s scanned) want() Pos { return max(s.last+1, s.head.first) }

// broken tells that the file does not end with the end of a good record.
func (s scanned) broken() bool { return !s.headOK || s.end < s.size }

// count is the number of records in the unbroken run.
func (s scanned) count() uint64 {
	if !s.headOK || s.last < s.head.first {
		return 0
	}
	return uint64(s.last-s.head.first) + 1
}

// scanSegment reads a whole segment. first is the number its file name tells; id is the spool's id, used when the head
// cannot be read. It accepts any bytes.
func scanSegment(b []byte, first Pos, id [16]byte) scanned {
	s := scanned{size: int64(len(b)), later: -1}
	s.head, s.headOK = parseHeader(b)
	if s.headOK && s.head.first != first {
		s.headOK = false
	}
	want, off := first, 0
	if s.headOK {
		id, off = s.head.id, headLen
		s.last, s.synced = s.head.prev, s.head.synced
	}
	seed := seedOf(id)
	for s.headOK {
		f, ok, _ := parseFrame(b[off:], seed, want)
		if !ok {
			break
		}
		off += int(f.size())
		s.last, s.synced = f.seq, max(s.synced, f.synced)
		want++
	}
	if s.headOK {
		s.end = int64(off)
	}
	s.searchBehind(b, off, want, seed)
	return s
}

// searchBehind looks at every offset behind a break for whole records: they decide between a torn tail and damage. Only
// numbers that this file could hold are tried, so that the checksum is computed rarely.
func (s *scanned) searchBehind(b []byte, off int, want Pos, seed uint32) {
	highest := want + Pos(len(b)/framePayload)
	for off+framePayload < len(b) {
		f, ok, _ := parseFrame(b[off:], seed, 0)
		if !ok || f.seq < want || f.seq > highest {
			off++
			continue
		}
		if s.later < 0 {
			s.later = int64(off)
		}
		s.synced = max(s.synced, f.synced)
		off += int(f.size())
	}
}

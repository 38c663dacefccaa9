package spool

import (
	"bytes"
	"testing"
)

// segmentBytes returns a good segment with records of the given sizes.
func segmentBytes(first Pos, sizes ...int) []byte {
	h := header{id: [16]byte{1, 2, 3}, boot: [16]byte{9}, first: first, prev: first - 1, synced: first - 1}
	b := h.encode()
	for i, n := range sizes {
		b = appendFrame(b, seedOf(h.id), first+Pos(i), first-1, bytes.Repeat([]byte{byte(i)}, n))
	}
	return b
}

func TestScanCutsAtEveryByte(t *testing.T) {
	t.Parallel()
	whole := segmentBytes(1, 5, 1, 40, 3)
	ends := []int64{headLen, headLen + 29, headLen + 54, headLen + 118, headLen + 145}
	for n := range len(whole) + 1 {
		s := scanSegment(whole[:n], 1, [16]byte{})
		want := 0
		for i, end := range ends {
			if int64(n) >= end {
				want = i
			}
		}
		if s.headOK != (n >= headLen) || s.headOK && (s.last != Pos(want) || s.end != ends[want]) || s.later >= 0 {
			t.Fatalf("%d bytes: %+v, want record %d", n, s, want)
		}
	}
}

func TestScanFindsWholeRecordsBehindABreak(t *testing.T) {
	t.Parallel()
	b := segmentBytes(1, 5, 50, 40, 3)
	b[headLen+29+30] ^= 1 // In the payload of the second record.
	s := scanSegment(b, 1, [16]byte{})
	if s.last != 1 || s.end != headLen+29 || s.later != headLen+29+74 {
		t.Fatalf("%+v", s)
	}
}

// A payload that is itself a record of another spool must not be taken for one.
func TestScanIgnoresForeignRecords(t *testing.T) {
	t.Parallel()
	foreign := appendFrame(nil, seedOf([16]byte{5}), 2, 1, []byte("foreign"))
	b := segmentBytes(1, 5)
	if s := scanSegment(append(b, foreign...), 1, [16]byte{}); s.last != 1 || s.later >= 0 {
		t.Fatalf("%+v", s)
	}
}

func FuzzScanSegment(f *testing.F) {
	whole := segmentBytes(3, 5, 1, 400, 3)
	f.Add(whole, uint64(3))
	f.Add(whole[:len(whole)-2], uint64(3))
	f.Add(whole[:40], uint64(3))
	f.Add(append(append([]byte{}, whole...), make([]byte, 100)...), uint64(3))
	holed := bytes.Clone(whole)
	clear(holed[headLen+10 : headLen+60])
	f.Add(holed, uint64(3))
	headless := bytes.Clone(whole)
	clear(headless[:headLen])
	f.Add(headless, uint64(3))
	f.Add([]byte{}, uint64(1))
	f.Fuzz(func(t *testing.T, b []byte, first uint64) {
		s := scanSegment(b, Pos(first), [16]byte{1, 2, 3})
		if s.end > s.size || s.size != int64(len(b)) || s.headOK != (s.end >= headLen) || s.later >= 0 && s.later < s.end {
			t.Fatalf("offsets: %+v", s)
		}
		if s.count()*framePayload > uint64(len(b)) {
			t.Fatalf("%d records in %d bytes", s.count(), len(b))
		}
		if !s.headOK {
			return
		}
		again := scanSegment(b[:s.end], Pos(first), [16]byte{})
		if again.broken() || again.last != s.last || again.count() != s.count() {
			t.Fatalf("cut at the last good record: %+v, then %+v", s, again)
		}
	})
}

func FuzzReadAck(f *testing.F) {
	b := make([]byte, ackSlots*ackSpacing)
	copy(b, encodeAck([16]byte{1}, 7))
	f.Add(b)
	both := bytes.Clone(b)
	copy(both[ackSpacing:], encodeAck([16]byte{1}, 9))
	f.Add(both)
	f.Add(b[:20])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		a := readAck(b)
		if a.exact && !a.ok || a.ok && !bytes.Equal(encodeAck(a.id, a.pos), b[a.slot*ackSpacing:a.slot*ackSpacing+ackLen]) {
			t.Fatalf("read %+v", a)
		}
	})
}

// A wrong version is not read as an older one.
func TestHeaderRefused(t *testing.T) {
	t.Parallel()
	good := segmentBytes(1)
	if _, ok := parseHeader(good); !ok {
		t.Fatal("good header refused")
	}
	for i := range good {
		b := bytes.Clone(good)
		b[i] ^= 1
		if _, ok := parseHeader(b); ok {
			t.Errorf("byte %d is not covered", i)
		}
	}
}

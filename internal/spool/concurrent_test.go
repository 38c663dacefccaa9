package spool_test

import (
	"encoding/binary"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/keyward/keyward/internal/spool"
	"github.com/keyward/keyward/internal/spool/spooltest"
)

// Writers, a shipper and an admission check at once, with a limit so low that the shipper must keep trimming.
func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	const writers, each = 8, 500
	c := config(spooltest.New(1))
	c.MaxBytes, c.LowWater = 6*segment, 2*segment
	s, _ := open(t, c)
	var wg sync.WaitGroup
	var seen [writers]uint64
	var synced atomic.Int64
	for w := range writers {
		wg.Go(func() {
			rec := make([]byte, 900)
			for i := uint64(1); i <= each; {
				binary.BigEndian.PutUint64(rec, uint64(w))
				binary.BigEndian.PutUint64(rec[8:], i)
				pos, err := s.Append(rec)
				if errors.Is(err, spool.ErrFull) {
					_ = s.Admit() // Only called beside the others; the answer depends on the moment.
					continue
				}
				if err == nil {
					err = s.Sync(t.Context(), pos)
				}
				if err != nil {
					t.Error(err)
					return
				}
				synced.Add(1)
				i++
			}
		})
	}
	var after spool.Pos
	for after < writers*each {
		for _, r := range next(t, s, after, 50) {
			w, i := binary.BigEndian.Uint64(r.Data), binary.BigEndian.Uint64(r.Data[8:])
			if r.Pos != after+1 || seen[w]+1 != i {
				t.Fatalf("record %d of writer %d came as %d after %d", i, w, r.Pos, after)
			}
			after, seen[w] = r.Pos, i
		}
		must(t, s.Ack(after))
	}
	wg.Wait()
	if synced.Load() != writers*each {
		t.Errorf("%d records synced", synced.Load())
	}
	must(t, s.Close())
	if _, rec := open(t, c); rec.Records != 0 || rec.Acked != after {
		t.Errorf("recovered %+v", rec)
	}
}

// Whoever waits when the spool is closed is woken, and Close leaves nothing running (see TestMain).
func TestCloseWakesAll(t *testing.T) {
	t.Parallel()
	for range 50 {
		s, _ := open(t, config(spooltest.New(1)))
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				pos, err := s.Append([]byte("a"))
				if err == nil {
					err = s.Sync(t.Context(), pos)
				}
				if err != nil && !errors.Is(err, spool.ErrClosed) {
					t.Error(err)
				}
			})
			wg.Go(func() {
				for after := spool.Pos(0); ; {
					recs, err := s.Next(t.Context(), after, 10)
					if err != nil {
						if !errors.Is(err, spool.ErrClosed) {
							t.Error(err)
						}
						return
					}
					after = recs[len(recs)-1].Pos
				}
			})
		}
		wg.Go(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		wg.Wait()
	}
}

package spool_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/keyward/keyward/internal/spool"
)

// benchRecord is about the size of a purchase's record.
const benchRecord = 400

func BenchmarkAppend(b *testing.B) {
	s, _ := open(b, spool.Config{Dir: b.TempDir()})
	rec := make([]byte, benchRecord)
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		pos, err := s.Append(rec)
		if err != nil {
			b.Fatal(err)
		}
		if n%100_000 == 0 { // Keeps the spool below its limit.
			must(b, s.Sync(b.Context(), pos))
			must(b, s.Ack(pos))
		}
	}
}

func BenchmarkAppendSync(b *testing.B) {
	for _, writers := range []int64{1, 64} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			s, _ := open(b, spool.Config{Dir: b.TempDir()})
			rec := make([]byte, benchRecord)
			var left atomic.Int64
			left.Store(int64(b.N))
			b.ReportAllocs()
			b.ResetTimer()
			var wg sync.WaitGroup
			for range writers {
				wg.Go(func() {
					for left.Add(-1) >= 0 {
						pos, err := s.Append(rec)
						if err == nil {
							err = s.Sync(b.Context(), pos)
						}
						if err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
		})
	}
}

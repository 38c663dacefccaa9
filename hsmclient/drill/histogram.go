package drill

import (
	"math"
	"time"
)

// A histogram counts durations in bins that grow by 5 %, from 10 µs to more than a minute: a percentile read from it is at most that
// much off, and a drill under any load takes the same memory.
const (
	shortest = 10 * time.Microsecond
	growth   = 1.05
	bins     = 330 // 10 µs × 1.05^330 is about 98 s
)

var logGrowth = math.Log(growth)

type histogram struct {
	count   uint64
	longest time.Duration
	bin     [bins]uint32
}

func (h *histogram) add(d time.Duration) {
	i := 0
	if d > shortest {
		i = min(int(math.Log(float64(d)/float64(shortest))/logGrowth), bins-1)
	}
	h.bin[i]++
	h.count++
	h.longest = max(h.longest, d)
}

// percentile gives the duration in ms below which the part p (0 to 1) of the durations lies; 0 without any.
func (h *histogram) percentile(p float64) float64 {
	if h.count == 0 {
		return 0
	}
	rank := p * float64(h.count)
	var below float64
	for i, n := range h.bin {
		if n == 0 {
			continue
		}
		if below+float64(n) >= rank {
			// Within a bin the durations are taken to be spread evenly.
			part := (rank - below) / float64(n)
			v := float64(shortest) * math.Pow(growth, float64(i)+part)
			return rounded(min(v, float64(h.longest)) / float64(time.Millisecond))
		}
		below += float64(n)
	}
	return ms(h.longest)
}

// ms gives milliseconds with three places.
func ms(d time.Duration) float64 { return rounded(float64(d) / float64(time.Millisecond)) }

func rounded(v float64) float64 { return math.Round(v*1000) / 1000 }

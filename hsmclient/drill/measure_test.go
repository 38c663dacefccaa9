package drill

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/keyward/keyward/hsmclient/member"
)

// Percentiles are within 5 % of the exact ones, for every order of magnitude.
func TestPercentiles(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	for _, typical := range []time.Duration{50 * time.Microsecond, time.Millisecond, 300 * time.Millisecond, 20 * time.Second} {
		var h histogram
		all := make([]float64, 10_000)
		for i := range all {
			d := time.Duration(float64(typical) * (0.5 + random.ExpFloat64()))
			h.add(d)
			all[i] = float64(d) / float64(time.Millisecond)
		}
		slices.Sort(all)
		for _, p := range []float64{0.5, 0.95, 0.99} {
			got, want := h.percentile(p), all[int(p*float64(len(all)))]
			if want > 90_000 {
				continue // beyond the last bin
			}
			if math.Abs(got-want) > 0.05*want {
				t.Errorf("typical %s, percentile %g: %g, want %g", typical, p, got, want)
			}
		}
	}
	var none histogram
	if none.percentile(0.5) != 0 {
		t.Error("a percentile of nothing")
	}
	none.add(time.Hour)
	none.add(0)
	if got := none.percentile(1); got != float64(time.Hour/time.Millisecond) && got > float64(time.Hour/time.Millisecond) {
		t.Errorf("beyond the last bin: %g", got)
	}
}

func TestMeter(t *testing.T) {
	t.Parallel()
	start := time.Now()
	m := newMeter("live", "a", start, time.Minute)
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	ok := member.Outcome{Domain: "live", Result: "ok", Took: time.Millisecond, First: "b", Last: "b"}
	send := func(ms int, change func(*member.Outcome)) {
		o := ok
		o.Ended = at(ms)
		if change != nil {
			change(&o)
		}
		m.record(o)
	}
	send(10, nil)
	send(20, func(o *member.Outcome) { o.Domain = "other" })
	send(30, func(o *member.Outcome) { o.Result = "cancelled" })
	send(40, func(o *member.Outcome) { o.Result = "caller_fault" })
	m.enter(phaseDuring, at(1000))
	send(1050, func(o *member.Outcome) { o.Repeated, o.First = true, "a" })
	send(1060, func(o *member.Outcome) { o.Repeated, o.First = true, "c" }) // not the fault's doing
	send(1300, func(o *member.Outcome) { o.Drill, o.Result = true, "unknown" })
	send(1500, nil)
	m.enter(phaseAfter, at(2000))
	if c := m.totals(traffic); c != (Counts{Served: 5, Retried: 2}) {
		t.Errorf("traffic: %+v", c)
	}
	if c := m.totals(own); c != (Counts{InDoubt: 1}) {
		t.Errorf("own: %+v", c)
	}
	if last := m.lastDisturbed(); !last.Equal(at(1300)) {
		t.Errorf("last disturbed after %s", last.Sub(start))
	}
	if before, during := m.longestGap(phaseBefore), m.longestGap(phaseDuring); before != 960*time.Millisecond || during != 500*time.Millisecond {
		t.Errorf("gaps of %s and %s", before, during)
	}
	if m.failedTraffic() != 0 {
		t.Error("failed requests of the own load count as traffic")
	}
	points := m.points()
	if len(points) != 16 || points[0].Traffic.Served != 2 || points[10].Traffic.Retried != 2 || points[13].Own.InDoubt != 1 || points[15].Traffic.Served != 1 {
		t.Errorf("%d points: %+v", len(points), points)
	}
	if long := newMeter("live", "a", start, time.Hour); long.slot*mostSlots < time.Hour {
		t.Errorf("slots of %s do not reach to the end", long.slot)
	}
}

package hsm

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// loadSteps is the number of steps of the load histogram: 0-10 %, 10-20 % … 90-100 %.
const loadSteps = 10

// stats counts commands, for J2 and J4.
type stats struct {
	began time.Time
	rated int // Commands per second that count as full load.

	mu      sync.Mutex
	volumes map[string]int64 // Per command; bounded by the commands there are.
	second  int64            // The second that is being counted, Unix time.
	count   int64            // Commands in it.
	periods [loadSteps]int64 // Seconds that ended, by their load.
}

func newStats(rated int, now time.Time) *stats {
	return &stats{began: now, rated: rated, volumes: map[string]int64{}, second: now.Unix()}
}

// add counts one command.
func (s *stats) add(name string, at time.Time) {
	s.mu.Lock()
	s.roll(at.Unix())
	s.count++
	s.volumes[name]++
	s.mu.Unlock()
}

// roll ends the seconds before now. The caller holds the lock. Commands that end a little late count for the second that runs.
func (s *stats) roll(now int64) {
	if now <= s.second {
		return
	}
	s.periods[min(int(s.count*loadSteps/int64(s.rated)), loadSteps-1)]++
	s.periods[0] += now - s.second - 1 // Nothing came in between.
	s.second, s.count = now, 0
}

// load is the histogram up to now.
func (s *stats) load(now time.Time) [loadSteps]int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.roll(now.Unix())
	return s.periods
}

// perCommand is the volumes so far.
func (s *stats) perCommand() map[string]int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.volumes)
}

// dateTime is the form of every time in J2, J4 and JK: date and time, six digits each, UTC.
const dateTime = "060102150405"

// statsHead is the start of J2 and J4: serial number, start, end, now, seconds. The counting never ends, so the end is now.
func (q *request) statsHead(now time.Time) {
	s := q.station.stats
	q.out = fmt.Appendf(q.out, "%s%s%s%s%010d", q.station.settings.serial, s.began.UTC().Format(dateTime), now.UTC().Format(dateTime),
		now.UTC().Format(dateTime), int64(now.Sub(s.began)/time.Second))
}

// runJ2 answers how loaded the device was: per step of ten per cent the number of seconds (facts/hsm.md §1.2).
func runJ2(q *request) errorCode {
	if code := q.finish(); code != codeOK {
		return code
	}
	now := time.Now()
	q.statsHead(now)
	for i, n := range q.station.stats.load(now) {
		delimiter := ';'
		if i == loadSteps-1 {
			delimiter = '.'
		}
		q.out = fmt.Appendf(q.out, "%03d%03d%010d%c", i*10, i*10+10, n, delimiter)
	}
	return codeOK
}

// runJ4 answers how often each command came (facts/hsm.md §1.2).
func runJ4(q *request) errorCode {
	if code := q.finish(); code != codeOK {
		return code
	}
	q.statsHead(time.Now())
	volumes := q.station.stats.perCommand()
	for _, name := range slices.Sorted(maps.Keys(volumes)) {
		q.out = fmt.Appendf(q.out, "%s%012d", name, volumes[name])
	}
	return codeOK
}

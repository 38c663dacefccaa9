package drill

import (
	"sync"
	"time"

	"github.com/keyward/keyward/hsmclient/member"
)

// source tells whose requests are counted.
type source int

const (
	traffic source = iota // of the running system
	own                   // the drill's own load
	sources               // their number
)

// Classes of an outcome that are no failure of the cluster (member.Outcome.Result).
const (
	resultOK        = "ok"
	resultCaller    = "caller_fault"
	resultCancelled = "cancelled"
	resultUnknown   = "unknown" // a failure of the line, but the only right end of a request that is never repeated
)

// shortestSlot and mostSlots bound the curve over time: fine enough to see a switch of tenths of a second, few enough for a page.
const (
	shortestSlot = 100 * time.Millisecond
	mostSlots    = 600
)

// tally is what was counted of one source in one span of time.
type tally struct {
	served, retried, failed, inDoubt uint64
	took                             histogram
}

func (t *tally) add(o member.Outcome) {
	switch {
	case isServed(o):
		t.served++
	case o.Result == resultUnknown:
		t.inDoubt++
	default:
		t.failed++
	}
	if o.Repeated {
		t.retried++
	}
	t.took.add(o.Took)
}

// isServed says that the system did what it is there for.
func isServed(o member.Outcome) bool { return o.Result == resultOK || o.Result == resultCaller }

// meter counts the outcomes of one drill. All its methods are safe for concurrent use.
type meter struct {
	domain, target string
	slot           time.Duration

	mu        sync.Mutex
	started   time.Time
	phase     int
	phases    [phases][sources]tally
	gaps      [phases]time.Duration // longest time between two answers
	lastOK    time.Time
	slots     []*[sources]tally
	disturbed time.Time // end of the last request that the fault delayed or failed
}

// newMeter makes a meter for a drill of at most total.
func newMeter(domain, target string, started time.Time, total time.Duration) *meter {
	slot := shortestSlot
	for slot*mostSlots < total {
		slot *= 2
	}
	return &meter{domain: domain, target: target, slot: slot, started: started, lastOK: started}
}

// enter begins a phase.
func (m *meter) enter(phase int, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gap(now)
	m.phase, m.lastOK = phase, now
}

// gap takes the time since the last answer into account. The caller holds mu.
func (m *meter) gap(now time.Time) {
	m.gaps[m.phase] = max(m.gaps[m.phase], now.Sub(m.lastOK))
}

// record counts an outcome in the phase of now: a request that the fault has caught under way counts where its caller felt it.
func (m *meter) record(o member.Outcome) {
	if o.Domain != m.domain || o.Result == resultCancelled {
		return
	}
	from := traffic
	if o.Drill {
		from = own
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.phases[m.phase][from].add(o)
	if at := int(o.Ended.Sub(m.started) / m.slot); at >= 0 && at < mostSlots {
		for len(m.slots) <= at {
			m.slots = append(m.slots, nil)
		}
		if m.slots[at] == nil {
			m.slots[at] = new([sources]tally)
		}
		m.slots[at][from].add(o)
	}
	if m.phase == phaseDuring && (!isServed(o) || o.Repeated && o.First == m.target) && o.Ended.After(m.disturbed) {
		m.disturbed = o.Ended
	}
	if isServed(o) && o.Ended.After(m.lastOK) {
		m.gap(o.Ended)
		m.lastOK = o.Ended
	}
}

// failedTraffic is how many requests of others have failed since the fault began.
func (m *meter) failedTraffic() (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for phase := phaseDuring; phase < phases; phase++ {
		n += int(m.phases[phase][traffic].failed)
	}
	return n
}

// totals counts all phases of one source.
func (m *meter) totals(from source) (c Counts) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for phase := range phases {
		c = c.plus(m.phases[phase][from].counts())
	}
	return c
}

func (t *tally) counts() Counts {
	return Counts{Served: t.served, Retried: t.retried, Failed: t.failed, InDoubt: t.inDoubt}
}

// measured gives what was measured of one source in one phase of the given length.
func (m *meter) measured(phase int, from source, length time.Duration) Measured {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := &m.phases[phase][from]
	v := Measured{
		Counts: t.counts(), P50MS: t.took.percentile(0.5), P95MS: t.took.percentile(0.95), P99MS: t.took.percentile(0.99), MaxMS: ms(t.took.longest),
	}
	if length > 0 {
		v.PerSecond = rounded(float64(t.took.count) / length.Seconds())
	}
	return v
}

// longestGap is the longest time without an answer in a phase.
func (m *meter) longestGap(phase int) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.gaps[phase]
}

// lastDisturbed is when the last request ended that the fault delayed or failed; zero: none.
func (m *meter) lastDisturbed() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.disturbed
}

// points gives the curve over time, of all requests together with the part of the own load told apart.
func (m *meter) points() []Point {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := make([]Point, 0, len(m.slots))
	for i, s := range m.slots {
		p := Point{AtMS: ms(time.Duration(i) * m.slot)}
		if s != nil {
			p.Traffic, p.Own = s[traffic].counts(), s[own].counts()
			p.TrafficP50MS, p.TrafficP99MS = s[traffic].took.percentile(0.5), s[traffic].took.percentile(0.99)
			p.OwnP50MS, p.OwnP99MS = s[own].took.percentile(0.5), s[own].took.percentile(0.99)
		}
		list = append(list, p)
	}
	return list
}

package hsmclient

import (
	"math/bits"
	"time"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/member"
)

const (
	// speedSpan is how many seconds the present speed is taken over.
	speedSpan = 10
	// latencies are taken over the last latencySlots slots of slotSeconds each: the last minute.
	latencySlots = 6
	slotSeconds  = 10
	// Latency classes are logarithmic with four steps in each doubling, from 1 µs to over an hour: an error below 10 percent.
	latencySteps   = 4
	latencyClasses = 32 * latencySteps
)

// figures are the counts of one member. Its pool's lock guards them.
type figures struct {
	commands, sent, read uint64
	poisoned, misses     uint64
	failed               [len(results)]uint64
	byOperation          [operations]uint64
	seconds              [speedSpan + 1]uint32 // exchanges in each second
	second               int64                 // of the newest
	took                 [latencySlots][latencyClasses]uint32
	slot                 int64 // of the newest
	began                time.Time
}

func (f *figures) init() { f.began = time.Now() }

// add counts the exchanges of a try.
func (f *figures) add(t *try, now time.Time) {
	n := uint64(t.talk.exchanges)
	f.commands += n
	f.sent += uint64(t.talk.out)
	f.read += uint64(t.talk.in)
	f.byOperation[t.op]++
	unix := now.Unix()
	f.turn(unix)
	f.seconds[unix%int64(len(f.seconds))] += uint32(n)
	f.took[f.slot%latencySlots][classOf(t.talk.took/time.Duration(t.talk.exchanges))] += uint32(n)
}

// turn empties what belongs to earlier times.
func (f *figures) turn(unix int64) {
	if unix <= f.second {
		return
	}
	for s := max(f.second+1, unix-speedSpan); s <= unix; s++ {
		f.seconds[s%int64(len(f.seconds))] = 0
	}
	f.second = unix
	slot := unix / slotSeconds
	for s := max(f.slot+1, slot-latencySlots+1); s <= slot; s++ {
		clear(f.took[s%latencySlots][:])
	}
	f.slot = slot
}

// perSecond is the mean of the last whole seconds, fewer when the member is new.
func (f *figures) perSecond(now time.Time) float64 {
	f.turn(now.Unix())
	sum := uint32(0)
	for s := f.second - speedSpan; s < f.second; s++ {
		sum += f.seconds[s%int64(len(f.seconds))]
	}
	span := min(speedSpan, max(1, now.Sub(f.began).Seconds()))
	return float64(sum) / span
}

// quantile gives the time below which a share of the exchanges stayed, in milliseconds.
func (f *figures) quantile(now time.Time, share float64) float64 {
	f.turn(now.Unix())
	var sums [latencyClasses]uint64
	all := uint64(0)
	for i := range f.took {
		for class, n := range f.took[i] {
			sums[class] += uint64(n)
			all += uint64(n)
		}
	}
	if all == 0 {
		return 0
	}
	rank := uint64(share * float64(all))
	for class, n := range sums {
		if rank < n {
			return upperBound(class)
		}
		rank -= n
	}
	return upperBound(latencyClasses - 1)
}

// classOf is the latency class of a time.
func classOf(d time.Duration) int {
	us := uint64(max(0, d.Microseconds())) + latencySteps // so that the first classes are of one microsecond each
	log := bits.Len64(us) - 1
	step := us >> (log - 2) & (latencySteps - 1)
	return min((log-2)*latencySteps+int(step), latencyClasses-1)
}

// upperBound is the longest time of a class in milliseconds.
func upperBound(class int) float64 {
	log, step := class/latencySteps+2, class%latencySteps
	us := (uint64(latencySteps+step+1) << (log - 2)) - latencySteps
	return float64(us) / 1000
}

// load gives how busy the member is. The caller holds pool.mu.
func (n *node) load(now time.Time) member.Load {
	l := member.Load{
		ChannelsOpen: len(n.lanes), InFlight: n.inFlight, Places: n.places, PerSecond: n.figures.perSecond(now),
		P50MS: n.figures.quantile(now, .5), P99MS: n.figures.quantile(now, .99),
	}
	for _, lane := range n.lanes {
		l.Pipelined = l.Pipelined || lane.depth > 1
	}
	switch {
	case n.spec.Rated > 0:
		l.Utilisation = l.PerSecond / float64(n.spec.Rated)
	case n.places > 0:
		l.Utilisation = float64(n.inFlight) / float64(n.places)
	}
	return l
}

// traffic gives the counts since the member was added. The caller holds pool.mu.
func (n *node) traffic() member.Traffic {
	f := &n.figures
	t := member.Traffic{Commands: f.commands, BytesSent: f.sent, BytesRead: f.read, Poisoned: f.poisoned,
		Failed: map[string]uint64{}, ByCommand: map[string]uint64{}}
	for class, count := range f.failed {
		if count > 0 {
			t.Failed[results[class]] = count
		}
	}
	for op, count := range f.byOperation {
		if count > 0 {
			t.ByCommand[operation(op).String()] = count
		}
	}
	return t
}

// results are the values of the label "result": "ok" and the classes of errors.
var results = [...]string{
	0:                   "ok",
	command.CallerFault: "caller_fault", command.MemberFault: "member_fault", command.NoLicence: "no_licence",
	command.Unavailable: "unavailable", command.Unknown: "unknown",
}

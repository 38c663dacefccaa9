package bench

import (
	"context"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/keyward/keyward/sim/load"
)

// ask is one request that is checked: a wrong answer is an error.
type ask func(context.Context) error

// pace is how callers work.
type pace struct {
	callers int
	rate    float64 // requests per second of all together; 0: each asks again as soon as it is answered
	warmUp  time.Duration
	length  time.Duration
}

// side is one of those who take turns.
type side struct {
	do      ask
	results slices
	cost    time.Duration // processor time of this process for one request, in the last slice
}

// turn runs the sides one after the other; who begins changes from round to round.
func (p pace) turn(ctx context.Context, round int, sides ...*side) error {
	for k := range sides {
		s := sides[(round+k)%len(sides)]
		r, cost := p.run(ctx, s.do)
		if r.Failed != nil {
			return r.Failed
		}
		s.results, s.cost = append(s.results, r), cost
	}
	return ctx.Err()
}

// last is the result of the last slice.
func (s *side) last() load.Result { return s.results[len(s.results)-1] }

// compare gives the median over the rounds of what the results of two sides have to do with each other.
func (s *side) compare(with *side, of func(a, b load.Result) float64) float64 {
	values := make([]float64, len(s.results))
	for i := range s.results {
		values[i] = of(s.results[i], with.results[i])
	}
	return median(values)
}

// run has callers ask for a time, and gives the processor time of one request too. A failure ends it. In the paced loop a latency counts from when the request was due, unless
// the caller was asleep then: that a machine wakes a sleeper late is nobody's work.
func (p pace) run(ctx context.Context, do ask) (load.Result, time.Duration) {

	var failed atomic.Pointer[error]
	var asked atomic.Int64
	used := processorTime()
	begin := time.Now()
	from, end := begin.Add(p.warmUp), begin.Add(p.warmUp+p.length)
	results := make([]load.Result, p.callers)
	var working sync.WaitGroup
	for i := range p.callers {
		working.Go(func() {
			r := &results[i]
			n := 0
			defer func() { asked.Add(int64(n)) }()
			for ; failed.Load() == nil; n++ {
				began := time.Now()
				if p.rate > 0 {
					// The callers' turns are spread evenly over the time that all of them together need for one request each.
					due := begin.Add(time.Duration(float64(n*p.callers+i) / p.rate * float64(time.Second)))
					if wait := due.Sub(began); wait > 0 {
						time.Sleep(wait)
						began = time.Now()
					} else {
						began = due
					}
				}
				if began.After(end) || ctx.Err() != nil {
					return
				}
				if err := do(ctx); err != nil {
					failed.CompareAndSwap(nil, &err)
					return
				}
				if ended := time.Now(); ended.After(from) && ended.Before(end) {
					r.Done++
					r.Latency = append(r.Latency, ended.Sub(began))
				}
			}
		})
	}
	working.Wait()
	used = processorTime() - used
	all := load.Result{Took: p.length}
	for _, r := range results {
		all.Done += r.Done
		all.Latency = append(all.Latency, r.Latency...)
	}
	if err := failed.Load(); err != nil {
		all.Failed = *err
	}
	return all, used / time.Duration(max(1, asked.Load()))
}

// processorTime is what this process has used of all processors.
func processorTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0 // then the throughput alone says what half load is
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

package bench

import (
	"context"
	"sync"
	"sync/atomic"
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

// run has callers ask for a time. A failure ends it. In the paced loop a latency counts from when the request was due, unless
// the caller was asleep then: that a machine wakes a sleeper late is nobody's work.
func (p pace) run(ctx context.Context, do ask) load.Result {

	var failed atomic.Pointer[error]
	begin := time.Now()
	from, end := begin.Add(p.warmUp), begin.Add(p.warmUp+p.length)
	results := make([]load.Result, p.callers)
	var working sync.WaitGroup
	for i := range p.callers {
		working.Go(func() {
			r := &results[i]
			for n := 0; failed.Load() == nil; n++ {
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
	all := load.Result{Took: p.length}
	for _, r := range results {
		all.Done += r.Done
		all.Latency = append(all.Latency, r.Latency...)
	}
	if err := failed.Load(); err != nil {
		all.Failed = *err
	}
	return all
}

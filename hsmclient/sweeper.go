package hsmclient

import (
	"context"
	"sync/atomic"
	"time"
)

const (
	// sweepEvery is how exactly deadlines are kept: a request may take that much longer than it was given.
	sweepEvery = 5 * time.Millisecond
	// sweepRest is how long the sweeper goes on after the last request, so that steady traffic does not wake it each time.
	sweepRest = time.Second
)

// sweeper watches the deadlines of all requests. One ticker serves them all: a timer for each would cost as much as all the rest of a
// request. It sleeps while there is no traffic.
type sweeper struct {
	awake atomic.Bool
	start chan struct{}
}

func (s *sweeper) init() { s.start = make(chan struct{}, 1) }

// wake makes sure that the sweeper runs. It is called after a request has been put into a list, without the lock.
func (s *sweeper) wake() {
	if s.awake.Load() {
		return
	}
	select {
	case s.start <- struct{}{}:
	default: // it has been told
	}
}

func (s *sweeper) run(ctx context.Context, c *Cluster) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.start:
		}
		s.awake.Store(true)
		s.sweep(ctx, c)
		// Who comes after this line wakes it again; who came before is seen by the look after it.
		s.awake.Store(false)
		if c.sweepAll(time.Now()) {
			s.wake()
		}
	}
}

// sweep goes on until there has been no request for a while.
func (s *sweeper) sweep(ctx context.Context, c *Cluster) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for busy := time.Now(); ; {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			if c.sweepAll(now) {
				busy = now
			} else if now.Sub(busy) > sweepRest {
				return
			}
		}
	}
}

// sweepAll says whether any request is left to watch.
func (c *Cluster) sweepAll(now time.Time) (busy bool) {
	for _, p := range c.pools {
		if p.sweep(now) {
			busy = true
		}
	}
	return busy
}

package drill

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/keyward/keyward/hsmclient/member"
)

const (
	// askTimeout is what a terminal's transaction leaves for the HSM.
	askTimeout = 3 * time.Second
	// maxAsking bounds the own requests under way; one that finds no place is left out, which the rate of the report shows.
	maxAsking = 64
)

// startLoad begins the drill's own load, if it has one. The returned function ends it and waits until all its requests have ended.
func (d *run) startLoad(ctx context.Context) (end func()) {
	d.loadErr = func() error { return nil }
	if !d.report.OwnLoad {
		return func() {}
	}
	ctx, cancel := context.WithCancel(member.ForDrill(ctx))
	var asking sync.WaitGroup
	var mu sync.Mutex
	var last error
	d.loadErr = func() error {
		mu.Lock()
		defer mu.Unlock()
		return last
	}
	places := make(chan struct{}, maxAsking)
	asking.Go(func() {
		tick := time.NewTicker(time.Second / time.Duration(d.report.Request.Rate))
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			select {
			case places <- struct{}{}:
			default:
				continue
			}
			asking.Go(func() {
				defer func() { <-places }()
				one, done := context.WithTimeout(ctx, askTimeout)
				defer done()
				if err := d.r.cfg.Ask(one, d.report.Domain); err != nil && !errors.Is(err, context.Canceled) {
					mu.Lock()
					last = err
					mu.Unlock()
				}
			})
		}
	})
	return func() { cancel(); asking.Wait() }
}

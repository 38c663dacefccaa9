package hsm

import (
	"sync"
	"time"
)

// pacer spreads commands evenly for the setting commands_per_second.
type pacer struct {
	mu   sync.Mutex
	next time.Time
}

// reserve takes the next place in the line and returns how long to wait for it.
func (p *pacer) reserve(perSecond int) time.Duration {
	if perSecond <= 0 {
		return 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if p.next.Before(now) {
		p.next = now
	}
	wait := p.next.Sub(now)
	p.next = p.next.Add(time.Second / time.Duration(perSecond))
	return wait
}

func (p *pacer) reset() {
	p.mu.Lock()
	p.next = time.Time{}
	p.mu.Unlock()
}

package posp

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// maxTransactions bounds what is under way at once: more would only wait inside the HSM and the host.
	maxTransactions = 1024
	// transactionWait is how long a message waits for a place; a terminal waits 60 s in all.
	transactionWait = 2 * time.Second
	// maxReloads bounds looks into the database for unknown terminals per second: anybody can make terminal numbers up.
	maxReloads = 20
	// maxLookups bounds the reloads of working keys under way, below the database connections: a flood of wrong MACs must not take
	// the journal's connections away.
	maxLookups = 4
	// maxCounted bounds the terminals whose sign-ons are counted within one minute.
	maxCounted = 100_000
)

var (
	errBusy      = errors.New("too many messages under way; the terminal should try again")
	errSignOns   = errors.New("too many sign-ons under way; the terminal should try again")
	errTooManyOf = errors.New("terminal signs on too often")
)

// admission keeps the front end within its bounds.
type admission struct {
	transactions chan struct{}
	signOns      *signOnQueue
	lookups      chan struct{}
	rate         *rates
	metrics      *accessMetrics
	perMinute    int
	now          func() time.Time

	mu      sync.Mutex
	minute  time.Time
	counts  map[string]int
	second  time.Time
	reloads int
	signing map[signing]chan struct{} // same requests wait for each other
	waiting int                       // for the same request
}

// signing is one sign-on request under way.
type signing struct {
	terminal string
	request  [32]byte
}

func newAdmission(cfg FlowConfig, reg prometheus.Registerer, now func() time.Time) (*admission, error) {
	a := &admission{
		transactions: make(chan struct{}, maxTransactions), lookups: make(chan struct{}, maxLookups), rate: newRates(cfg.MessagesPerSecond),
		perMinute: cfg.SignOnsPerMinute, now: now, counts: map[string]int{}, signing: map[signing]chan struct{}{},
	}
	a.signOns = newSignOnQueue(func() int { return len(a.transactions) })
	var err error
	a.metrics, err = newAccessMetrics(reg, a.signOns)
	return a, err
}

// transaction waits for a place; the caller gives it back.
func (a *admission) transaction(ctx context.Context) (release func(), err error) {
	leave, err := wait(ctx, a.transactions, transactionWait, errBusy)
	if err != nil {
		return nil, err
	}
	return func() {
		leave()
		if len(a.transactions) == 0 {
			a.signOns.wake() // they have more room now
		}
	}, nil
}

// signOn counts a terminal's sign-ons and waits for its merchant's turn.
func (a *admission) signOn(ctx context.Context, terminal, merchant string) (release func(), err error) {
	if !a.count(terminal) {
		a.metrics.signOnsRefused.Inc()
		return nil, errTooManyOf
	}
	release, err = a.signOns.enter(ctx, merchant)
	if err != nil {
		a.metrics.signOnsRefused.Inc()
	}
	return release, err
}

// alone waits while the very same sign-on request of the terminal is under way, so that both get the same answer.
func (a *admission) alone(ctx context.Context, terminal string, request [32]byte) (done func(), err error) {
	key := signing{terminal, request}
	for {
		a.mu.Lock()
		other := a.signing[key]
		if other == nil {
			mine := make(chan struct{})
			a.signing[key] = mine
			a.mu.Unlock()
			return func() {
				a.mu.Lock()
				delete(a.signing, key)
				a.mu.Unlock()
				close(mine)
			}, nil
		}
		if a.waiting >= maxSignOnsWaiting {
			a.mu.Unlock()
			return nil, errSignOns
		}
		a.waiting++
		a.mu.Unlock()
		select {
		case <-other:
			err = nil
		case <-ctx.Done():
			err = ctx.Err()
		}
		a.mu.Lock()
		a.waiting--
		a.mu.Unlock()
		if err != nil {
			return nil, err
		}
	}
}

func (a *admission) count(terminal string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if now := a.now(); now.Sub(a.minute) >= time.Minute || len(a.counts) >= maxCounted {
		a.minute = now
		clear(a.counts)
	}
	a.counts[terminal]++
	return a.counts[terminal] <= a.perMinute
}

// lookup waits, within ctx, for a place to reload a terminal's working keys.
func (a *admission) lookup(ctx context.Context) (release func(), err error) {
	return wait(ctx, a.lookups, reloadTimeout, errBusy)
}

// mayReload says whether one more unknown terminal may be looked up in this second.
func (a *admission) mayReload() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if now := a.now(); now.Sub(a.second) >= time.Second {
		a.second, a.reloads = now, 0
	}
	a.reloads++
	return a.reloads <= maxReloads
}

func wait(ctx context.Context, places chan struct{}, limit time.Duration, full error) (func(), error) {
	release := func() { <-places }
	select {
	case places <- struct{}{}:
		return release, nil
	default:
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case places <- struct{}{}:
		return release, nil
	case <-timer.C:
		return nil, full
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

package posp

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	// maxTransactions bounds what is under way at once: more would only wait inside the HSM and the host.
	maxTransactions = 1024
	// transactionWait is how long a message waits for a place; a terminal waits 60 s in all.
	transactionWait = 2 * time.Second
	// maxSignOns bounds sign-ons under way, far below maxTransactions, so that a storm of them leaves the HSM to transactions.
	maxSignOns = 64
	// signOnWait is how long a sign-on waits for a place.
	signOnWait = 5 * time.Second
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
	signOns      chan struct{}
	lookups      chan struct{}
	perMinute    int
	now          func() time.Time

	mu      sync.Mutex
	minute  time.Time
	counts  map[string]int
	second  time.Time
	reloads int
	signing map[signing]chan struct{} // same requests wait for each other; bounded by maxTransactions
}

// signing is one sign-on request under way.
type signing struct {
	terminal string
	request  [32]byte
}

func newAdmission(signOnsPerMinute int, now func() time.Time) *admission {
	return &admission{
		transactions: make(chan struct{}, maxTransactions), signOns: make(chan struct{}, maxSignOns),
		lookups:   make(chan struct{}, maxLookups),
		perMinute: signOnsPerMinute, now: now, counts: map[string]int{}, signing: map[signing]chan struct{}{},
	}
}

// transaction waits for a place; the caller gives it back.
func (a *admission) transaction(ctx context.Context) (release func(), err error) {
	return wait(ctx, a.transactions, transactionWait, errBusy)
}

// signOn counts a terminal's sign-ons and waits for a place.
func (a *admission) signOn(ctx context.Context, terminal string) (release func(), err error) {
	if !a.count(terminal) {
		return nil, errTooManyOf
	}
	return wait(ctx, a.signOns, signOnWait, errSignOns)
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
		a.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, ctx.Err()
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

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
	perMinute    int
	now          func() time.Time

	mu      sync.Mutex
	minute  time.Time
	counts  map[string]int
	second  time.Time
	reloads int
}

func newAdmission(signOnsPerMinute int, now func() time.Time) *admission {
	return &admission{
		transactions: make(chan struct{}, maxTransactions), signOns: make(chan struct{}, maxSignOns),
		perMinute: signOnsPerMinute, now: now, counts: map[string]int{},
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

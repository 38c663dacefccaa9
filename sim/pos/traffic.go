package pos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// maxRate bounds the generator: it is for a lively demonstration, the benchmark has its own.
const maxRate = 1000

// Counters are what a traffic generator did in all its runs.
type Counters struct {
	SignOns  uint64 `json:"sign_ons"`
	Approved uint64 `json:"approved"`
	Declined uint64 `json:"declined"`
	InDoubt  uint64 `json:"in_doubt"`
	Failed   uint64 `json:"failed"`
	// Skipped counts the moments at which no terminal was free: the rate is higher than the system's pace.
	Skipped uint64 `json:"skipped"`
}

// Traffic makes transactions on some terminals of a fleet: a sign-on where one is needed, else a purchase or a balance
// inquiry. Set the exported fields before Start.
type Traffic struct {
	Fleet     *Fleet
	Rate      float64  // commands per second, over all terminals; at most 1000
	Terminals []string // numbers
	Sales     []Sale   // cards to pay with; empty means the accounts of design.md §6

	mu     sync.Mutex
	cancel context.CancelFunc
	wg     sync.WaitGroup
	count  struct{ signOns, approved, declined, inDoubt, failed, skipped atomic.Uint64 }
}

// Start begins. The generator ends with ctx or Stop.
func (t *Traffic) Start(ctx context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.cancel != nil:
		return errors.New("the traffic generator runs already")
	case t.Fleet == nil || len(t.Terminals) == 0:
		return errors.New("the traffic generator needs a fleet and at least one terminal")
	case t.Rate <= 0 || t.Rate > maxRate:
		return fmt.Errorf("the rate must be above 0 and at most %d per second", maxRate)
	}
	if len(t.Sales) == 0 {
		t.Sales = []Sale{{PAN: "6222020000000000018", PIN: "123456"}, {PAN: "6222020000000000026", PIN: "654321"}, {PAN: "6222020000000000034"}}
	}
	ctx, t.cancel = context.WithCancel(ctx)
	// The channel holds every terminal that is free, so at most one command per terminal runs.
	idle := make(chan string, len(t.Terminals))
	for _, id := range t.Terminals {
		idle <- id
	}
	t.wg.Go(func() { t.drive(ctx, idle) })
	return nil
}

// Stop ends the generator and waits for what runs; what waits for an answer then is left in doubt, with its reversal noted.
func (t *Traffic) Stop() {
	t.mu.Lock()
	cancel := t.cancel
	t.cancel = nil
	t.mu.Unlock()
	if cancel != nil {
		cancel()
		t.wg.Wait()
	}
}

// Counters is a snapshot.
func (t *Traffic) Counters() Counters {
	c := &t.count
	return Counters{
		SignOns: c.signOns.Load(), Approved: c.approved.Load(), Declined: c.declined.Load(),
		InDoubt: c.inDoubt.Load(), Failed: c.failed.Load(), Skipped: c.skipped.Load(),
	}
}

func (t *Traffic) drive(ctx context.Context, idle chan string) {
	ticker := time.NewTicker(time.Duration(float64(time.Second) / t.Rate))
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		select {
		case id := <-idle:
			t.wg.Go(func() {
				t.one(ctx, id)
				idle <- id
			})
		default:
			t.count.skipped.Add(1)
		}
	}
}

// one runs the next command of a terminal.
func (t *Traffic) one(ctx context.Context, id string) {
	command := commandSignOn
	if m, err := t.Fleet.member(id); err == nil {
		m.mu.Lock()
		if m.state.SignedOn {
			command = commandPurchase
		}
		m.mu.Unlock()
	}
	//nolint:gosec // Which card pays how much in a demonstration is no secret.
	sale := t.Sales[rand.IntN(len(t.Sales))]
	sale.AmountFen = 1 + rand.Int64N(2000) //nolint:gosec // as above
	// Every fifth asks for the balance, as a mix that shows both.
	if command == commandPurchase && rand.IntN(5) == 0 { //nolint:gosec // as above
		command = commandBalance
	}
	r, err := t.Fleet.Do(ctx, id, command, sale)
	switch {
	case err != nil || r.Outcome == OutcomeFailed:
		t.count.failed.Add(1)
	case r.Outcome == OutcomeDeclined:
		t.count.declined.Add(1)
	case r.Outcome == OutcomeInDoubt:
		t.count.inDoubt.Add(1)
	case command == commandSignOn:
		t.count.signOns.Add(1)
	default:
		t.count.approved.Add(1)
	}
}

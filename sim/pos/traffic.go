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

// stopGrace is how long Stop lets commands finish before it cuts them short, which leaves purchases in doubt. It covers
// the answer of a healthy host and not the time-out of a dead one.
const stopGrace = 3 * time.Second

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

	mu    sync.Mutex
	halt  context.CancelFunc // no new commands
	cut   context.CancelFunc // end the running ones
	wg    sync.WaitGroup
	count struct{ signOns, approved, declined, inDoubt, failed, skipped atomic.Uint64 }
}

// Start begins. No new command begins after ctx ends; Stop ends everything.
func (t *Traffic) Start(ctx context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.halt != nil:
		return errors.New("the traffic generator runs already")
	case t.Fleet == nil || len(t.Terminals) == 0:
		return errors.New("the traffic generator needs a fleet and at least one terminal")
	case t.Rate <= 0 || t.Rate > maxRate:
		return fmt.Errorf("the rate must be above 0 and at most %d per second", maxRate)
	}
	if len(t.Sales) == 0 {
		t.Sales = []Sale{{PAN: "6222020000000000018", PIN: "123456"}, {PAN: "6222020000000000026", PIN: "654321"}, {PAN: "6222020000000000034"}}
	}
	work, cut := context.WithCancel(context.WithoutCancel(ctx))
	ctx, t.halt = context.WithCancel(ctx)
	t.cut = cut
	// The channel holds every terminal that is free, so at most one command per terminal runs.
	idle := make(chan string, len(t.Terminals))
	for _, id := range t.Terminals {
		idle <- id
	}
	t.wg.Go(func() { t.drive(ctx, work, idle) })
	return nil
}

// Stop ends the generator and waits for what runs; what still waits for an answer after a grace of 3 s is cut short, and a
// purchase among it left in doubt with its reversal noted.
func (t *Traffic) Stop() {
	t.mu.Lock()
	halt, cut := t.halt, t.cut
	t.halt, t.cut = nil, nil
	t.mu.Unlock()
	if halt == nil {
		return
	}
	halt()
	grace := time.AfterFunc(stopGrace, cut)
	t.wg.Wait()
	grace.Stop()
	cut()
}

// Counters is a snapshot.
func (t *Traffic) Counters() Counters {
	c := &t.count
	return Counters{
		SignOns: c.signOns.Load(), Approved: c.approved.Load(), Declined: c.declined.Load(),
		InDoubt: c.inDoubt.Load(), Failed: c.failed.Load(), Skipped: c.skipped.Load(),
	}
}

// drive starts a command at every tick while ctx lasts; the commands themselves run under work.
func (t *Traffic) drive(ctx, work context.Context, idle chan string) {
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
				t.one(work, id)
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
	// Which card pays how much in a demonstration is no secret.
	sale := t.Sales[rand.IntN(len(t.Sales))]
	sale.AmountFen = 1 + rand.Int64N(2000)
	// Every fifth asks for the balance, as a mix that shows both.
	if command == commandPurchase && rand.IntN(5) == 0 {
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

// Package reverse drives what posp owes to a host after an exchange without an answer: a reversal of what is to be undone, or once more the
// advice of what has happened already (design.md §3, "In doubt, by type"). Each is sent until the host answers it or the settlement
// cut-off comes. What is owed, and every try, is in the journal, so a restart goes on where the last life stopped.
package reverse

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyward/keyward/internal/posp/host"
	"github.com/keyward/keyward/internal/posp/journal"
	"github.com/keyward/keyward/internal/posp/seal"
	"github.com/keyward/keyward/internal/txn"
)

const (
	// atOnce bounds the reversals under way, so that a host that comes back is not met by all of them together.
	atOnce = 16
	// tryTimeout is how long one try waits for the host.
	tryTimeout = 10 * time.Second
	// retryMin and retryMax bound the pause between tries: quick at first, since most hosts are back at once.
	retryMin = 500 * time.Millisecond
	retryMax = 30 * time.Second
)

// codeUnknownThere is a host's answer to the reversal of a transaction that it does not know (docs/dialect-core.md §6).
const codeUnknownThere = "25"

// Engine sends what is owed. Add is its intake.
type Engine struct {
	hosts func(name string) (host.Host, bool)
	seal  *seal.Sealer
	log   *slog.Logger
	now   func() time.Time
	owed  prometheus.Gauge
	done  *prometheus.CounterVec

	mu     sync.Mutex
	due    queue
	wake   chan struct{}
	cancel context.CancelFunc
	ended  chan struct{}
}

// New makes an engine. hosts finds a downstream by name.
func New(hosts func(name string) (host.Host, bool), log *slog.Logger, reg prometheus.Registerer, now func() time.Time) (*Engine, error) {
	e := &Engine{
		hosts: hosts, log: log, now: now, wake: make(chan struct{}, 1), ended: make(chan struct{}),
		owed: prometheus.NewGauge(prometheus.GaugeOpts{Name: "posp_reversals_owed", Help: "Reversals and advices that wait for a host's answer."}),
		done: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "posp_reversal_tries_total", Help: "Tries of reversals and advices by outcome.",
		}, []string{"outcome"}),
	}
	for _, o := range []txn.Outcome{txn.Answered, txn.NotSent, txn.Unknown} {
		e.done.WithLabelValues(string(o))
	}
	if reg != nil {
		if err := errors.Join(reg.Register(e.owed), reg.Register(e.done)); err != nil {
			return nil, fmt.Errorf("register reversal metrics: %w", err)
		}
	}
	return e, nil
}

// Add takes a reversal, or an advice, that is owed from now on. It never blocks; the number is bounded by the journal.
func (e *Engine) Add(entry *journal.Entry) {
	_, tries, next := entry.Owes()
	e.put(&job{entry: entry, at: next, tries: tries})
}

// put queues a job and wakes the loop, which may be waiting for a later one or for none at all.
func (e *Engine) put(j *job) {
	e.mu.Lock()
	heap.Push(&e.due, j)
	e.owed.Set(float64(e.due.Len()))
	e.mu.Unlock()
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// Owed is the number of reversals and advices that wait for a try.
func (e *Engine) Owed() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.due.Len()
}

// Start begins to send. The sealer is given here because it needs a working HSM.
func (e *Engine) Start(ctx context.Context, s *seal.Sealer) {
	e.seal = s
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	e.cancel = cancel
	go e.run(run)
}

// Stop ends the sending; what is owed stays in the journal.
func (e *Engine) Stop(ctx context.Context) error {
	if e.cancel == nil {
		return nil
	}
	e.cancel()
	select {
	case <-e.ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stop reversals: %w", ctx.Err())
	}
}

func (e *Engine) run(ctx context.Context) {
	defer close(e.ended)
	var wg sync.WaitGroup
	defer wg.Wait()
	slots := make(chan struct{}, atOnce)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		next, wait := e.pop()
		if next == nil {
			timer.Reset(wait)
			select {
			case <-ctx.Done():
				return
			case <-e.wake:
			case <-timer.C:
			}
			continue
		}
		select {
		case <-ctx.Done():
			return
		case slots <- struct{}{}:
		}
		wg.Go(func() {
			defer func() { <-slots }()
			e.try(ctx, next)
		})
	}
}

// pop takes the job that is due, or says how long to wait for one.
func (e *Engine) pop() (*job, time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.due.Len() == 0 {
		return nil, time.Hour
	}
	if wait := e.due[0].at.Sub(e.now()); wait > 0 {
		return nil, wait
	}
	return heap.Pop(&e.due).(*job), 0
}

// try sends what is owed once and records what came of it.
func (e *Engine) try(ctx context.Context, j *job) {
	result := e.send(ctx, j)
	if ctx.Err() != nil {
		return
	}
	e.done.WithLabelValues(string(result.Outcome)).Inc()
	log := e.log.With("txn", j.entry.ID().String(), "kind", string(j.entry.Original().Kind), "try", j.tries+1)
	if result.Outcome == txn.Answered {
		err := e.record(ctx, log, j.entry, result.Reply)
		if err == nil {
			e.mu.Lock()
			e.owed.Set(float64(e.due.Len()))
			e.mu.Unlock()
			return
		}
		result.Err = err
	}
	j.tries++
	pause := min(retryMin<<min(j.tries-1, 10), retryMax)
	j.at = e.now().Add(pause)
	why := "no answer"
	if result.Err != nil {
		why = result.Err.Error()
	}
	log.WarnContext(ctx, "what is owed to the host is not answered, will be tried again", "pause", pause, "reason", why)
	if err := j.entry.Tried(j.at, why); err != nil {
		log.ErrorContext(ctx, "cannot record a try of what is owed", "error", err)
	}
	e.put(j)
}

// record writes the host's answer into the journal.
func (e *Engine) record(ctx context.Context, log *slog.Logger, entry *journal.Entry, reply txn.Reply) error {
	before, _, _ := entry.Standing()
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	if before == txn.Forwarding {
		if err := entry.Delivered(ctx, reply); err != nil {
			return err
		}
		log.InfoContext(ctx, "advice answered", "code", reply.Code)
		if !reply.Approved() {
			// The terminal was told that the advice is taken charge of, and the customer is gone.
			log.ErrorContext(ctx, "the host refuses an advice: settle it by hand with the host's book", "code", reply.Code)
		}
		return nil
	}
	if err := entry.Reversed(ctx, reply); err != nil {
		return err
	}
	log.InfoContext(ctx, "reversal answered", "code", reply.Code)
	if before == txn.Reversing && reply.Code == codeUnknownThere {
		// The host approved it and now says that it never saw it: one of the two is wrong, and no machine can tell which.
		log.ErrorContext(ctx, "the host does not know a transaction that it approved: settle it by hand with the host's book")
	}
	return nil
}

func (e *Engine) send(ctx context.Context, j *job) host.Result {
	fail := func(err error) host.Result { return host.Result{Outcome: txn.NotSent, Err: err} }
	rec := j.entry.Original()
	h, ok := e.hosts(rec.Host)
	if !ok {
		return fail(fmt.Errorf("host %q is not configured; add it again until its reversals and advices are done", rec.Host))
	}
	m, err := openMaterial(e.seal, j.entry.ID(), j.entry.Sealed())
	if err != nil {
		return fail(err)
	}
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	if state, _, _ := j.entry.Standing(); state == txn.Forwarding {
		req, err := m.request(j.entry, j.tries+2) // the first was the terminal's own
		if err != nil {
			return fail(err)
		}
		return laterIfBusy(h.Exchange(ctx, req))
	}
	rev, err := m.reversal(j.entry, j.tries+1)
	if err != nil {
		return fail(err)
	}
	return h.Reverse(ctx, rev)
}

// job is one reversal or advice in the queue.
type job struct {
	entry *journal.Entry
	at    time.Time
	tries int
}

// queue is a heap by the time of the next try.
type queue []*job

func (q queue) Len() int           { return len(q) }
func (q queue) Less(a, b int) bool { return q[a].at.Before(q[b].at) }
func (q queue) Swap(a, b int)      { q[a], q[b] = q[b], q[a] }

// Push implements heap.Interface.
func (q *queue) Push(x any) { *q = append(*q, x.(*job)) }

// Pop implements heap.Interface.
func (q *queue) Pop() any {
	old := *q
	last := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	return last
}

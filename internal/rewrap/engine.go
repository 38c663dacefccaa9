package rewrap

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyward/keyward/hsmclient/command"
)

const (
	// keyTimeout bounds the four commands of one key, each of which may wait in the background's queue and be repeated once.
	keyTimeout = 20 * time.Second
	// maxBatch bounds what one transaction holds and what a crash has to do again.
	maxBatch = 64
	// workers bounds the keys under way at once: the HSM is shared with what people wait for.
	workers = 8
	// swapBatch is how many keys change over in one transaction; while it lasts the registry waits to announce its changes.
	swapBatch = 200
	// retryMin and retryMax bound the wait after a fault of HSM or database.
	retryMin = 500 * time.Millisecond
	retryMax = 30 * time.Second
	// defaultTick is how often other processes' orders are looked for.
	defaultTick = 2 * time.Second
	// defaultWatch is how often new keys are looked for in a domain that has been copied: a card's key comes with its next step.
	defaultWatch = 15 * time.Second
)

// lockSQL makes one process at a time the worker. The lock belongs to the connection, so it is free the moment that a process dies.
const lockSQL = `SELECT pg_try_advisory_lock(hashtextextended('keyward.rewrap', 0))`

// Config is what an engine needs. Pool and Check are required.
type Config struct {
	Pool *pgxpool.Pool // as keyward_keys
	// Check computes check values in both domains.
	Check command.Checker
	// Translate is for method translate; nil refuses it.
	Translate command.LMKTranslator
	// Exchange is for method zmk, from a group of the HSM that is made for migration; nil refuses it.
	Exchange   command.ZoneExchanger
	Log        *slog.Logger
	Registerer prometheus.Registerer // nil: no metrics
	// Tick is how often the table of jobs is looked at, Watch how often a copied domain is searched for new keys. Zero: 2 s and 15 s.
	Tick, Watch time.Duration
}

// Engine does the work of jobs in the background and takes orders. It is safe for concurrent use. Use it once: New, Start, Stop.
type Engine struct {
	cfg     Config
	store   store
	metrics *metrics
	kick    chan struct{}
	cancel  context.CancelFunc
	done    chan struct{}
	paces   map[int64]*pace // by job; of the background alone
	counts  sync.Map        // by job: count, of the last look
}

// pace is what the background remembers of a job between two steps; nothing that a new start could not find out.
type pace struct {
	cursor  int64     // keys up to this number have been looked at in this pass of the copy
	swapped int64     // the same for what changes over or is erased
	next    time.Time // when the next key may be begun
	watchAt time.Time // when new keys are looked for again
	retryAt time.Time // after a fault
	wait    time.Duration
}

// New makes an engine; nothing runs before Start.
func New(cfg Config) (*Engine, error) {
	if cfg.Pool == nil || cfg.Check == nil || cfg.Log == nil {
		return nil, errors.New("rewrap: database, HSM and log are required")
	}
	if cfg.Tick <= 0 {
		cfg.Tick = defaultTick
	}
	if cfg.Watch <= 0 {
		cfg.Watch = defaultWatch
	}
	m, err := newMetrics(cfg.Registerer)
	if err != nil {
		return nil, err
	}
	return &Engine{
		cfg: cfg, store: store{cfg.Pool}, metrics: m, kick: make(chan struct{}, 1), done: make(chan struct{}), paces: map[int64]*pace{},
	}, nil
}

// Start begins the background work.
func (e *Engine) Start(ctx context.Context) error {
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	e.cancel = cancel
	go e.run(run)
	return nil
}

// Stop ends the background work at the next key; the rest is done after the next start.
func (e *Engine) Stop(ctx context.Context) error {
	if e.cancel == nil {
		return nil
	}
	e.cancel()
	select {
	case <-e.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stop moving keys: %w", ctx.Err())
	}
}

// wake tells the background that there is an order.
func (e *Engine) wake() {
	select {
	case e.kick <- struct{}{}:
	default:
	}
}

func (e *Engine) run(ctx context.Context) {
	defer close(e.done)
	for ctx.Err() == nil {
		if err := e.busy(ctx); err != nil && ctx.Err() == nil {
			e.cfg.Log.WarnContext(ctx, "moving keys: database away", "error", err)
		}
		timer := time.NewTimer(e.cfg.Tick)
		select {
		case <-ctx.Done():
		case <-e.kick:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// busy works as long as there is something to do, as the only process that does.
func (e *Engine) busy(ctx context.Context) error {
	open, err := e.store.jobs(ctx, e.store.pool, true)
	if err != nil || !slices.ContainsFunc(open, func(j Job) bool { return j.State.works() }) {
		return err
	}
	conn, err := e.store.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer func() { unlock(context.WithoutCancel(ctx), conn) }()
	var mine bool
	if err := conn.QueryRow(ctx, lockSQL).Scan(&mine); err != nil || !mine {
		return err
	}
	for ctx.Err() == nil {
		open, err := e.store.jobs(ctx, conn, true) // on the connection with the lock: without the lock nothing more is begun
		if err != nil {
			return err
		}
		worked := false
		for _, j := range open {
			worked = e.step(ctx, j) || worked
		}
		if !worked {
			return nil
		}
	}
	return nil
}

// unlock gives the lock back; a connection that cannot be asked for that is closed, which does the same.
func unlock(ctx context.Context, conn *pgxpool.Conn) {
	ctx, cancel := context.WithTimeout(ctx, dbTimeout)
	defer cancel()
	if _, err := conn.Exec(ctx, `SELECT pg_advisory_unlock_all()`); err != nil {
		_ = conn.Hijack().Close(ctx)
		return
	}
	conn.Release()
}

// step does the next piece of work of one job and says whether there may be more at once.
func (e *Engine) step(ctx context.Context, j Job) bool {
	p := e.paces[j.ID]
	if p == nil {
		p = &pace{}
		e.paces[j.ID] = p
	}
	if !j.State.works() || time.Now().Before(p.retryAt) || ctx.Err() != nil {
		return false
	}
	more, err := e.work(ctx, j, p)
	switch {
	case err == nil:
		p.wait = 0
		if j.Trouble != "" {
			e.setTrouble(ctx, j, "")
		}
		return more
	case ctx.Err() != nil, errors.Is(err, errMoved):
		return errors.Is(err, errMoved)
	}
	p.wait = min(max(2*p.wait, retryMin), retryMax)
	p.retryAt = time.Now().Add(p.wait)
	e.cfg.Log.WarnContext(ctx, "moving keys waits", "job", j.ID, "error", err, "wait", p.wait.String())
	e.setTrouble(ctx, j, err.Error())
	return false
}

// work is one step of a job by its state.
func (e *Engine) work(ctx context.Context, j Job, p *pace) (more bool, err error) {
	switch j.State {
	case Planned:
		return true, e.advance(ctx, j, Copying, nil)
	case Copying:
		more, err = e.copyBatch(ctx, j, p)
		if err != nil || more {
			return more, err
		}
		return true, e.advance(ctx, j, Copied, nil)
	case Copied:
		return e.watch(ctx, j, p)
	case Switching:
		if more, err = e.swap(ctx, j, p); err != nil || more {
			return more, err
		}
		// Keys that were made meanwhile are copied, and then change over too, so that nothing that is ordered stays behind.
		if more, err = e.copyBatch(ctx, j, p); err != nil || more {
			return more, err
		}
		return true, e.advance(ctx, j, Switched, nil)
	case Switched:
		more, err = e.watch(ctx, j, p)
		if err != nil || more {
			return more, err
		}
		return e.swap(ctx, j, p)
	case Returning:
		if more, err = e.swapBack(ctx, j, p); err != nil || more {
			return more, err
		}
		return true, e.advance(ctx, j, Copied, nil)
	case Retiring:
		if more, err = e.erase(ctx, j, p, j.From, false); err != nil || more {
			return more, err
		}
		return true, e.advance(ctx, j, Retired, nil)
	case Cancelling:
		if more, err = e.erase(ctx, j, p, j.To, true); err != nil || more {
			return more, err
		}
		return true, e.advance(ctx, j, Cancelled, nil)
	default:
		return false, nil
	}
}

// watch copies keys that were made since the domain was copied, every now and then.
func (e *Engine) watch(ctx context.Context, j Job, p *pace) (bool, error) {
	if time.Now().Before(p.watchAt) {
		return false, nil
	}
	more, err := e.copyBatch(ctx, j, p)
	if err == nil && !more {
		p.watchAt = time.Now().Add(e.cfg.Watch)
	}
	return more, err
}

// copyBatch moves the next keys, no more than a second's worth, and records what came of them. It says whether there may be more.
func (e *Engine) copyBatch(ctx context.Context, j Job, p *pace) (bool, error) {
	if err := e.can(j.Method); err != nil {
		return false, err
	}
	list, err := e.store.unproven(ctx, e.store.pool, j, p.cursor, min(maxBatch, j.Rate))
	if err != nil {
		return false, err
	}
	if len(list) == 0 {
		again := p.cursor > 0 // the pass began in the middle: once more from the start
		p.cursor = 0
		return again, nil
	}
	results := e.proveAll(ctx, j, p, list)
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	if err := e.recordBatch(ctx, j, results); err != nil {
		return false, err
	}
	for _, r := range results {
		if r.err != nil && !errors.Is(r.err, errDiffers) {
			return false, fmt.Errorf("key %s: %w", r.key.name, r.err)
		}
	}
	p.cursor = list[len(list)-1].id
	return true, nil
}

// proveAll works on several keys at once, beginning no more of them per second than the job allows. After the first one for which the HSM
// is away it begins no other.
func (e *Engine) proveAll(ctx context.Context, j Job, p *pace, list []stored) []result {
	results := make([]result, 0, len(list))
	var mu sync.Mutex
	var wg sync.WaitGroup
	var away atomic.Bool
	places := make(chan struct{}, workers)
	for _, k := range list {
		if away.Load() || p.await(ctx, j.Rate) != nil {
			break
		}
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			r := e.prove(ctx, j, k)
			if r.err != nil && !errors.Is(r.err, errDiffers) {
				away.Store(true)
			}
			mu.Lock()
			defer mu.Unlock()
			results = append(results, r)
		})
	}
	wg.Wait()
	return results
}

// await waits for the moment at which the next key may be begun.
func (p *pace) await(ctx context.Context, rate int) error {
	now := time.Now()
	if p.next.Before(now) {
		p.next = now
	}
	timer := time.NewTimer(p.next.Sub(now))
	defer timer.Stop()
	p.next = p.next.Add(time.Second / time.Duration(rate))
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// can says that this key service is able to use a method.
func (e *Engine) can(m Method) error {
	switch {
	case m == Translate && e.cfg.Translate == nil:
		return &Refusal{"no group of the HSM here translates keys from one LMK to another", "name one in rewrap.hsm of the key service's configuration, or use method zmk"}
	case m == ZMK && e.cfg.Exchange == nil:
		return &Refusal{"no group of the HSM here exports keys under a zone master key", "name one that is made for migration in rewrap.hsm of the key service's configuration"}
	case m != Translate && m != ZMK:
		return &Refusal{fmt.Sprintf("method %q is not known", m), "use translate or zmk"}
	}
	return nil
}

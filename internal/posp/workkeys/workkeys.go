// Package workkeys keeps the working keys of terminals in memory and in the database together: a new set is committed before its
// sign-on is answered, memory is restored at start so that nobody has to sign on again (A5), and what one instance makes another
// finds by reloading the terminal once (design.md §3).
package workkeys

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/keyward/keyward/keys/workset"
)

const (
	// dbTimeout bounds one statement; a sign-on that cannot be committed within it is refused with 96.
	dbTimeout = 3 * time.Second
	// loadTimeout bounds the reading of all terminals at the start.
	loadTimeout = 30 * time.Second
	// flushEvery is how often changes of state that did not reach the database are tried again.
	flushEvery = time.Second
	// commitTries bounds the race for the same version number: of two instances, and of the sign-ons that anybody can send at once in
	// the name of one terminal.
	commitTries = 10
	uniqueTaken = "23505" // SQLSTATE unique_violation
)

// Keeper owns the table of sets. Reading goes to Table directly.
type Keeper struct {
	Table *workset.Table

	pool *pgxpool.Pool
	log  *slog.Logger
	now  func() time.Time

	// saving holds one token while states are written to the database and while a terminal is read back from it, so that what is read is never
	// older than what was written. Taken before mu.
	saving chan struct{}
	// mu orders changes of the table with their entry in unsaid: a reload must never bring back what was revoked meanwhile.
	mu     sync.Mutex
	unsaid map[string]map[uint64]*workset.Set // terminal → version → state that the database does not know yet
	opened map[string]string                  // terminal without live sets → batch number of its next sign-on
	kick   chan struct{}
	cancel context.CancelFunc
	done   chan struct{}
}

// New makes a keeper on posp's role.
func New(pool *pgxpool.Pool, log *slog.Logger, now func() time.Time) *Keeper {
	return &Keeper{
		Table: workset.New(), pool: pool, log: log, now: now,
		unsaid: map[string]map[uint64]*workset.Set{}, opened: map[string]string{}, kick: make(chan struct{}, 1), saving: make(chan struct{}, 1), done: make(chan struct{}),
	}
}

// Start restores the table and begins to save changes of state in the background.
func (k *Keeper) Start(ctx context.Context) error {
	if err := errors.Join(k.load(ctx, ""), k.loadBatches(ctx)); err != nil {
		return fmt.Errorf("restore working keys: %w", err)
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	k.cancel = cancel
	go k.run(run)
	return nil
}

// Stop saves what is unsaid, bounded by ctx, and ends the background work.
func (k *Keeper) Stop(ctx context.Context) error {
	if k.cancel == nil {
		return nil
	}
	k.cancel()
	<-k.done
	return k.alone(ctx, k.flush)
}

// Reload reads one terminal from the database. Flows call it once, bounded, when memory has no answer.
func (k *Keeper) Reload(ctx context.Context, terminal string) error {
	return k.alone(ctx, func(ctx context.Context) error {
		if err := k.flush(ctx); err != nil {
			return err
		}
		return k.load(ctx, terminal)
	})
}

// alone runs one exchange of states with the database at a time.
func (k *Keeper) alone(ctx context.Context, do func(ctx context.Context) error) error {
	select {
	case k.saving <- struct{}{}:
		defer func() { <-k.saving }()
		return do(ctx)
	case <-ctx.Done():
		return fmt.Errorf("working keys: wait for the database: %w", ctx.Err())
	}
}

// Commit gives the set its version and stores it as pending; only then may the sign-on be answered. Two instances that make
// a set at the same moment get different versions.
func (k *Keeper) Commit(ctx context.Context, terminal string, set *workset.Set) error {
	ctx, cancel := context.WithTimeout(ctx, dbTimeout)
	defer cancel()
	set.Version = k.Table.Load(terminal).Latest() + 1
	set.State = workset.Pending
	set.Digest = digest(set)
	for try := 1; ; try++ {
		err := k.insert(ctx, terminal, set)
		if err == nil {
			break
		}
		var pg *pgconn.PgError
		if !errors.As(err, &pg) || pg.Code != uniqueTaken || try == commitTries {
			return fmt.Errorf("store working keys of terminal %s: %w", terminal, err)
		}
		if err := k.pool.QueryRow(ctx, `SELECT max(version) + 1 FROM work_keys WHERE terminal_id = $1`, terminal).Scan(&set.Version); err != nil {
			return fmt.Errorf("store working keys of terminal %s: %w", terminal, err)
		}
	}
	k.change(terminal, func(now time.Time) []*workset.Set {
		for _, there := range k.Table.Load(terminal).Candidates(now) {
			if there.Version == set.Version {
				return nil // a reload was quicker
			}
		}
		return k.Table.AddPending(terminal, set, now)
	})
	return nil
}

// Activate makes a pending set the active one after its first use. Memory changes at once; the database follows.
func (k *Keeper) Activate(terminal string, version uint64) {
	k.change(terminal, func(now time.Time) []*workset.Set { return k.Table.Activate(terminal, version, now) })
}

// Revoke ends all sets of a terminal at once and opens the next batch.
func (k *Keeper) Revoke(terminal string) {
	k.change(terminal, func(now time.Time) []*workset.Set {
		if batch := k.Table.Load(terminal).Batch(); batch != "" {
			k.opened[terminal] = nextBatch(batch)
		}
		return k.Table.Revoke(terminal, now)
	})
}

// SignOff ends all sets and opens the next batch: facts/unionpay.md §3 has it rise by one at sign-off.
func (k *Keeper) SignOff(terminal string) { k.Revoke(terminal) }

// Batch is the batch number for the terminal's next set, "" for a terminal that never had one.
func (k *Keeper) Batch(terminal string) string {
	if b := k.Table.Load(terminal).Batch(); b != "" {
		return b
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.opened[terminal]
}

// nextBatch counts on; after 999999 comes 1 again.
func nextBatch(batch string) string {
	n, err := strconv.Atoi(batch)
	if err != nil || n >= 999_999 {
		n = 0
	}
	return fmt.Sprintf("%06d", n+1)
}

// loadBatches restores the batch numbers of terminals that have no keys any more.
func (k *Keeper) loadBatches(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	rows, err := k.pool.Query(ctx, `SELECT DISTINCT ON (terminal_id) terminal_id, batch FROM work_keys ORDER BY terminal_id, version DESC`)
	if err != nil {
		return err
	}
	var terminal, batch string
	_, err = pgx.ForEachRow(rows, []any{&terminal, &batch}, func() error {
		if k.Table.Load(terminal) == nil && batch != "" {
			k.opened[terminal] = nextBatch(batch)
		}
		return nil
	})
	return err
}

// change alters the table and queues the new states for the database, as one step. Each set has one entry, so the queue is bounded by the
// sets there are.
func (k *Keeper) change(terminal string, do func(now time.Time) []*workset.Set) {
	k.mu.Lock()
	changed := do(k.now())
	if len(changed) > 0 {
		k.queue(terminal, changed, true)
	}
	k.mu.Unlock()
	select {
	case k.kick <- struct{}{}:
	default:
	}
}

// queue enters states; newer says that they replace those that are there. The caller holds mu.
func (k *Keeper) queue(terminal string, sets []*workset.Set, newer bool) {
	byVersion := k.unsaid[terminal]
	if byVersion == nil {
		byVersion = map[uint64]*workset.Set{}
		k.unsaid[terminal] = byVersion
	}
	for _, s := range sets {
		if newer || byVersion[s.Version] == nil {
			byVersion[s.Version] = s
		}
	}
}

func (k *Keeper) run(ctx context.Context) {
	defer close(k.done)
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-k.kick:
		case <-tick.C:
		}
		if err := k.alone(ctx, k.flush); err != nil && ctx.Err() == nil {
			k.log.WarnContext(ctx, "working keys: changes of state wait for the database", "error", err)
		}
	}
}

// flush writes what is unsaid; what fails stays queued. The caller holds saving.
func (k *Keeper) flush(ctx context.Context) error {
	k.mu.Lock()
	todo := k.unsaid
	k.unsaid = map[string]map[uint64]*workset.Set{}
	k.mu.Unlock()
	if len(todo) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, dbTimeout)
	defer cancel()
	err := k.save(ctx, todo)
	if refused(err) {
		// One terminal's states are not acceptable: another instance has moved on. The others must not wait for it.
		err = nil
		for terminal, sets := range todo {
			one := k.save(ctx, map[string]map[uint64]*workset.Set{terminal: sets})
			if refused(one) {
				k.log.WarnContext(ctx, "working keys: another instance has moved on, the database's states are taken", "error", one)
				one = k.load(ctx, terminal)
			}
			if one == nil {
				delete(todo, terminal)
			}
			err = errors.Join(err, one)
		}
	}
	if err == nil {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for terminal, sets := range todo {
		k.queue(terminal, slices.Collect(maps.Values(sets)), false)
	}
	return fmt.Errorf("save states of working keys: %w", err)
}

// save writes states in one commit.
func (k *Keeper) save(ctx context.Context, todo map[string]map[uint64]*workset.Set) error {
	var batch pgx.Batch
	for terminal, sets := range todo {
		for _, s := range sets {
			batch.Queue(`UPDATE work_keys SET state = $3, first_used_at = coalesce(first_used_at, $4), ends_at = $5
				WHERE terminal_id = $1 AND version = $2`, terminal, int64(s.Version), string(s.State), nullTime(s.UsedAt), nullTime(s.EndsAt))
		}
	}
	return k.pool.SendBatch(ctx, &batch).Close()
}

// refused says that the database understood the states and does not accept them: two active sets, or two in grace.
func refused(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && strings.HasPrefix(pg.Code, "23") // SQLSTATE class 23, integrity constraint violation
}

// Package workkeys keeps the working keys of terminals in memory and in the database together: a new set is committed before its
// sign-on is answered, memory is restored at start so that nobody has to sign on again (A5), and what one instance makes another
// finds by reloading the terminal once (design.md §3).
package workkeys

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/keyward/keyward/keys"
	"github.com/keyward/keyward/keys/workset"
)

const (
	// dbTimeout bounds one statement; a sign-on that cannot be committed within it is refused with 96.
	dbTimeout = 3 * time.Second
	// flushEvery is how often changes of state that did not reach the database are tried again.
	flushEvery = time.Second
	// commitTries bounds the race of two instances for the same version number.
	commitTries = 3
	uniqueTaken = "23505"
)

// Keeper owns the table of sets. Reading goes to Table directly.
type Keeper struct {
	Table *workset.Table

	pool *pgxpool.Pool
	log  *slog.Logger
	now  func() time.Time

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
		unsaid: map[string]map[uint64]*workset.Set{}, opened: map[string]string{}, kick: make(chan struct{}, 1), done: make(chan struct{}),
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
	return k.flush(ctx)
}

// Reload reads one terminal from the database. Flows call it once, bounded, when memory has no answer.
func (k *Keeper) Reload(ctx context.Context, terminal string) error {
	if err := k.flush(ctx); err != nil {
		return err
	}
	return k.load(ctx, terminal)
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
	k.say(terminal, k.Table.AddPending(terminal, set, k.now()))
	return nil
}

// Activate makes a pending set the active one after its first use. Memory changes at once; the database follows.
func (k *Keeper) Activate(terminal string, version uint64) {
	k.say(terminal, k.Table.Activate(terminal, version, k.now()))
}

// Revoke ends all sets of a terminal at once.
func (k *Keeper) Revoke(terminal string) {
	k.say(terminal, k.Table.Revoke(terminal, k.now()))
}

// SignOff ends all sets and opens the next batch: facts/unionpay.md §3 has it rise by one at sign-off.
func (k *Keeper) SignOff(terminal string) {
	batch := k.Table.Load(terminal).Batch()
	k.Revoke(terminal)
	if batch != "" {
		k.mu.Lock()
		k.opened[terminal] = nextBatch(batch)
		k.mu.Unlock()
	}
}

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

// loadBatches restores the batch numbers of terminals that signed off.
func (k *Keeper) loadBatches(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*dbTimeout)
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

// say queues changes of state for the database. Each set has one entry, so the queue is bounded by the sets there are.
func (k *Keeper) say(terminal string, changed []*workset.Set) {
	if len(changed) == 0 {
		return
	}
	k.mu.Lock()
	byVersion := k.unsaid[terminal]
	if byVersion == nil {
		byVersion = map[uint64]*workset.Set{}
		k.unsaid[terminal] = byVersion
	}
	for _, s := range changed {
		byVersion[s.Version] = s
	}
	k.mu.Unlock()
	select {
	case k.kick <- struct{}{}:
	default:
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
		if err := k.flush(ctx); err != nil && ctx.Err() == nil {
			k.log.WarnContext(ctx, "working keys: changes of state wait for the database", "error", err)
		}
	}
}

// flush writes what is unsaid; what fails stays queued.
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
	var batch pgx.Batch
	for terminal, sets := range todo {
		for _, s := range sets {
			batch.Queue(`UPDATE work_keys SET state = $3, first_used_at = coalesce(first_used_at, $4), ends_at = $5
				WHERE terminal_id = $1 AND version = $2`, terminal, int64(s.Version), string(s.State), nullTime(s.UsedAt), nullTime(s.EndsAt))
		}
	}
	if err := k.pool.SendBatch(ctx, &batch).Close(); err != nil {
		k.mu.Lock()
		for terminal, sets := range todo {
			for version, s := range sets {
				if k.unsaid[terminal] == nil {
					k.unsaid[terminal] = map[uint64]*workset.Set{}
				}
				if k.unsaid[terminal][version] == nil {
					k.unsaid[terminal][version] = s
				}
			}
		}
		k.mu.Unlock()
		return fmt.Errorf("save states of working keys: %w", err)
	}
	return nil
}

func (k *Keeper) insert(ctx context.Context, terminal string, s *workset.Set) error {
	var tdk, tdkKCV *string
	if !s.TDK.IsZero() {
		kcv := string(s.TDK.KCV)
		tdk, tdkKCV = &s.TDK.Cryptogram, &kcv
	}
	_, err := k.pool.Exec(ctx, `
INSERT INTO work_keys (terminal_id, version, state, algorithm, lmk_domain, master_key_id, psam_no, pik, pik_kcv, mak, mak_kcv,
       tdk, tdk_kcv, answer, request_digest, digest, made_at, expires_at, batch)
VALUES ($1, $2, 'pending', $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)`,
		terminal, int64(s.Version), s.PIK.Algorithm.String(), s.PIK.Domain, s.MasterKey, s.PSAM, s.PIK.Cryptogram, string(s.PIK.KCV),
		s.MAK.Cryptogram, string(s.MAK.KCV), tdk, tdkKCV, s.Answer, s.Request[:], s.Digest[:], s.MadeAt, s.ExpiresAt, s.Batch)
	return err
}

// load reads the live sets of one terminal, or of all when terminal is "".
func (k *Keeper) load(ctx context.Context, terminal string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*dbTimeout)
	defer cancel()
	rows, err := k.pool.Query(ctx, `
SELECT terminal_id, version, state, algorithm, lmk_domain, coalesce(master_key_id, 0), coalesce(psam_no, ''), pik, pik_kcv, mak, mak_kcv,
       coalesce(tdk, ''), coalesce(tdk_kcv, ''), answer, request_digest, digest, made_at, expires_at, first_used_at, ends_at, batch
  FROM work_keys WHERE ($1 = '' OR terminal_id = $1) AND state IN ('pending', 'active', 'grace') ORDER BY terminal_id, version`, terminal)
	if err != nil {
		return err
	}
	found := map[string][]*workset.Set{}
	if terminal != "" {
		found[terminal] = nil
	}
	_, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (struct{}, error) {
		id, set, err := scan(row)
		if err == nil {
			found[id] = append(found[id], set)
		}
		return struct{}{}, err
	})
	if err != nil {
		return err
	}
	for id, sets := range found {
		k.Table.Replace(id, sets)
	}
	return nil
}

func scan(row pgx.CollectableRow) (string, *workset.Set, error) {
	var s workset.Set
	var id, state, algorithm, domain, pikKCV, makKCV, tdkKCV string
	var version int64
	var request, sum []byte
	var used, ends *time.Time
	err := row.Scan(&id, &version, &state, &algorithm, &domain, &s.MasterKey, &s.PSAM, &s.PIK.Cryptogram, &pikKCV, &s.MAK.Cryptogram,
		&makKCV, &s.TDK.Cryptogram, &tdkKCV, &s.Answer, &request, &sum, &s.MadeAt, &s.ExpiresAt, &used, &ends, &s.Batch)
	if err != nil {
		return "", nil, err
	}
	alg, err := keys.ParseAlgorithm(algorithm)
	if err != nil {
		return "", nil, fmt.Errorf("working keys of terminal %s: %w", id, err)
	}
	s.Version, s.State = uint64(version), workset.State(state)
	copy(s.Request[:], request)
	if used != nil {
		s.UsedAt = *used
	}
	if ends != nil {
		s.EndsAt = *ends
	}
	s.PIK = keys.Wrapped{Usage: keys.PINKey, Algorithm: alg, Version: int(version), Domain: domain, Cryptogram: s.PIK.Cryptogram, KCV: keys.KCV(pikKCV)}
	s.MAK = keys.Wrapped{Usage: keys.MACKey, Algorithm: makAlgorithm(alg, s.MAK.Cryptogram), Version: int(version), Domain: domain, Cryptogram: s.MAK.Cryptogram, KCV: keys.KCV(makKCV)}
	if s.TDK.Cryptogram != "" {
		s.TDK = keys.Wrapped{Usage: keys.TrackKey, Algorithm: alg, Version: int(version), Domain: domain, Cryptogram: s.TDK.Cryptogram, KCV: keys.KCV(tdkKCV)}
	}
	s.Digest = digest(&s)
	if string(sum) != string(s.Digest[:]) {
		return "", nil, fmt.Errorf("working keys of terminal %s version %d: digest does not match; the row was changed by other hands", id, version)
	}
	return id, &s, nil
}

// singleCryptogram is the longest text of a single-length key: a scheme letter and 16 hex digits.
const singleCryptogram = 17

// makAlgorithm tells a single-length MAK from the set's algorithm by the length of its cryptogram.
func makAlgorithm(set keys.Algorithm, cryptogram string) keys.Algorithm {
	if set == keys.TDES && len(cryptogram) <= singleCryptogram {
		return keys.DES
	}
	return set
}

// digest names the whole set, so that a half-changed one is noticed (A4).
func digest(s *workset.Set) [32]byte {
	h := sha256.New()
	for _, k := range []keys.Wrapped{s.PIK, s.MAK, s.TDK} {
		fmt.Fprintf(h, "%s|%s|%s;", k.Domain, k.Cryptogram, k.KCV)
	}
	fmt.Fprintf(h, "%s|%d|%x", s.PSAM, s.MasterKey, s.Answer)
	return [32]byte(h.Sum(nil))
}

func nullTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

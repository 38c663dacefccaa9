package journal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/keyward/keyward/internal/ledger"
	"github.com/keyward/keyward/internal/txn"
	"github.com/keyward/keyward/keys/workset"
)

const (
	// memory is how long the duplicate check remembers: longer than any set of working keys lives, so that a recorded message that is
	// played again later finds its keys ended. An hour is for clocks that are apart.
	memory = workset.ActiveLife + workset.GraceLife + time.Hour
	// originals is how long a reversal finds its original: a terminal whose line broke on the evening before a long week-end sends its
	// reversal days later. Housekeeping keeps the duplicate keys for as long (internal/posp).
	originals = 8 * 24 * time.Hour
	// maxEntries bounds that memory (some 2 KB each, so 2 GB at most, after a day of as many transactions). Beyond it the oldest settled ones are forgotten; the database still
	// knows them.
	maxEntries = 1_000_000
)

// Verdict says what Begin found under the duplicate key.
type Verdict int

// The verdicts (design.md §3, "Duplicate key").
const (
	Fresh     Verdict = iota // a new transaction
	Repeat                   // the same request again: answer from its outcome
	Different                // another request under the same key: 94
	Withdrawn                // a reversal came first: the request must not be sent any more
)

// index finds entries by duplicate key. Entries leave it oldest first.
type index struct {
	mu    sync.Mutex
	byKey map[txn.Key]*Entry
	queue []*Entry // in order of arrival, for forgetting
}

func newIndex() *index { return &index{byKey: map[txn.Key]*Entry{}} }

// Begin takes up a request, or finds that it was taken up before. content is a digest of the request without its PIN block and
// MAC; base holds the facts that all its records share.
func (j *Journal) Begin(k txn.Key, content [32]byte, base ledger.Record, receivedAt time.Time) (*Entry, Verdict) {
	ix := j.index
	ix.mu.Lock()
	defer ix.mu.Unlock()
	if old := ix.byKey[k]; old != nil && receivedAt.Sub(old.began) < memory {
		return old, old.Compare(content)
	}
	e := j.newEntry(k, string(content[:]), base, receivedAt)
	e.state = txn.Received
	ix.add(e)
	return e, Fresh
}

// Compare says how a request under the entry's duplicate key stands to it.
func (e *Entry) Compare(content [32]byte) Verdict {
	switch e.content {
	case "":
		return Withdrawn
	case string(content[:]):
		return Repeat
	default:
		return Different
	}
}

// Lookup finds the original of a reversal by its duplicate key, in memory or, bounded by ctx, in the database; nil for none.
func (j *Journal) Lookup(ctx context.Context, k txn.Key) (*Entry, error) {
	j.index.mu.Lock()
	e := j.index.byKey[k]
	j.index.mu.Unlock()
	now := j.cfg.Now()
	if e != nil && now.Sub(e.began) < memory {
		return e, nil
	}
	standing, err := j.cfg.Store.Find(ctx, k, now.Add(-originals))
	if err != nil || standing == nil {
		return nil, err
	}
	return j.adopt(standing), nil
}

// Elsewhere finds the transaction that took the duplicate key away from another.
func (j *Journal) Elsewhere(ctx context.Context, k txn.Key) (*Entry, error) {
	standing, err := j.cfg.Store.Find(ctx, k, j.cfg.Now().Add(-memory))
	switch {
	case err != nil:
		return nil, err
	case standing == nil:
		return nil, fmt.Errorf("terminal %s trace %s: %w", k.Terminal, k.Trace, errNotHere)
	}
	j.index.forget(k)
	return j.adopt(standing), nil
}

// Tombstone records that a reversal came for a transaction that nobody here knows: should the transaction itself arrive later, it is
// refused (design.md §3). When the transaction arrived meanwhile, that one is returned instead and nothing is recorded.
//
// seal, when it gives a host, makes the reversal owed to it from this record on, because the host may know the transaction; sealed is what the
// reversal needs. It may be nil.
func (j *Journal) Tombstone(ctx context.Context, k txn.Key, base ledger.Record, cause string, at time.Time, seal func(txn.ID) (host string, sealed []byte)) (*Entry, error) {
	ix := j.index
	ix.mu.Lock()
	if old := ix.byKey[k]; old != nil && at.Sub(old.began) < memory {
		ix.mu.Unlock()
		return old, nil
	}
	e := j.newEntry(k, "", base, at)
	ix.add(e)
	ix.mu.Unlock()

	owed, err := e.tombstone(ctx, cause, seal)
	if owed {
		j.cfg.Owed(e)
	}
	if err != nil && e.isNew() {
		return nil, err
	}
	if _, taken := j.takeConflict(e.rec.Txn); taken && err == nil {
		return j.Elsewhere(ctx, k) // the transaction itself was quicker, at another instance: it is the one to take back
	}
	return e, err
}

// tombstone writes the one record of a tombstone, or takes the entry out again.
func (e *Entry) tombstone(ctx context.Context, cause string, seal func(txn.ID) (host string, sealed []byte)) (owed bool, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var host string
	var sealed []byte
	if seal != nil {
		host, sealed = seal(e.rec.Txn)
	}
	state, outcome, text := txn.Reversed, txn.NotSent, "a reversal came first, and the host cannot be told"
	if host != "" {
		state, outcome, text = txn.InDoubt, txn.Unknown, "a reversal came first"
	}
	r, err := e.next(ledger.Outcome, state)
	if err != nil {
		return false, err
	}
	r.Outcome, r.Cause, r.Text, r.Content, r.Host, r.Sealed = outcome, cause, text, tombstoneContent, host, sealed
	if host != "" {
		r.NextTry = e.j.cfg.Now()
	}
	written, err := e.write(ctx, r)
	if !written {
		e.j.index.remove(e)
		return false, err
	}
	e.rec.Host, e.sealed, e.cause, e.nextTry = host, sealed, cause, r.NextTry
	close(e.settled)
	if host == "" {
		close(e.undone)
	}
	return host != "", err
}

// isNew says that nothing was written about the transaction yet.
func (e *Entry) isNew() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.seq == 0
}

// tombstoneContent stands in the database where a request's digest would; it is shorter than any digest.
var tombstoneContent = []byte("withdrawn")

func (j *Journal) newEntry(k txn.Key, content string, base ledger.Record, at time.Time) *Entry {
	base.Key, base.Txn, base.Date, base.Began = k, txn.NewID(at), j.businessDate(at), at
	base.HostTrace, base.RRN = txn.HostReference(k, base.Date)
	return &Entry{
		j: j, content: content, began: at, rec: base, settled: make(chan struct{}), undone: make(chan struct{}),
	}
}

// adopt makes an entry of what the database says, unless memory has one meanwhile.
func (j *Journal) adopt(s *ledger.Standing) *Entry {
	content := string(s.Content)
	if content == string(tombstoneContent) {
		content = ""
	}
	e := &Entry{
		j: j, content: content, began: s.Last.Began, settled: make(chan struct{}), undone: make(chan struct{}),
		rec: s.Last, seq: s.Last.Seq, state: s.Last.State, reply: s.Last.Reply, answered: s.Answered, sealed: s.Sealed,
		cause: s.Last.Cause, tries: s.Tries, nextTry: s.NextTry,
	}
	r := &e.rec
	r.Event, r.Outcome, r.Reply, r.Cause, r.Content, r.Sealed, r.Text = "", "", nil, "", nil, nil, ""
	if e.state != txn.Sending && e.state != "" {
		close(e.settled)
	}
	if e.state == txn.Reversed {
		close(e.undone)
	}
	ix := j.index
	ix.mu.Lock()
	defer ix.mu.Unlock()
	if old := ix.byKey[r.Key]; old != nil && old.rec.Txn == r.Txn {
		return old
	}
	if e.state == txn.Sending && r.Instance != j.cfg.Instance {
		return e // under way at another instance: its outcome will be in the database, not here, so it must be asked for again
	}
	ix.add(e)
	return e
}

// add puts an entry in and forgets the oldest ones beyond the limits. The caller holds the lock.
func (ix *index) add(e *Entry) {
	ix.byKey[e.rec.Key] = e
	ix.queue = append(ix.queue, e)
	for len(ix.queue) > 1 {
		oldest := ix.queue[0]
		if len(ix.queue) <= maxEntries && e.began.Sub(oldest.began) < memory {
			return
		}
		select {
		case <-oldest.settled:
		default:
			return // still under way: it must stay, and those behind it wait for it
		}
		ix.queue[0] = nil
		ix.queue = ix.queue[1:]
		if ix.byKey[oldest.rec.Key] == oldest {
			delete(ix.byKey, oldest.rec.Key)
		}
	}
}

func (ix *index) forget(k txn.Key) {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	delete(ix.byKey, k)
}

// remove takes an entry out that was never written, also of the queue: it will never settle and would hold up the others.
func (ix *index) remove(e *Entry) {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	if ix.byKey[e.rec.Key] == e {
		delete(ix.byKey, e.rec.Key)
	}
	ix.queue = slices.DeleteFunc(ix.queue, func(q *Entry) bool { return q == e })
}

// IsTakenElsewhere finds a *TakenElsewhereError in err.
func IsTakenElsewhere(err error) bool {
	var taken *TakenElsewhereError
	return errors.As(err, &taken)
}

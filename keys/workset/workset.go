// Package workset keeps the working keys of the terminals that are signed on, in memory, for readers that never wait (A1,
// A4): a reader loads one immutable snapshot of a terminal; an update builds the next snapshot and swaps it in.
//
// A terminal has at most one active set, one earlier set in its grace, and up to three pending sets: a sign-on carries no
// MAC, so anybody can send one, and a forged sign-on must never push out the set that works (design.md §3, X8). A pending set
// becomes active when the first message MACed with it arrives, as a whole: the MAK that verified fixes PIK and TDK.
package workset

import (
	"bytes"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keyward/keyward/keys"
)

// State is where a set is in its life.
type State string

// The states; the database column work_keys.state holds the same words. Ended sets leave the table.
const (
	Pending State = "pending"
	Active  State = "active"
	Grace   State = "grace"
	Ended   State = "ended"
	Expired State = "expired"
)

// The limits of design.md §3.
const (
	// MaxPending bounds what forged sign-ons can make us keep. The oldest pending set gives way: a terminal uses its new
	// keys within seconds, so the one that gives way is almost never the true one.
	MaxPending = 3
	// PendingLife is how long a set waits for its first use.
	PendingLife = 24 * time.Hour
	// ActiveLife is how long a set serves from its first use on; then its terminal signs on anew. A recorded message fits as long as its set
	// lives, and nothing but the duplicate check knows that it was there before, so the sum of ActiveLife and GraceLife must stay below the
	// memory of that check (internal/posp/journal).
	ActiveLife = 24 * time.Hour
	// GraceLife is how long the previous set stays valid after its successor's first use.
	GraceLife = 120 * time.Second
)

// Set is one complete set of working keys. It is never changed once it is in a table; updates replace it.
type Set struct {
	Version   uint64 // rises by one with each sign-on of the terminal
	State     State
	PSAM      string // the card whose master key wraps the set
	MasterKey int64  // key id of that master key
	PIK       keys.Wrapped
	MAK       keys.Wrapped
	TDK       keys.Wrapped // zero when the sign-on asked for none
	Batch     string       // batch number handed out with the set
	Answer    []byte       // field 62 as answered: cryptograms under the TMK and check values
	Request   [32]byte     // digest of the sign-on request, so that the same 0800 gets the same answer
	Digest    [32]byte     // over the cryptograms, names the key set (A4)
	MadeAt    time.Time
	ExpiresAt time.Time // pending: end of its wait for a first use
	UsedAt    time.Time // first use
	EndsAt    time.Time // grace: when it ends
}

// UsableAt says whether a message MACed with this set may be accepted at now.
func (s *Set) UsableAt(now time.Time) bool {
	switch s.State {
	case Active:
		return now.Before(s.UsedAt.Add(ActiveLife))
	case Pending:
		return now.Before(s.ExpiresAt)
	case Grace:
		return now.Before(s.EndsAt)
	default:
		return false
	}
}

// Snapshot is what one terminal has at one moment, immutable.
type Snapshot struct {
	sets []*Set // in the order in which a MAC is tried: active, pending from newest to oldest, grace
}

// Candidates returns the sets a MAC may be tried with at now, in order.
func (s *Snapshot) Candidates(now time.Time) []*Set {
	if s == nil {
		return nil
	}
	usable := make([]*Set, 0, len(s.sets))
	for _, set := range s.sets {
		if set.UsableAt(now) {
			usable = append(usable, set)
		}
	}
	return usable
}

// Same returns the live pending or active set that was made for this very request, or nil.
func (s *Snapshot) Same(request [32]byte, now time.Time) *Set {
	for _, set := range s.Candidates(now) {
		if set.State != Grace && bytes.Equal(set.Request[:], request[:]) {
			return set
		}
	}
	return nil
}

// Latest is the highest version the terminal ever had in this table, 0 for none.
func (s *Snapshot) Latest() uint64 {
	var v uint64
	if s != nil {
		for _, set := range s.sets {
			v = max(v, set.Version)
		}
	}
	return v
}

// Batch is the batch number of the newest set, "" for none.
func (s *Snapshot) Batch() string {
	var newest *Set
	if s != nil {
		for _, set := range s.sets {
			if newest == nil || set.Version > newest.Version {
				newest = set
			}
		}
	}
	if newest == nil {
		return ""
	}
	return newest.Batch
}

// shards spreads terminals over independent locks for writers; readers take none.
const shards = 64

// Table holds the snapshots of all terminals. The zero value is not ready; use New.
type Table struct {
	byTerminal sync.Map // terminal id → *atomic.Pointer[Snapshot]
	write      [shards]sync.Mutex
}

// New makes an empty table.
func New() *Table { return &Table{} }

// Load returns the snapshot of a terminal, nil for none. It never waits.
func (t *Table) Load(terminal string) *Snapshot {
	p, ok := t.byTerminal.Load(terminal)
	if !ok {
		return nil
	}
	return p.(*atomic.Pointer[Snapshot]).Load()
}

// Replace sets all sets of a terminal at once: at start and after a reload from the database.
func (t *Table) Replace(terminal string, sets []*Set) {
	defer t.lock(terminal)()
	t.store(terminal, order(sets))
}

// AddPending puts a new pending set beside those that are there. It returns the sets that gave way.
func (t *Table) AddPending(terminal string, set *Set, now time.Time) (dropped []*Set) {
	defer t.lock(terminal)()
	kept := []*Set{set}
	pending := 1
	if old := t.Load(terminal); old != nil {
		for _, s := range old.sets { // pending ones come newest first
			switch {
			case !s.UsableAt(now):
				dropped = append(dropped, ended(s, Expired, now))
			case s.State == Pending && pending >= MaxPending:
				dropped = append(dropped, ended(s, Expired, now))
			default:
				if s.State == Pending {
					pending++
				}
				kept = append(kept, s)
			}
		}
	}
	t.store(terminal, order(kept))
	return dropped
}

// Activate makes a pending set the active one, after its first use; the active one before it goes into its grace, older
// pending sets end, and newer ones stay pending. It returns the sets that changed, for the database. For a set that is not
// pending any more (another message was first) it returns nil.
func (t *Table) Activate(terminal string, version uint64, now time.Time) (changed []*Set) {
	defer t.lock(terminal)()
	old := t.Load(terminal)
	if old == nil {
		return nil
	}
	var kept []*Set
	for _, s := range old.sets {
		switch {
		case s.Version == version && s.State == Pending && s.UsableAt(now):
			next := *s
			next.State, next.UsedAt = Active, now
			kept, changed = append(kept, &next), append(changed, &next)
		case s.Version > version && s.State == Pending:
			kept = append(kept, s)
		}
	}
	if changed == nil {
		return nil
	}
	for _, s := range old.sets {
		switch {
		case s.State == Active:
			next := *s
			next.State, next.EndsAt = Grace, now.Add(GraceLife)
			kept, changed = append(kept, &next), append(changed, &next)
		case s.State == Pending && s.Version < version:
			changed = append(changed, ended(s, Expired, now))
		case s.State == Grace:
			changed = append(changed, ended(s, Ended, now))
		}
	}
	t.store(terminal, order(kept))
	return changed
}

// Revoke ends every set of a terminal at once: sign-off, suspension, another card, compromise. No grace.
func (t *Table) Revoke(terminal string, now time.Time) (changed []*Set) {
	defer t.lock(terminal)()
	if old := t.Load(terminal); old != nil {
		for _, s := range old.sets {
			changed = append(changed, ended(s, Ended, now))
		}
	}
	t.byTerminal.Delete(terminal)
	return changed
}

// Len is the number of terminals with keys.
func (t *Table) Len() int {
	n := 0
	t.byTerminal.Range(func(any, any) bool { n++; return true })
	return n
}

func ended(s *Set, state State, now time.Time) *Set {
	next := *s
	next.State, next.EndsAt = state, now
	return &next
}

// lock serialises the writers of a terminal and returns the unlock.
func (t *Table) lock(terminal string) func() {
	h := uint32(2166136261) // FNV-1a
	for i := range len(terminal) {
		h = (h ^ uint32(terminal[i])) * 16777619
	}
	m := &t.write[h%shards]
	m.Lock()
	return m.Unlock
}

func (t *Table) store(terminal string, snap *Snapshot) {
	if len(snap.sets) == 0 {
		t.byTerminal.Delete(terminal)
		return
	}
	p, _ := t.byTerminal.LoadOrStore(terminal, &atomic.Pointer[Snapshot]{})
	p.(*atomic.Pointer[Snapshot]).Store(snap)
}

// order sorts sets into the order of trial: active, pending newest first, grace.
func order(sets []*Set) *Snapshot {
	out := make([]*Set, 0, len(sets))
	for _, want := range []State{Active, Pending, Grace} {
		from := len(out)
		for _, s := range sets {
			if s.State == want {
				out = append(out, s)
			}
		}
		part := out[from:]
		for i := 1; i < len(part); i++ { // insertion sort: at most a handful
			for j := i; j > 0 && part[j].Version > part[j-1].Version; j-- {
				part[j], part[j-1] = part[j-1], part[j]
			}
		}
	}
	return &Snapshot{sets: out}
}

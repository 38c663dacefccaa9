// Package device is posp's own copy of the device table (P5): which terminal exists, which card sits in it, and the card's
// master key. Lookups read memory and never wait for the database; changes made in posv arrive by notification, usually
// within milliseconds, and at the latest with the next poll; while the database is away the copy goes on serving.
package device

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keyward/keyward/keys"
)

// Terminal is one row of the copy. It is never changed; a newer row replaces it.
type Terminal struct {
	ID            string // field 41, 8 characters
	Merchant      string // field 42, 15 characters
	State         string // active, suspended, lost, retired
	MerchantState string // active, suspended
	Profile       string // dialect profile
	Algorithm     keys.Algorithm
	MAKBytes      int          // 8 or 16
	PSAM          string       // number of the bound card, "" for none
	CardState     string       // state of that card
	Master        keys.Wrapped // the card's master key, zero when none is stored
	MasterKey     int64        // its key id
	Test          bool         // kept out of totals
}

// The reasons why a terminal may not work, for CheckActive's callers.
var (
	ErrTerminalInactive = errors.New("terminal is not active in the registry")
	ErrNoCard           = errors.New("terminal has no valid PSAM card bound to it; bind one in posv")
	ErrNoMasterKey      = errors.New("the bound PSAM card has no active master key; issue the card")
)

// CheckActive says whether the terminal may sign on and trade.
func (t *Terminal) CheckActive() error {
	switch {
	case t.State != "active" || t.MerchantState != "active":
		return ErrTerminalInactive
	case t.PSAM == "" || (t.CardState != "in_service" && t.CardState != "personalised"):
		return ErrNoCard
	case t.Master.IsZero():
		return ErrNoMasterKey
	}
	return nil
}

// sameRights says that keys made under the old row may go on under the new one.
func (t *Terminal) sameRights(next *Terminal) bool {
	return next != nil && next.CheckActive() == nil && t.PSAM == next.PSAM && t.Merchant == next.Merchant &&
		t.MasterKey == next.MasterKey && t.Algorithm == next.Algorithm && t.MAKBytes == next.MAKBytes &&
		t.Profile == next.Profile
}

// Table is the copy. Lookup is safe for any number of readers.
type Table struct {
	rows     sync.Map // terminal id → *Terminal
	count    atomic.Int64
	synced   atomic.Int64 // unix nanoseconds of the last time the copy was known to be current
	onRevoke func(terminal string)
}

// NewTable makes an empty table. onRevoke is called after a change that ends a terminal's right to its present keys:
// suspended, lost, another card, another master key.
func NewTable(onRevoke func(terminal string)) *Table {
	return &Table{onRevoke: onRevoke}
}

// Lookup finds a terminal in memory.
func (t *Table) Lookup(id string) (*Terminal, bool) {
	row, ok := t.rows.Load(id)
	if !ok {
		return nil, false
	}
	return row.(*Terminal), true
}

// Len is the number of terminals.
func (t *Table) Len() int { return int(t.count.Load()) }

// Age is how long ago the copy was last known to be current.
func (t *Table) Age(now time.Time) time.Duration {
	at := t.synced.Load()
	if at == 0 {
		return now.Sub(time.Time{})
	}
	return now.Sub(time.Unix(0, at))
}

// put replaces one row, or removes it when next is nil, and reports revocations.
func (t *Table) put(id string, next *Terminal) {
	var prev any
	var had bool
	if next == nil {
		prev, had = t.rows.LoadAndDelete(id)
		if had {
			t.count.Add(-1)
		}
	} else {
		prev, had = t.rows.Swap(id, next)
		if !had {
			t.count.Add(1)
		}
	}
	if had && !prev.(*Terminal).sameRights(next) && t.onRevoke != nil {
		t.onRevoke(id)
	}
}

func (t *Table) markSynced(now time.Time) { t.synced.Store(now.UnixNano()) }

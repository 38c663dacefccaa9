// Package rewrap moves the key service's keys from one LMK domain to another: a change of LMK or of the HSM's maker (C7, X13),
// without a flag day. A job copies every key in the background, with check values computed by the HSM before and after, then
// both domains serve; a switch, whole or in shares, makes the keys work in the new domain; a step back does the reverse at once; and
// when nothing lives in the old domain any more, its cryptograms are erased. The states are in state.go and docs/states.md.
//
// Two methods exist. translate asks one device that holds both LMKs; nothing leaves it. zmk exports each key under a zone master key in
// the old domain and imports it in the new one, and needs a group of the HSM that is made for it. Either right belongs to the key
// service alone (P1).
//
// A job is rows in PostgreSQL: it goes on after a crash at any point, because every step finds its own work by what is not done yet, and
// doing a step twice changes nothing. One process works at a time, held together by an advisory lock.
package rewrap

import (
	"errors"
	"time"

	"github.com/keyward/keyward/keys"
)

// Method is how a key gets from one LMK to the other.
type Method string

// The methods.
const (
	// Translate: inside one device that holds both LMKs. Nothing is exported.
	Translate Method = "translate"
	// ZMK: exported under a zone master key in the old domain and imported in the new one.
	ZMK Method = "zmk"
)

// ErrNotFound says that there is no such job.
var ErrNotFound = errors.New("no such job")

// Refusal is an order that cannot be followed now: Why is a sentence, Next says what to do. Neither holds key material.
type Refusal struct{ Why, Next string }

// Error implements error.
func (r *Refusal) Error() string { return r.Why + "; " + r.Next }

// Plan is what a job is started with.
type Plan struct {
	From   string `json:"from"` // LMK domains
	To     string `json:"to"`
	Method Method `json:"method"`
	// ZMK is the name of the zone master key of method zmk, which lives in From and has a twin in To.
	ZMK string `json:"zmk,omitempty"`
	// Rate is how many keys are copied per second at most, 1 to 1000; 0: 10.
	Rate int `json:"rate,omitempty"`
}

const (
	// defaultRate keeps the background below what the smallest licence of the usual devices allows beside it: a key takes three or four
	// commands, and 60 commands a second are sold (facts/hsm.md §7).
	defaultRate = 10
	// maxRate is more than one worker's share of any device; the table has the same bound.
	maxRate = 1000
)

// Job is one move of all keys of a domain.
type Job struct {
	ID         int64      `json:"job"`
	From       string     `json:"from"`
	To         string     `json:"to"`
	Method     Method     `json:"method"`
	ZMK        string     `json:"zmk,omitempty"` // name of the zone master key
	State      State      `json:"state"`
	Rate       int        `json:"rate"`
	Share      int        `json:"share"` // percent of the cards ordered to work in To; 100: every key
	Names      []string   `json:"names,omitempty"`
	StartedBy  string     `json:"started_by"`
	OrderedBy  string     `json:"ordered_by"`        // who gave the last order
	Trouble    string     `json:"trouble,omitempty"` // why it failed, or what keeps it waiting
	CreatedAt  time.Time  `json:"created_at"`
	UpdatedAt  time.Time  `json:"updated_at"`
	CopiedAt   *time.Time `json:"copied_at,omitempty"`
	SwitchedAt *time.Time `json:"switched_at,omitempty"`
	EndedAt    *time.Time `json:"ended_at,omitempty"`

	zmkID int64
}

// Progress counts the keys of a job. Total is Done, Left and Differences together.
type Progress struct {
	Total       int     `json:"total"`
	Done        int     `json:"done"` // proven twins
	Left        int     `json:"left"`
	Differences int     `json:"differences"`
	Switched    int     `json:"switched"`      // of Done: those that work in the new domain
	Native      int     `json:"native"`        // made in the new domain; they have no twin
	Rate        float64 `json:"rate"`          // keys copied per second, over the last minute
	ETA         string  `json:"eta"`           // a duration; "" when nothing is left or nothing moves
	WorkKeySets int     `json:"work_key_sets"` // sets of terminals that still serve in the old domain
}

// Blocker is a reason why a job cannot be switched or retired yet.
type Blocker struct {
	What     string   `json:"what"` // a sentence
	Count    int      `json:"count"`
	Examples []string `json:"examples"` // at most maxExamples
}

// Status is a job with everything that an operator decides by.
type Status struct {
	Job
	Progress    Progress  `json:"progress"`
	SwitchWaits []Blocker `json:"switch_waits_for"`
	RetireWaits []Blocker `json:"retire_waits_for"`
}

// Selection names the keys of a switch: all of them, or a share of the cards, or keys by name. An order adds to those before it.
type Selection struct {
	// Share is the percentage of the cards, 1 to 100; 100 is every key, root keys included.
	Share int `json:"share,omitempty"`
	// Cards are PSAM numbers, Names names of keys (PSAM-ROOT …).
	Cards []string `json:"cards,omitempty"`
	Names []string `json:"names,omitempty"`
}

// Proof is one line of the report: the check values of a key, stored, before and after.
type Proof struct {
	Key        int64          `json:"key"`
	Name       string         `json:"name"`
	Usage      keys.Usage     `json:"usage"`
	Algorithm  keys.Algorithm `json:"algorithm"`
	Version    int            `json:"version"`
	Stored     keys.KCV       `json:"kcv_stored"`
	Before     keys.KCV       `json:"kcv_before"`
	After      keys.KCV       `json:"kcv_after"`
	Good       bool           `json:"good"` // all three agree, and nothing else was found
	Reason     string         `json:"reason,omitempty"`
	At         time.Time      `json:"at"`
	SwitchedAt *time.Time     `json:"switched_at,omitempty"`
	ErasedAt   *time.Time     `json:"erased_at,omitempty"`
}

// Page is a part of a report, by key number. Next is the key number to go on after, 0 at the end.
type Page struct {
	Job   Job     `json:"job"`
	Lines []Proof `json:"lines"`
	Next  int64   `json:"next,omitempty"`
}

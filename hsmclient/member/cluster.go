package member

import (
	"errors"
	"fmt"
	"time"

	"github.com/keyward/keyward/keys"
)

// Engine is the inner state of a cluster (row C5).
type Engine struct {
	Name       string         `json:"name"`
	Instance   string         `json:"instance"`
	Running    bool           `json:"running"`    // takes requests
	Monitoring bool           `json:"monitoring"` // heartbeats are sent
	Since      time.Time      `json:"since"`      // of Running
	Members    int            `json:"members"`
	MaxMembers int            `json:"max_members"`
	MaxPrio    int            `json:"max_priority"`
	Serial     uint64         `json:"serial"` // of the last exchange
	Journal    bool           `json:"journal"`
	Domains    []DomainStatus `json:"domains"`
}

// DomainStatus is the pool of one LMK domain.
type DomainStatus struct {
	Domain         string        `json:"domain"`
	LMKCheck       keys.KCV      `json:"lmk_check,omitempty"`
	States         map[State]int `json:"states"` // how many members are in each
	StandbyEngaged bool          `json:"standby_engaged"`
	InFlight       int           `json:"in_flight"`
	Places         int           `json:"places"` // of the members that get traffic
	Waiting        int           `json:"waiting"`
	PerSecond      float64       `json:"per_second"`
	Utilisation    float64       `json:"utilisation"` // of the members that get traffic
	Forecast       Forecast      `json:"forecast"`
}

// Forecast says when a domain is full if its traffic goes on growing as over the last minutes.
type Forecast struct {
	TrendPerMinute float64  `json:"trend_per_minute"`       // change of utilisation, 0.01 is one percent a minute
	SaturatedIn    Duration `json:"saturated_in,omitempty"` // zero: not in sight
	Text           string   `json:"text"`                   // for people
}

// Queues are the requests that wait and those that are under way, of one domain.
type Queues struct {
	Domain   string         `json:"domain"`
	Limit    int            `json:"limit"`
	Requests []WaitingClass `json:"requests"`  // one entry for each class
	Sent     []SentQueue    `json:"responses"` // one entry for each member
	Shed     uint64         `json:"shed"`      // requests refused or put out because the queue was full
}

// WaitingClass is how many requests of a class wait for a place.
type WaitingClass struct {
	Class    string  `json:"class"`
	Waiting  int     `json:"waiting"`
	OldestMS float64 `json:"oldest_ms"`
}

// SentQueue is how many requests of a member wait for their answer.
type SentQueue struct {
	Member   string  `json:"member"`
	InFlight int     `json:"in_flight"`
	OldestMS float64 `json:"oldest_ms"`
}

// QueueKind names one of the two queues.
type QueueKind string

// The queues.
const (
	Requests  QueueKind = "requests"
	Responses QueueKind = "responses"
)

// RefusalKind says what was wrong with an operation.
type RefusalKind string

// The kinds.
const (
	NotFound RefusalKind = "not_found" // no such member, domain or queue
	Conflict RefusalKind = "conflict"  // the name is taken, or the state does not allow it
	Invalid  RefusalKind = "invalid"   // a value is wrong
	Unsafe   RefusalKind = "unsafe"    // it would harm service; Act.Force overrules
)

// Refusal is an operation that was not done. Nothing has changed.
type Refusal struct {
	Kind RefusalKind
	Text string // what was refused and why
	Next string // what to do
}

// Refuse makes a refusal.
func Refuse(kind RefusalKind, next, format string, args ...any) *Refusal {
	return &Refusal{Kind: kind, Text: fmt.Sprintf(format, args...), Next: next}
}

// Error implements error.
func (r *Refusal) Error() string { return r.Text + ": " + r.Next }

// IsRefusal says that err is a refusal of the kind.
func IsRefusal(err error, kind RefusalKind) bool {
	var r *Refusal
	return errors.As(err, &r) && r.Kind == kind
}

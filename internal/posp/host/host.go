// Package host says what posp needs of a downstream business unit (P10): exchange a transaction, take one back, and tell
// which zone key its PIN blocks travel under. One implementation per downstream lives in a sub-package of the same shape; the
// conformance suite is hosttest.
package host

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/internal/txn"
	"github.com/keyward/keyward/keys"
	"github.com/keyward/keyward/keys/secret"
)

// Host is one downstream. Implementations are safe for concurrent use.
type Host interface {
	// Name is the configured name; it is stored in the journal and used as a metric label.
	Name() string
	// Zone tells how PIN blocks for this host are protected.
	Zone() Zone
	// Ready says that the host is connected and signed on; a reason otherwise.
	Ready() error
	// Exchange sends a transaction and waits for its answer until ctx ends. What tells of something that has happened already
	// (txn.Deliver) is sent again, with a higher Try, until it is answered: the host books it once.
	Exchange(ctx context.Context, req Request) Result
	// Reverse sends one try of a reversal. Only Answered ends a reversal; the reply code tells how.
	Reverse(ctx context.Context, rev Reversal) Result
}

// Zone is the protection of PIN blocks on the way to a host.
type Zone struct {
	PIN    keys.Wrapped // the zone PIN key (ZPK)
	Twins  keys.Twins   // the same key in further LMK domains
	Format command.PINFormat
}

// PINIn gives the zone PIN key in an LMK domain: a PIN can only be translated between two keys of one domain (C7).
func (z Zone) PINIn(domain string) (keys.Wrapped, error) {
	if z.PIN.Domain == domain {
		return z.PIN, nil
	}
	if twin, ok := z.Twins.In(domain); ok {
		return twin, nil
	}
	return keys.Wrapped{}, fmt.Errorf("the zone PIN key has no twin in LMK domain %q, in which the terminal's PIN key is; add it to the host's zpk.twins", domain)
}

// Request is a transaction as a host needs it. PINBlock is already under the host's zone PIN key, tracks are clear.
type Request struct {
	Kind      txn.Kind
	Trace     string // 6 digits, derived from the duplicate key (design.md §4)
	RRN       string // 12 characters, derived likewise
	SentAt    time.Time
	Terminal  string
	Merchant  string
	PAN       secret.PAN
	Expiry    string
	ProcCode  string
	Amount    int64
	Currency  string
	EntryMode string
	CardSeq   string
	Condition string
	PINLength string
	Track2    secret.Track
	Track3    secret.Track
	ICData    []byte
	PINBlock  secret.PINBlock
	AuthCode  string    // field 38 as the terminal gave it: of the original, or got by voice for an offline transaction
	Original  *Original // what a void, a refund, a completion or an advice refers to; nil for none, or for one that we never saw
	Try       int       // 1 for the first; above it the same request goes out again, and a host dialect may mark it
}

// Original is the earlier transaction that a request refers to, by the references that the host got with it: trace, RRN and SentAt are
// those of its own Request.
type Original struct {
	Kind     txn.Kind
	Trace    string
	RRN      string
	SentAt   time.Time
	Terminal string
	Amount   int64
	AuthCode string // the host's, field 38 of its approval; "" for none
}

// Reversal names the transaction to take back. Trace, RRN and SentAt are those of the Request that it undoes; they are known
// for an original that never reached us, too, because they are derived.
type Reversal struct {
	Kind      txn.Kind // of the Request that it undoes
	Trace     string
	RRN       string
	SentAt    time.Time
	Terminal  string
	Merchant  string
	PAN       secret.PAN
	Expiry    string
	ProcCode  string
	Amount    int64
	Currency  string
	EntryMode string
	Condition string
	Cause     string // field 39 of a reversal: 98, 96, A0 or 06 (facts/unionpay.md §3)
	Try       int    // 1 for the first; a host dialect may mark repeats
}

// Result is what came of one exchange. Reply is set when Outcome is Answered; Err says why otherwise.
type Result struct {
	Outcome txn.Outcome
	Reply   txn.Reply
	Err     error
}

// ErrMAC is wrapped by Result.Err when an answer came whose MAC is wrong or missing. The outcome is Unknown as for silence, but the
// reversal's cause is A0 (design.md §3).
var ErrMAC = errors.New("MAC of the answer is wrong")

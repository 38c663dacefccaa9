package reverse

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/keyward/keyward/internal/posp/host"
	"github.com/keyward/keyward/internal/posp/journal"
	"github.com/keyward/keyward/internal/posp/seal"
	"github.com/keyward/keyward/internal/txn"
	"github.com/keyward/keyward/keys/secret"
)

// Material is what a reversal needs beside the journal's own columns. It is stored sealed only.
type Material struct {
	PAN       string  `json:"p"`
	Expiry    string  `json:"x,omitempty"`
	EntryMode string  `json:"m,omitempty"`
	Condition string  `json:"c,omitempty"`
	Advice    *Advice `json:"a,omitempty"` // of an advice, which goes out again as it is
}

// Advice is what an advice needs beside that. Tracks and PIN blocks never reach a disk: an advice has neither.
type Advice struct {
	CardSeq  string         `json:"s,omitempty"`
	ICData   []byte         `json:"i,omitempty"`
	AuthCode string         `json:"a,omitempty"`
	Original *host.Original `json:"o,omitempty"`
}

// MaterialOf takes from a request what would be needed to reverse it, or to send it again.
func MaterialOf(req host.Request) Material {
	m := Material{PAN: req.PAN.Reveal(), Expiry: req.Expiry, EntryMode: req.EntryMode, Condition: req.Condition}
	if req.Kind.Doubt() == txn.Deliver {
		m.Advice = &Advice{CardSeq: req.CardSeq, ICData: req.ICData, AuthCode: req.AuthCode, Original: req.Original}
	}
	return m
}

// Seal makes the sealed form for the journal; the transaction's id is part of the seal.
func (m Material) Seal(s *seal.Sealer, id txn.ID) ([]byte, error) {
	b, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("seal reversal material: %w", err)
	}
	defer clear(b)
	return s.Seal(b, id[:]), nil
}

// openMaterial is the inverse of Seal.
func openMaterial(s *seal.Sealer, id txn.ID, sealed []byte) (Material, error) {
	plain, err := s.Open(sealed, id[:])
	if err != nil {
		return Material{}, err
	}
	defer clear(plain)
	var m Material
	if err := json.Unmarshal(plain, &m); err != nil {
		return Material{}, errors.New("sealed reversal material cannot be read")
	}
	return m, nil
}

// reversal is one try of the reversal of an entry.
func (m Material) reversal(e *journal.Entry, try int) (host.Reversal, error) {
	pan, err := secret.ParsePAN(m.PAN)
	if err != nil {
		return host.Reversal{}, err
	}
	rec := e.Original()
	cause, _, _ := e.Owes()
	return host.Reversal{
		Kind: rec.Kind, Trace: rec.HostTrace, RRN: rec.RRN, SentAt: e.Began(), Terminal: rec.Key.Terminal, Merchant: rec.Key.Merchant, PAN: pan,
		Expiry: m.Expiry, ProcCode: rec.ProcCode, Amount: rec.Amount, Currency: rec.Currency, EntryMode: m.EntryMode, Condition: m.Condition,
		Cause: cause, Try: try,
	}, nil
}

// request is one more try of the advice of an entry.
func (m Material) request(e *journal.Entry, try int) (host.Request, error) {
	if m.Advice == nil {
		return host.Request{}, errors.New("what was sealed for the transaction is no advice")
	}
	pan, err := secret.ParsePAN(m.PAN)
	if err != nil {
		return host.Request{}, err
	}
	rec := e.Original()
	return host.Request{
		Kind: rec.Kind, Trace: rec.HostTrace, RRN: rec.RRN, SentAt: e.Began(), Terminal: rec.Key.Terminal, Merchant: rec.Key.Merchant, PAN: pan,
		Expiry: m.Expiry, ProcCode: rec.ProcCode, Amount: rec.Amount, Currency: rec.Currency, EntryMode: m.EntryMode, Condition: m.Condition,
		CardSeq: m.Advice.CardSeq, ICData: m.Advice.ICData, AuthCode: m.Advice.AuthCode, Original: m.Advice.Original, Try: try,
	}, nil
}

// busyCodes are refusals by which a host says that it cannot just now (facts/unionpay.md §7): an advice is sent again after them.
var busyCodes = map[string]bool{"68": true, "90": true, "91": true, "92": true, "96": true, "98": true}

// laterIfBusy makes an unknown outcome of an answer that settles nothing.
func laterIfBusy(r host.Result) host.Result {
	if r.Outcome == txn.Answered && busyCodes[r.Reply.Code] {
		return host.Result{Outcome: txn.Unknown, Err: fmt.Errorf("the host answers %s, not now", r.Reply.Code)}
	}
	return r
}

package bank

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"
)

const (
	stateVersion = 2
	// stateVersion1 had purchases and balance inquiries only; it is still read.
	stateVersion1 = 1
	// saveDelay gathers changes: at most one save in this time. A kill loses no more than this; Stop loses nothing.
	saveDelay = time.Second
	// saveShare keeps a big book from being written all the time: after a save that took t, the next one waits saveShare times t.
	saveShare = 10
)

// stateJSON is the state file. It has PANs as keyed digests and masked, never PINs.
type stateJSON struct {
	Version  int           `json:"version"`
	KeyCheck string        `json:"key_check"` // Digest of nothing: tells a changed ZAK from a changed list of accounts.
	AuthSeq  int           `json:"auth_seq"`
	Totals   Totals        `json:"totals"`
	Accounts []accountJSON `json:"accounts"`
	Records  []recordJSON  `json:"records"` // Oldest first.
}

type accountJSON struct {
	Digest    string `json:"digest"`
	PAN       string `json:"pan"` // Masked.
	Opening   int64  `json:"opening"`
	Balance   int64  `json:"balance"`
	Held      int64  `json:"held,omitempty"`
	WrongPINs int    `json:"wrong_pins"`
}

type recordJSON struct {
	Key     string    `json:"key"` // Acquirer 11, RRN 12, terminal 8, trace 6.
	MTI     string    `json:"mti"`
	Kind    string    `json:"kind"`
	Content string    `json:"content"` // Keyed digest of fields 2, 3, 4.
	Account int       `json:"account"` // Place in Accounts, -1 for none.
	PAN     string    `json:"pan"`     // Masked.
	Amount  int64     `json:"amount"`
	State   string    `json:"state"`
	Code    string    `json:"code"`
	Auth    string    `json:"auth,omitempty"`
	Settled string    `json:"settled"`
	Balance string    `json:"balance,omitempty"`
	At      time.Time `json:"at"`

	Naming   string `json:"naming,omitempty"`
	Merchant string `json:"merchant,omitempty"`
	Original int    `json:"original,omitempty"` // Place in Records, from 1; 0 for none or a forgotten one.
	Total    int64  `json:"total,omitempty"`
	Moved    int64  `json:"moved,omitempty"`
	Held     int64  `json:"held,omitempty"`
	Refunded int64  `json:"refunded,omitempty"`
}

// saveLoop writes the book a moment after it has changed.
func (b *Bank) saveLoop() {
	pause := saveDelay
	for {
		select {
		case <-b.dirty:
		case <-b.life.stop:
			return // Stop saves once more when nothing can change any longer.
		}
		select {
		case <-time.After(pause):
		case <-b.life.stop:
			return
		}
		began := time.Now()
		if err := b.saveState(); err != nil {
			b.log.Error("bank simulator cannot save its book; it tries again", slog.Any("error", err))
			b.touch()
		}
		pause = max(saveDelay, saveShare*time.Since(began))
	}
}

// saveState replaces the state file in one step: a crash leaves the old or the new one.
func (b *Bank) saveState() error {
	data, err := json.Marshal(b.book.state())
	if err != nil {
		return fmt.Errorf("state file %s: %w", b.stateFile, err)
	}
	if err := replaceFile(b.stateFile, data); err != nil {
		return fmt.Errorf("state file %s: %w", b.stateFile, err)
	}
	return nil
}

func replaceFile(path string, data []byte) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, filepath.Base(path)+".*") // Mode 0600.
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// state copies the book. Only the copying is done under the lock.
func (b *book) state() stateJSON {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := stateJSON{Version: stateVersion, KeyCheck: b.digest.of(""), AuthSeq: b.authSeq, Totals: b.totals}
	place := map[*account]int{nil: -1}
	for _, list := range [][]*account{b.order, b.former} {
		for _, a := range list {
			place[a] = len(out.Accounts)
			out.Accounts = append(out.Accounts, accountJSON{
				Digest: a.digest, PAN: a.masked, Opening: a.opening, Balance: a.balance, Held: a.held, WrongPINs: a.wrongPINs,
			})
		}
	}
	records := map[*record]int{}
	for i, r := range b.oldestFirst() {
		records[r] = i + 1
		key := make([]byte, 0, keySize)
		key = append(append(key, r.key.acquirer[:]...), r.key.rrn[:]...)
		key = append(append(key, r.key.terminal[:]...), r.key.trace[:]...)
		out.Records = append(out.Records, recordJSON{
			Key: string(key), MTI: r.mti, Kind: r.kind.name, Content: hex.EncodeToString(r.content[:]),
			Account: place[r.account], PAN: r.masked, Amount: r.amount, State: r.state, Code: r.code, Auth: r.auth,
			Settled: r.settled, Balance: r.balance, At: r.at,
			Naming: r.naming, Merchant: r.merchant, Original: records[r.original], Total: r.total, Moved: r.moved, Held: r.held, Refunded: r.refunded,
		})
	}
	return out
}

// loadState reads the state file; a missing one is a new bank.
func (b *Bank) loadState() error {
	data, err := os.ReadFile(b.stateFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("state file: %w", err)
	}
	in := json.NewDecoder(bytes.NewReader(data))
	in.DisallowUnknownFields()
	var state stateJSON
	if err := in.Decode(&state); err != nil {
		return fmt.Errorf("state file %s is damaged, delete it to start afresh: %w", b.stateFile, err)
	}
	if err := b.book.restore(state); err != nil {
		return fmt.Errorf("state file %s cannot be used, delete it to start afresh: %w", b.stateFile, err)
	}
	return nil
}

// restore puts a loaded state into a new book.
func (b *book) restore(state stateJSON) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if state.Version != stateVersion && state.Version != stateVersion1 {
		return fmt.Errorf("version %d, need %d", state.Version, stateVersion)
	}
	if state.KeyCheck != b.digest.of("") {
		return errors.New("it was written with another zone MAC key")
	}
	if len(state.Records) > maxRecords || state.AuthSeq < 0 || state.AuthSeq > 999_999 {
		return errors.New("its counts are out of range")
	}
	configured := map[string]*account{}
	for _, a := range b.order {
		configured[a.digest] = a
	}
	var accounts []*account
	for i, in := range state.Accounts {
		if in.Balance < -maxAmount || in.Balance > maxAmount || in.Held < 0 || in.WrongPINs < 0 {
			return fmt.Errorf("account %d is out of range", i)
		}
		a := configured[in.Digest]
		if a == nil {
			a = &account{opening: in.Opening, masked: in.PAN, digest: in.Digest}
			b.former = append(b.former, a)
		}
		// A changed opening balance keeps the difference that the bookings made.
		a.balance, a.held, a.wrongPINs = a.opening-in.Opening+in.Balance, in.Held, in.WrongPINs
		accounts = append(accounts, a)
	}
	records := make([]*record, 0, len(state.Records))
	for i, in := range state.Records {
		if state.Version == stateVersion1 {
			in.fromVersion1()
		}
		r, err := in.record(accounts, records)
		if err != nil {
			return fmt.Errorf("record %d: %w", i, err)
		}
		b.remember(r)
		records = append(records, r)
	}
	b.authSeq, b.totals = state.AuthSeq, state.Totals
	return nil
}

const keySize = 11 + 12 + 8 + 6

// fromVersion1 fills in what records of version 1 did not say.
func (in *recordJSON) fromVersion1() {
	in.Total = in.Amount
	if in.State == stateBooked {
		in.Moved = in.Amount
	}
}

// record makes a record; older are those in front of it, among which its original is.
func (in recordJSON) record(accounts []*account, older []*record) (*record, error) {
	r := &record{
		mti: in.MTI, kind: kindsByName[in.Kind], masked: in.PAN, amount: in.Amount, state: in.State, code: in.Code, auth: in.Auth,
		settled: in.Settled, balance: in.Balance, at: in.At, naming: in.Naming, merchant: in.Merchant,
		total: in.Total, moved: in.Moved, held: in.Held, refunded: in.Refunded,
	}
	content, err := hex.DecodeString(in.Content)
	if err != nil || len(content) != len(r.content) || len(in.Key) != keySize {
		return nil, errors.New("key or content does not have its length")
	}
	copy(r.content[:], content)
	copy(r.key.acquirer[:], in.Key)
	copy(r.key.rrn[:], in.Key[11:])
	copy(r.key.terminal[:], in.Key[11+12:])
	copy(r.key.trace[:], in.Key[11+12+8:])
	if r.kind == nil {
		return nil, errors.New("unknown kind")
	}
	moved := false
	switch in.State {
	case stateBooked, stateReversed, stateHeld, stateCompleted, stateVoided, stateNoted:
		moved = true
	case stateDeclined, stateInquiry, stateTombstone:
	default:
		return nil, errors.New("unknown state")
	}
	switch {
	case in.Account >= 0 && in.Account < len(accounts):
		r.account = accounts[in.Account]
	case in.Account != -1 || moved:
		return nil, errors.New("no such account")
	}
	switch {
	case in.Original < 0 || in.Original > len(older):
		return nil, errors.New("no such original")
	case in.Original > 0:
		r.original = older[in.Original-1]
		if in.State != stateReversed {
			r.original.built = append(r.original.built, r)
		}
	}
	return r, nil
}

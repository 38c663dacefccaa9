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
	stateVersion = 1
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
				Digest: a.digest, PAN: a.masked, Opening: a.opening, Balance: a.balance, WrongPINs: a.wrongPINs,
			})
		}
	}
	for _, r := range b.oldestFirst() {
		key := make([]byte, 0, keySize)
		key = append(append(key, r.key.acquirer[:]...), r.key.rrn[:]...)
		key = append(append(key, r.key.terminal[:]...), r.key.trace[:]...)
		out.Records = append(out.Records, recordJSON{
			Key: string(key), MTI: r.mti, Kind: r.kind, Content: hex.EncodeToString(r.content[:]),
			Account: place[r.account], PAN: r.masked, Amount: r.amount, State: r.state, Code: r.code, Auth: r.auth,
			Settled: r.settled, Balance: r.balance, At: r.at,
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
	if state.Version != stateVersion {
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
		if in.Balance < 0 || in.Balance > maxAmount || in.WrongPINs < 0 {
			return fmt.Errorf("account %d is out of range", i)
		}
		a := configured[in.Digest]
		if a == nil {
			a = &account{opening: in.Opening, masked: in.PAN, digest: in.Digest}
			b.former = append(b.former, a)
		}
		// A changed opening balance keeps the difference that the bookings made.
		a.balance, a.wrongPINs = min(max(0, a.opening-in.Opening+in.Balance), maxAmount), in.WrongPINs
		accounts = append(accounts, a)
	}
	for i, in := range state.Records {
		r, err := in.record(accounts)
		if err != nil {
			return fmt.Errorf("record %d: %w", i, err)
		}
		b.remember(r)
	}
	b.authSeq, b.totals = state.AuthSeq, state.Totals
	return nil
}

const keySize = 11 + 12 + 8 + 6

func (in recordJSON) record(accounts []*account) (*record, error) {
	r := &record{
		mti: in.MTI, kind: in.Kind, masked: in.PAN, amount: in.Amount, state: in.State, code: in.Code, auth: in.Auth,
		settled: in.Settled, balance: in.Balance, at: in.At,
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
	switch in.State {
	case stateBooked, stateReversed, stateDeclined, stateInquiry, stateTombstone:
	default:
		return nil, errors.New("unknown state")
	}
	switch moved := in.State == stateBooked || in.State == stateReversed; {
	case in.Account >= 0 && in.Account < len(accounts):
		r.account = accounts[in.Account]
	case in.Account != -1 || moved:
		return nil, errors.New("no such account")
	}
	return r, nil
}

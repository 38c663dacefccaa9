package pos

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// State is what a terminal keeps over a restart.
type State struct {
	Terminal string `json:"terminal"`
	Merchant string `json:"merchant"`
	PSAM     string `json:"psam"`
	Trace    int    `json:"trace"` // last trace used
	Batch    string `json:"batch"` // 6 digits
	SignedOn bool   `json:"signed_on"`
	Scheme   string `json:"scheme,omitempty"` // 60.3 of the sign-on that gave the keys in use

	// Pending is the transaction that must be reversed before the next one.
	Pending *original `json:"pending,omitempty"`
	// Last is the last approved transaction, if it can be reversed: what an operator's reversal is about.
	Last *original `json:"last,omitempty"`
	// Sold are approved transactions, oldest first; Stored are messages that tell of what has happened and that no host has answered yet.
	Sold   []sold   `json:"sold,omitempty"`
	Stored []stored `json:"stored,omitempty"`
}

// clone copies what later transactions change in place.
func (s State) clone() State {
	for _, kept := range []**original{&s.Pending, &s.Last} {
		if *kept != nil {
			c := **kept
			*kept = &c
		}
	}
	s.Sold, s.Stored = slices.Clone(s.Sold), slices.Clone(s.Stored)
	return s
}

// original is what a reversal repeats of what it takes back.
type original struct {
	Command    string `json:"command,omitempty"`
	Processing string `json:"processing,omitempty"` // F3; empty in files of older versions: a purchase
	Condition  string `json:"condition,omitempty"`  // F25, likewise

	Trace     string `json:"trace"`
	Batch     string `json:"batch"`
	AmountFen int64  `json:"amount_fen"`
	EntryMode string `json:"entry_mode"` // F22
	Field60   string `json:"field60"`
	Cause     string `json:"cause"` // F39 of the reversal: 98, 96, A0 or 06
	Tries     int    `json:"tries"` // reversals sent
	// Sealed is the account data, enciphered: see sealAccount.
	Sealed []byte `json:"sealed"`
}

// account is what of a card a reversal must repeat.
type account struct {
	PAN    string `json:"pan"`
	Expiry string `json:"expiry"`
	Track2 string `json:"track2"`
}

// vault stands for the protected memory of a terminal: it keeps card numbers and tracks from standing readable in state
// files and protects them from nobody who can read this source.
var vault = sha256.Sum256([]byte("keyward terminal simulator: protected memory of a terminal that does not exist"))

func vaultCipher() (cipher.AEAD, error) {
	block, err := aes.NewCipher(vault[:])
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

func sealAccount(a account) ([]byte, error) {
	plain, err := json.Marshal(a)
	if err != nil {
		return nil, err
	}
	aead, err := vaultCipher()
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, aead.NonceSize())
	if _, err := rand.Read(nonce); err != nil {
		return nil, err
	}
	return aead.Seal(nonce, nonce, plain, nil), nil
}

func openAccount(sealed []byte) (account, error) {
	aead, err := vaultCipher()
	if err != nil {
		return account{}, err
	}
	if len(sealed) < aead.NonceSize() {
		return account{}, errors.New("the sealed account data is cut off")
	}
	plain, err := aead.Open(nil, sealed[:aead.NonceSize()], sealed[aead.NonceSize():], nil)
	if err != nil {
		return account{}, fmt.Errorf("the sealed account data is damaged: %w", err)
	}
	var a account
	err = json.Unmarshal(plain, &a)
	return a, err
}

// loadState reads the state file. A missing file is a new terminal; a file of another terminal is refused.
func loadState(cfg Config) (State, error) {
	fresh := State{Terminal: cfg.TerminalID, Merchant: cfg.MerchantID, PSAM: cfg.PSAM, Batch: "000000"}
	if cfg.StateFile == "" {
		return fresh, nil
	}
	state, err := readState(cfg.StateFile)
	if errors.Is(err, os.ErrNotExist) {
		return fresh, nil
	}
	if err != nil {
		return State{}, err
	}
	if state.Terminal != cfg.TerminalID {
		return State{}, fmt.Errorf("state file %s is that of terminal %s, not of %s", cfg.StateFile, state.Terminal, cfg.TerminalID)
	}
	if state.PSAM != cfg.PSAM || state.Merchant != cfg.MerchantID {
		// Another card holds other keys. What is pending stays: it is a debt of the terminal.
		state.SignedOn = false
	}
	state.PSAM, state.Merchant = cfg.PSAM, cfg.MerchantID
	return state, nil
}

func readState(path string) (State, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return State{}, fmt.Errorf("read terminal state: %w", err)
	}
	var state State
	if err := json.Unmarshal(raw, &state); err != nil {
		return State{}, fmt.Errorf("terminal state %s is damaged: %w; delete it to begin afresh", path, err)
	}
	for _, s := range state.Sold {
		if trades[s.Command] == nil {
			return State{}, fmt.Errorf("terminal state %s: it remembers a transaction of an unknown kind; delete it to begin afresh", path)
		}
	}
	for _, s := range state.Stored {
		if trades[s.Command] == nil {
			return State{}, fmt.Errorf("terminal state %s: it keeps a message of an unknown kind; delete it to begin afresh", path)
		}
	}
	if state.Trace < 0 || state.Trace > 999999 || len(state.Batch) != 6 || !digitsOnly(state.Batch) {
		return State{}, fmt.Errorf("terminal state %s: trace or batch is out of range; delete it to begin afresh", path)
	}
	return state, nil
}

// save writes the state file in one step. It is not synced: losing the last moments of a simulator harms nobody.
func (t *Terminal) save() error {
	path := t.cfg.StateFile
	if path == "" {
		return nil
	}
	raw, err := json.MarshalIndent(t.state, "", "  ")
	if err != nil {
		return fmt.Errorf("save terminal state: %w", err)
	}
	tmp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".tmp")
	if err := os.WriteFile(tmp, raw, 0o600); err != nil {
		return fmt.Errorf("save terminal state: %w; is the disk full?", err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("save terminal state: %w", err)
	}
	return nil
}

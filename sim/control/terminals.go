package control

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/keyward/keyward/internal/httpapi"
	"github.com/keyward/keyward/sim/pos"
)

// errTerminal marks a binding that is wrong in itself.
var errTerminal = errors.New("not a terminal")

// complete fills in the defaults and checks the numbers; they become file names and fields of messages.
func (t *Terminal) complete() error {
	if t.MerchantID == "" || t.PSAMNo == "" {
		merchant, psamNo, err := pos.DefaultBinding(t.TerminalID)
		if err != nil {
			return fmt.Errorf("%w: only 1000NNNN has a default merchant and card: name merchant_id and psam_no", errTerminal)
		}
		if t.MerchantID == "" {
			t.MerchantID = merchant
		}
		if t.PSAMNo == "" {
			t.PSAMNo = psamNo
		}
	}
	switch {
	case len(t.TerminalID) != 8 || !letters(t.TerminalID, true):
		return fmt.Errorf("%w: terminal_id has 8 letters or digits", errTerminal)
	case len(t.MerchantID) != 15 || !letters(t.MerchantID, true):
		return fmt.Errorf("%w: merchant_id has 15 letters or digits", errTerminal)
	case len(t.PSAMNo) != 20 || !letters(t.PSAMNo, false):
		return fmt.Errorf("%w: psam_no has 20 digits", errTerminal)
	}
	return nil
}

// letters says that text is digits, or also letters.
func letters(text string, also bool) bool {
	for _, c := range []byte(text) {
		if (c < '0' || c > '9') && (!also || c|0x20 < 'a' || c|0x20 > 'z') {
			return false
		}
	}
	return true
}

// addTerminal puts a terminal into the fleet. A new one gets its state file at once, so that it is still there after a restart;
// a changed card is on disk with the terminal's next command.
func (a *App) addTerminal(t Terminal) error {
	if err := t.complete(); err != nil {
		return err
	}
	a.adding.Lock()
	defer a.adding.Unlock()
	path := filepath.Join(a.cfg.Terminals.StateDir, t.TerminalID+".json")
	fresh := false
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) && !a.hasTerminal(t.TerminalID) {
		state, err := json.Marshal(pos.State{Terminal: t.TerminalID, Merchant: t.MerchantID, PSAM: t.PSAMNo, Batch: "000000"})
		if err != nil {
			return err
		}
		if err := os.WriteFile(path, state, 0o600); err != nil {
			return fmt.Errorf("keep terminal %s: %w", t.TerminalID, err)
		}
		fresh = true
	}
	if err := a.fleet.Add(t.TerminalID, t.MerchantID, t.PSAMNo); err != nil {
		if fresh {
			err = errors.Join(err, os.Remove(path))
		}
		return err
	}
	return nil
}

func (a *App) hasTerminal(id string) bool {
	return slices.ContainsFunc(a.fleet.Statuses(), func(s pos.Status) bool { return s.ID == id })
}

func (a *App) postTerminal(w http.ResponseWriter, r *http.Request) error {
	var t Terminal
	if err := httpapi.DecodeJSON(w, r, &t); err != nil {
		return err
	}
	known := a.hasTerminal(t.TerminalID)
	switch err := a.addTerminal(t); {
	case errors.Is(err, errTerminal):
		return &httpapi.Error{Status: http.StatusBadRequest, Detail: strings.TrimPrefix(err.Error(), errTerminal.Error()+": "), Cause: err}
	case err != nil:
		return &httpapi.Error{
			Status: http.StatusConflict, Detail: "the terminal cannot be changed now: " + err.Error(),
			NextStep: "wait for its transaction to end and try again", Cause: err,
		}
	}
	status := http.StatusCreated
	if known {
		status = http.StatusOK
	}
	for _, s := range a.fleet.Statuses() {
		if s.ID == t.TerminalID {
			httpapi.WriteJSON(w, r, status, s)
			return nil
		}
	}
	return errors.New("the terminal was added and is not there")
}

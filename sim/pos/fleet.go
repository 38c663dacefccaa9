package pos

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/keyward/keyward/sim/psam"
)

// ErrNoTerminal says that a fleet has no terminal of this number.
var ErrNoTerminal = errors.New("no such terminal")

// historySize bounds how many results a fleet keeps per terminal: enough to look back at a demonstration, small enough for
// thousands of terminals.
const historySize = 50

// defaultMerchant and the numbering are the development data of design.md §6.
const (
	defaultMerchant = "104110000000001"
	terminalPrefix  = "1000"
	psamPrefix      = "6000000000000000"
	stateExt        = ".json"
)

// FleetConfig is what a fleet needs. Terminal is the pattern of every terminal: its numbers, card and state file are filled
// in by the fleet.
type FleetConfig struct {
	Store    *psam.Store // the cards
	StateDir string      // one file per terminal; made when missing
	Terminal Config
	Logger   *slog.Logger
}

// Fleet is the terminals of a laptop: each with a card of the store in its slot. It is safe for concurrent use.
type Fleet struct {
	cfg    FleetConfig
	logger *slog.Logger
	mu     sync.Mutex
	all    map[string]*member
	closed chan struct{}
	once   sync.Once
}

// member is a terminal and what people want to see of it without waiting for a running transaction.
type member struct {
	terminal *Terminal
	psam     string
	mu       sync.Mutex
	state    State
	history  []Result // newest last
}

// NewFleet makes a fleet and takes in every terminal that has a state file.
func NewFleet(cfg FleetConfig) (*Fleet, error) {
	if cfg.Store == nil {
		return nil, errors.New("a fleet needs a card store")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	f := &Fleet{cfg: cfg, logger: cfg.Logger.With("component", "pos"), all: map[string]*member{}, closed: make(chan struct{})}
	if err := os.MkdirAll(cfg.StateDir, 0o700); err != nil {
		return nil, fmt.Errorf("terminal state directory: %w", err)
	}
	entries, err := os.ReadDir(cfg.StateDir)
	if err != nil {
		return nil, fmt.Errorf("terminal state directory: %w", err)
	}
	for _, entry := range entries {
		if !strings.HasSuffix(entry.Name(), stateExt) || strings.HasPrefix(entry.Name(), ".") {
			continue
		}
		state, err := readState(filepath.Join(cfg.StateDir, entry.Name()))
		if err != nil {
			return nil, err
		}
		if err := f.Add(state.Terminal, state.Merchant, state.PSAM); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// DefaultBinding is the merchant and the card that belong to a terminal 1000NNNN in the development data: card
// 6000000000000000NNNN.
func DefaultBinding(terminal string) (merchant, psamNo string, err error) {
	number, ok := strings.CutPrefix(terminal, terminalPrefix)
	if !ok || len(number) != 4 || !digitsOnly(number) {
		return "", "", fmt.Errorf("terminal %q is not 1000NNNN and has no default card", terminal)
	}
	return defaultMerchant, psamPrefix + number, nil
}

// Add puts a terminal into the fleet, or changes merchant or card of one. The card may be missing from the store until the
// terminal is used. An empty merchant or psamNo means the default of 1000NNNN.
func (f *Fleet) Add(terminal, merchant, psamNo string) error {
	if merchant == "" || psamNo == "" {
		m, p, err := DefaultBinding(terminal)
		if err != nil {
			return err
		}
		if merchant == "" {
			merchant = m
		}
		if psamNo == "" {
			psamNo = p
		}
	}
	// The number becomes a file name.
	if len(terminal) != 8 || strings.ContainsAny(terminal, `/\.`) {
		return fmt.Errorf("terminal %q: a terminal number has 8 letters or digits", terminal)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if old := f.all[terminal]; old != nil {
		if old.psam == psamNo && old.terminal.cfg.MerchantID == merchant {
			return nil
		}
		ctx, cancel := context.WithTimeout(context.Background(), rebindWait)
		defer cancel()
		if err := old.terminal.retire(ctx); err != nil {
			return fmt.Errorf("change the card of terminal %s: %w", terminal, err)
		}
	}
	cfg := f.cfg.Terminal
	cfg.TerminalID, cfg.MerchantID, cfg.PSAM = terminal, merchant, psamNo
	developmentModel(&cfg)
	cfg.Card = slot{store: f.cfg.Store, psamNo: psamNo}
	cfg.StateFile = filepath.Join(f.cfg.StateDir, terminal+stateExt)
	t, err := New(cfg)
	if err != nil {
		return err
	}
	f.all[terminal] = &member{terminal: t, psam: psamNo, state: t.state.clone()}
	return nil
}

// rebindWait bounds how long a change of card waits for a running transaction.
const rebindWait = 5 * time.Second

// slot is where a card of the store sits. It looks the card up for each command, so that a card that is issued or replaced
// later is used at once.
type slot struct {
	store  *psam.Store
	psamNo string
}

var _ Card = slot{}

// Transmit answers nothing when the slot is empty.
func (s slot) Transmit(apdu []byte) []byte {
	card, err := s.store.Get(s.psamNo)
	if err != nil {
		return nil
	}
	return card.Transmit(apdu)
}

// member finds a terminal. A terminal of the default numbering whose card is in the store joins by itself, so that a freshly
// issued card can be tried at once.
func (f *Fleet) member(terminal string) (*member, error) {
	f.mu.Lock()
	m := f.all[terminal]
	f.mu.Unlock()
	if m != nil {
		return m, nil
	}
	_, psamNo, err := DefaultBinding(terminal)
	if err != nil {
		return nil, fmt.Errorf("%w: %s", ErrNoTerminal, terminal)
	}
	if _, err := f.cfg.Store.Get(psamNo); err != nil {
		return nil, fmt.Errorf("%w: %s, and its card cannot be used: %w", ErrNoTerminal, terminal, err)
	}
	if err := f.Add(terminal, "", ""); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.all[terminal], nil
}

// Commands of a terminal that need no card; kinds.go has the others.
const (
	commandSignOn   = "signon"
	commandSignOff  = "signoff"
	commandEcho     = "echo"
	commandReversal = "reversal"
)

// errNoCommand says that a command does not exist.
var errNoCommand = errors.New("no such command")

// Do runs a command on a terminal. The error is ErrNoTerminal, or names a command that does not exist; everything that
// happens to the command itself is in the result.
func (f *Fleet) Do(ctx context.Context, terminal, command string, sale Sale) (Result, error) {
	m, err := f.member(terminal)
	if err != nil {
		return Result{}, err
	}
	var r Result
	switch t := m.terminal; command {
	case commandSignOn:
		r = t.SignOn(ctx)
	case commandSignOff:
		r = t.SignOff(ctx)
	case commandEcho:
		r = t.Echo(ctx)
	case commandReversal:
		r = t.Reversal(ctx)
	case commandDeliver:
		r = t.Deliver(ctx)
	default:
		if trades[command] == nil && command != commandBalance {
			return Result{}, fmt.Errorf("%w: %q", errNoCommand, command)
		}
		r = t.Trade(ctx, command, sale)
	}
	if _, err := f.cfg.Store.Get(m.psam); err != nil && r.Error != "" {
		r.Error += fmt.Sprintf("; %v: issue it with `issuer card issue --psam %s`", err, m.psam)
	}
	f.note(m, r)
	return r, nil
}

// note keeps a result for the lists.
func (f *Fleet) note(m *member, r Result) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.history = append(m.history, r)
	if len(m.history) > historySize {
		m.history = slices.Delete(m.history, 0, len(m.history)-historySize)
	}
	// A command that never had the terminal to itself knows nothing of its state.
	if r.Batch != "" {
		m.state.SignedOn, m.state.Batch = r.SignedOn, r.Batch
	}
	// A reversal repeats an old trace.
	if r.Trace != "" && r.Command != commandReversal {
		m.state.Trace = atoi(r.Trace)
	}
	f.logger.Debug("terminal command", "terminal", r.Terminal, "command", r.Command, "outcome", string(r.Outcome), "code", r.Code, "trace", r.Trace)
}

func atoi(digits string) int {
	n := 0
	for _, d := range digits {
		n = n*10 + int(d-'0')
	}
	return n
}

// Close hangs up every terminal. Transactions that the control API began are cut short, which leaves them in doubt and
// their reversals noted.
func (f *Fleet) Close(ctx context.Context) error {
	f.once.Do(func() { close(f.closed) })
	f.mu.Lock()
	members := make([]*member, 0, len(f.all))
	for _, m := range f.all {
		members = append(members, m)
	}
	f.mu.Unlock()
	var errs []error
	for _, m := range members {
		errs = append(errs, m.terminal.Close(ctx))
	}
	return errors.Join(errs...)
}

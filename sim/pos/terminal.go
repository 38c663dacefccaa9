// Package pos is the virtual POS terminal: it drives a PSAM, packs and parses the UnionPay dialect with its own code, and
// behaves under failure as a terminal must (answer checks, automatic reversal). A Fleet of terminals serves the control
// API; the commands in poscmd talk to that API.
//
// Source: facts/unionpay.md, section numbers in the comments; docs/psam-sim.md for the card's commands. The package shares
// no codec with the services that it tests. Nothing in a Result, a dump or a state file shows a PIN, a PIN block, a
// track, a key or a whole card number.
package pos

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"
)

// Defaults of a terminal.
const (
	defaultTPDU        = "6000030000"     // 60, destination 0003, source 0000 (facts/unionpay.md §1)
	defaultHeader      = "603100310100"   // magnetic stripe, version 31, normal, no requirement, sub-version 310100
	defaultScheme      = "004"            // double-length keys and track key
	defaultTimeout     = 60 * time.Second // a terminal's wait, the longest of the chain in design.md §3
	defaultDialTimeout = 5 * time.Second
	defaultTMK         = 0x01 // triple DES terminal master key
	defaultSM4TMK      = 0x41 // SM4 terminal master key
)

// Config describes a terminal. TerminalID, MerchantID, POSP and Card are needed, the rest has defaults.
type Config struct {
	TerminalID string // F41, 8 characters
	MerchantID string // F42, 15 characters
	PSAM       string // number of the card, for people
	POSP       string // host:port of the terminal listener
	TLS        TLSLine
	Card       Card

	TPDU   string // 10 digits
	Header string // 12 digits
	// Scheme is 60.3 of the sign-on: 001 single-length keys, 003 double-length, 004 double-length with track key, 005 and 006 SM4.
	Scheme string
	TMKID  byte // id of the terminal master key in the card; 0 means 01, under SM4 41
	// Model is what terminals of one maker do otherwise than others.
	Model Model
	// Capability is 60.4 and following of financial messages, for example "20": magnetic stripe only, IC condition 0. Empty
	// leaves the sub-fields out.
	Capability string
	// Serial is what stands after "Sequence No" in F62 of a sign-on: 4 digits maker and certificate, then the serial. Empty
	// means 3060 and the terminal number.
	Serial   string
	Operator string // 63.1 of a sign-on, 3 characters; empty means 001

	Timeout     time.Duration // wait for an answer
	DialTimeout time.Duration
	// KeepOpen keeps the connection between transactions; without it every message has its own.
	KeepOpen bool
	// ReverseAtOnce sends the reversal of a purchase in doubt straight away; without it, before the next transaction.
	ReverseAtOnce bool
	// PANWithTrack sends F2 beside F35. Captured magnetic stripe messages carry F35 alone.
	PANWithTrack bool
	// StateFile keeps trace, batch and pending reversal over a restart; empty keeps them in memory.
	StateFile string
	Now       func() time.Time
}

// Terminal is one POS terminal. It is safe for concurrent use and works on one transaction at a time.
type Terminal struct {
	cfg    Config
	reader reader
	slot   chan struct{} // holds one token; whoever has it works
	state  State
	conn   net.Conn
	// retired is set when the fleet has put another terminal of this number in its place.
	retired bool
}

// New makes a terminal and loads its state when there is a state file.
func New(cfg Config) (*Terminal, error) {
	withDefaults(&cfg)
	switch {
	case len(cfg.TerminalID) != 8:
		return nil, fmt.Errorf("terminal %q: a terminal number has 8 characters", cfg.TerminalID)
	case len(cfg.MerchantID) != 15:
		return nil, fmt.Errorf("terminal %s: a merchant number has 15 characters", cfg.TerminalID)
	case cfg.Card == nil:
		return nil, fmt.Errorf("terminal %s: no card", cfg.TerminalID)
	case !knownScheme(cfg.Scheme):
		return nil, fmt.Errorf("terminal %s: sign-on scheme %q is not 001, 003, 004, 005 or 006", cfg.TerminalID, cfg.Scheme)
	}
	if err := cfg.Model.check(); err != nil {
		return nil, fmt.Errorf("terminal %s: %w", cfg.TerminalID, err)
	}
	if _, err := (packet{tpdu: cfg.TPDU, header: cfg.Header}).prefix(); err != nil {
		return nil, fmt.Errorf("terminal %s: %w", cfg.TerminalID, err)
	}
	t := &Terminal{cfg: cfg, reader: reader{card: cfg.Card, model: cfg.Model}, slot: make(chan struct{}, 1)}
	state, err := loadState(cfg)
	if err != nil {
		return nil, err
	}
	t.state = state
	t.slot <- struct{}{}
	return t, nil
}

func withDefaults(cfg *Config) {
	for _, d := range []struct {
		field *string
		value string
	}{
		{&cfg.TPDU, defaultTPDU}, {&cfg.Header, defaultHeader}, {&cfg.Scheme, defaultScheme},
		{&cfg.Operator, "001"}, {&cfg.Serial, "3060" + cfg.TerminalID},
	} {
		if *d.field == "" {
			*d.field = d.value
		}
	}
	if cfg.TMKID == 0 {
		cfg.TMKID = defaultTMK
		if isSM4(cfg.Scheme) {
			cfg.TMKID = defaultSM4TMK
		}
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = defaultTimeout
	}
	if cfg.DialTimeout <= 0 {
		cfg.DialTimeout = defaultDialTimeout
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
}

// acquire waits for the terminal to be free.
func (t *Terminal) acquire(ctx context.Context) error {
	select {
	case <-t.slot:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("terminal %s is busy: %w", t.cfg.TerminalID, context.Cause(ctx))
	}
}

// run does one command with the terminal to itself and fills in what every result has.
func (t *Terminal) run(ctx context.Context, command string, work func(context.Context, *Result)) Result {
	start := t.cfg.Now()
	r := Result{Terminal: t.cfg.TerminalID, Command: command, Time: start.UTC(), Outcome: OutcomeFailed}
	if err := t.acquire(ctx); err != nil {
		r.Error = err.Error()
		return r
	}
	defer func() { t.slot <- struct{}{} }()
	if t.retired {
		r.Error = "the card of this terminal has just been changed: try again"
		return r
	}
	work(ctx, &r)
	if err := t.save(); err != nil {
		r.fail(err)
	}
	if !t.cfg.KeepOpen || r.Outcome == OutcomeInDoubt {
		t.hangUp()
	}
	r.Batch, r.SignedOn, r.PendingReversal, r.Stored = t.state.Batch, t.state.SignedOn, t.state.Pending != nil, len(t.state.Stored)
	r.DurationMS = t.cfg.Now().Sub(start).Milliseconds()
	return r
}

// Close hangs up, waiting for a running transaction until ctx ends.
func (t *Terminal) Close(ctx context.Context) error {
	if err := t.acquire(ctx); err != nil {
		return err
	}
	defer func() { t.slot <- struct{}{} }()
	t.hangUp()
	return nil
}

// retire hangs up for good: two terminals of one number must not write one state file.
func (t *Terminal) retire(ctx context.Context) error {
	if err := t.acquire(ctx); err != nil {
		return err
	}
	defer func() { t.slot <- struct{}{} }()
	t.hangUp()
	t.retired = true
	return nil
}

// Snapshot is the terminal's state at rest; it waits for a running transaction.
func (t *Terminal) Snapshot(ctx context.Context) (State, error) {
	if err := t.acquire(ctx); err != nil {
		return State{}, err
	}
	defer func() { t.slot <- struct{}{} }()
	return t.state.clone(), nil
}

// nextTrace counts 000001 to 999999 and saves the number before it is used, so that no trace is used twice.
func (t *Terminal) nextTrace() (string, error) {
	t.state.Trace++
	if t.state.Trace > 999999 {
		t.state.Trace = 1
	}
	return fmt.Sprintf("%06d", t.state.Trace), t.save()
}

// message begins a message with what all have.
func (t *Terminal) message(mti string) packet {
	p := newPacket(mti)
	p.tpdu, p.header = t.cfg.TPDU, t.cfg.Header
	p.fields[41], p.fields[42] = t.cfg.TerminalID, t.cfg.MerchantID
	return p
}

var errNotSignedOn = errors.New("the terminal is not signed on: run `pos signon` first")

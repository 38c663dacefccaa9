package hsm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	defaultMaxConnections = 64      // What old devices accept (facts/hsm.md §1.1).
	defaultHistory        = 1000    // Enough to look at what just happened; about 150 KB.
	maxHistory            = 100_000 // Bounds a configured size; about 15 MB.
	maxMessage            = 32_768  // The buffer size that NO reports.
	defaultFirmware       = "0001-0900"
	firmwareLength        = 9
	defaultSerial         = "SIM000000001"
	serialLength          = 12
	defaultRated          = 2500 // Commands per second of the largest licence (facts/hsm.md §7).

	// The Chinese set (facts/hsm.md §1.7.3).
	maxMessageSJJ   = 6*1024 + 128
	defaultVersion  = "SJJ1310 SIM V1.48 000001"
	versionLength   = 24
	lengthRuleAll   = "all"
	lengthRulePlain = "payload"
)

// Port is one listener of a device with its own list of commands.
type Port struct {
	Name  string   // For Addr and the history, for example "online".
	Addr  string   // host:port; port 0 takes a free one.
	Allow []string // Entries "M2" or "M2/30B" (docs/hsm-sim.md §4).
}

// Config says what a device is. Only Ports is required.
type Config struct {
	Ports        []Port
	LMKSeed      string // Of the variant LMK, id 00. Empty: the public test LMK; else another LMK made from the text.
	BlockLMKSeed string // The same for the key-block LMK, id 01.
	DefaultLMK   string // Id that a command without %id means: 00 ("") or 01.
	// OldLMKs says by id which old LMK is in the key-change storage: none, 00, 01, test-old, seed:TEXT or keyblock:TEXT. Not
	// named: none for 00, 00 for 01.
	OldLMKs        map[string]string
	Set            string       // Command set: payshield ("") or sjj1310, which has no key-block LMK.
	Serial         string       // Up to twelve characters, for JK and the NC of sjj1310; "" = SIM000000001.
	HeaderLength   *int         // Bytes that are echoed, 0 to 255; nil = 4.
	LengthRule     string       // What the length field counts: all ("") or payload, without the header.
	LegacyTypes    bool         // Key type 002 serves as TPK and TMK, as published vectors need.
	IgnoreParity   bool         // DES keys without odd parity are accepted.
	MaxConnections int          // 0 = 64.
	RatedPerSecond int          // What the load histogram J2 takes as full load; 0 = 2500.
	HistorySize    int          // Entries kept; 0 = 1000.
	Firmware       string       // Nine characters, in the set sjj1310 up to 24; "" = a value of ours.
	Faults         Faults       // At start.
	Logger         *slog.Logger // nil = silent.
}

// Device is a simulated HSM. Make it with New, then Start; Stop ends it for good. All methods may be called at any time
// from any goroutine.
type Device struct {
	cfg      Config
	settings settings
	base     *lmkSet // The LMKs without the fault lmk_seed.
	storage  *storage
	stats    *stats
	log      *slog.Logger
	hold     *holder
	history  *history
	count    counters
	pace     pacer
	now      atomic.Pointer[condition]

	mu      sync.Mutex // Guards what follows, and orders changes of faults.
	state   lifeState
	ports   []*port
	conns   map[*conn]struct{}
	nextID  uint64
	running sync.WaitGroup
}

// lifeState is where a device is in its life.
type lifeState int

const (
	stateNew lifeState = iota
	stateRunning
	stateStopped
)

// New checks the configuration. It opens nothing.
func New(cfg Config) (*Device, error) {
	if len(cfg.Ports) == 0 {
		return nil, errors.New("hsm simulator: no port configured: name at least one listener")
	}
	if cfg.MaxConnections == 0 {
		cfg.MaxConnections = defaultMaxConnections
	}
	if cfg.HistorySize == 0 {
		cfg.HistorySize = defaultHistory
	}
	if cfg.MaxConnections < 0 || cfg.HistorySize < 0 || cfg.HistorySize > maxHistory {
		return nil, fmt.Errorf("hsm simulator: connections or history size out of range (history at most %d)", maxHistory)
	}
	set, err := settingsOf(cfg)
	if err != nil {
		return nil, err
	}
	if err := cfg.Faults.check(); err != nil {
		return nil, err
	}
	base, err := newLMKSet(cfg.LMKSeed, cfg.BlockLMKSeed, !set.chinese, cfg.OldLMKs)
	if err != nil {
		return nil, err
	}
	d := &Device{
		cfg: cfg, settings: set, base: base, storage: newStorage(), stats: newStats(set.ratedCPS, time.Now()), log: cfg.Logger,
		hold: newHolder(), history: newHistory(cfg.HistorySize), conns: map[*conn]struct{}{},
	}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	names := map[string]bool{}
	for _, p := range cfg.Ports {
		allow, err := parseAllow(p.Allow)
		if err != nil {
			return nil, fmt.Errorf("hsm simulator: port %q: %w", p.Name, err)
		}
		if p.Name == "" || names[p.Name] {
			return nil, fmt.Errorf("hsm simulator: port name %q is empty or used twice", p.Name)
		}
		names[p.Name] = true
		d.ports = append(d.ports, &port{name: p.Name, addr: p.Addr, allow: allow})
	}
	d.now.Store(d.conditionOf(cfg.Faults))
	return d, nil
}

// conditionOf builds the view that connections use.
func (d *Device) conditionOf(f Faults) *condition {
	c := &condition{Faults: f.clone(), lmks: d.base, replaced: make(chan struct{})}
	if f.LMKSeed != "" {
		// The same configuration made the LMKs of the healthy device, so it cannot fail here.
		c.lmks, _ = newLMKSet(f.LMKSeed, f.LMKSeed, !d.settings.chinese, d.cfg.OldLMKs)
	}
	return c
}

// Start opens the listeners. With an error none stays open. ctx bounds the opening only.
func (d *Device) Start(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.state != stateNew {
		return errors.New("hsm simulator: started or stopped before: make a new device")
	}
	if err := d.openPorts(ctx); err != nil {
		return err
	}
	if d.now.Load().Refuse {
		d.closePorts() // The ports are known now, so clearing the fault opens the same ones.
	}
	d.state = stateRunning
	d.log.InfoContext(ctx, "hsm simulator started", "ports", len(d.ports))
	return nil
}

// Stop closes everything and waits for all goroutines until ctx ends. A second call does nothing.
func (d *Device) Stop(ctx context.Context) error {
	d.mu.Lock()
	d.state = stateStopped
	d.closePorts()
	d.closeConns(false)
	d.mu.Unlock()
	done := make(chan struct{})
	go func() { d.running.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("hsm simulator: connections did not end in time: %w", ctx.Err())
	}
}

// Addr is the address of a port, with the port number that was taken; nil before Start or for an unknown name.
func (d *Device) Addr(portName string) net.Addr {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, p := range d.ports {
		if p.name == portName {
			return p.bound
		}
	}
	return nil
}

// SetFaults replaces all faults at once. It errs on a setting that makes no sense, and when a port cannot be opened again
// after Refuse; then the old faults stay.
func (d *Device) SetFaults(f Faults) error {
	if err := f.check(); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	was := d.now.Load()
	if d.state == stateRunning && was.Refuse && !f.Refuse {
		if err := d.openPorts(context.Background()); err != nil {
			return err
		}
	}
	next := d.conditionOf(f)
	if was.LMKSeed == f.LMKSeed {
		next.lmks = was.lmks // Keeps the cache of opened keys.
	}
	d.now.Store(next)
	close(was.replaced)
	d.pace.reset()
	d.hold.releaseOthers(f.Hold)
	if f.Refuse && !was.Refuse {
		d.closePorts()
		d.closeConns(f.Reset)
	}
	d.log.Info("hsm simulator faults changed")
	return nil
}

// Faults returns what is set now.
func (d *Device) Faults() Faults { return d.now.Load().Faults.clone() }

// History returns at most limit entries, the newest first.
func (d *Device) History(limit int) []Entry { return d.history.newest(limit) }

// Counters returns the totals.
func (d *Device) Counters() Counters {
	return Counters{
		ConnectionsOpen: d.count.open.Load(), Accepted: d.count.accepted.Load(), Refused: d.count.refused.Load(), Requests: d.count.requests.Load(),
		Answers: d.count.answers.Load(), Dropped: d.count.dropped.Load(), Held: int64(d.hold.count()), BadFrames: d.count.badFrames.Load(),
		Stored: int64(d.storage.count()),
	}
}

// Release sends the withheld answers of a command and returns how many there were. Later answers of a command that is
// still in Faults.Hold are withheld again.
func (d *Device) Release(code string) int { return d.hold.release(code) }

// WaitHeld returns when at least one answer of the command is withheld, or with the error of ctx.
func (d *Device) WaitHeld(ctx context.Context, code string) error {
	if err := d.hold.wait(ctx, code); err != nil {
		return fmt.Errorf("hsm simulator: no %s answer was withheld: %w", code, err)
	}
	return nil
}

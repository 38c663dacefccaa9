// Package control runs all simulators in one process: HSMs, the bank, the tray of PSAM cards and the POS terminals. Its HTTP API lets
// a person or a test look at them, break them and mend them.
//
// docs/simulators.md is the guide, openapi.json the reference. The API has no access control and serves loopback callers: it is a
// workbench, not a service. Nothing that it answers shows a key, a PIN, a track or a whole card number.
package control

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/keyward/keyward/internal/httpapi"
	"github.com/keyward/keyward/internal/service"
	"github.com/keyward/keyward/sim/bank"
	"github.com/keyward/keyward/sim/hsm"
	"github.com/keyward/keyward/sim/pos"
	"github.com/keyward/keyward/sim/psam"
)

const (
	// stopTime bounds the stop of every part but the traffic.
	stopTime = 3 * time.Second
	// trafficStop is longer than the grace that the generator gives to running transactions (3 s).
	trafficStop = 5 * time.Second
)

// App is one process full of simulators. Use it once: New, Start, Stop.
type App struct {
	cfg      Config
	log      *slog.Logger
	life     *service.Lifecycle
	ready    service.Ready
	devices  []*device
	bank     *bank.Bank
	cards    *tray
	fleet    *pos.Fleet
	traffic  traffic
	adding   sync.Mutex // one new terminal at a time, because a state file goes before it
	server   *httpapi.Server
	stopping chan struct{} // closed by Stop: ends what waits
	stopOnce sync.Once
}

// New builds the simulators and reads their state; nothing listens before Start. The configuration is checked again here, so that
// one which did not come from a file is as safe. log may be nil.
func New(cfg Config, log *slog.Logger) (*App, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("simulators: %w", err)
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	a := &App{cfg: cfg, log: log, life: service.NewLifecycle(log), stopping: make(chan struct{})}
	for _, h := range cfg.HSMs {
		d, err := newDevice(h, log)
		if err != nil {
			return nil, fmt.Errorf("simulators: hsm %s: %w", h.Name, err)
		}
		a.devices = append(a.devices, d)
	}
	if err := a.newBank(); err != nil {
		return nil, fmt.Errorf("simulators: %w", err)
	}
	transport, err := cfg.TransportKey.bytes()
	if err != nil {
		return nil, fmt.Errorf("simulators: transport_key: %w", err)
	}
	store, err := psam.OpenStore(cfg.Cards.Dir, transport)
	if err != nil {
		return nil, fmt.Errorf("simulators: %w", err)
	}
	a.cards = newTray(store, cfg.Cards.Refill)
	a.fleet, err = pos.NewFleet(pos.FleetConfig{
		Store: store, StateDir: cfg.Terminals.StateDir, Terminal: pos.Config{POSP: cfg.Terminals.POSP, TLS: pos.TLSLine(cfg.Terminals.TLS)}, Logger: log,
	})
	if err != nil {
		return nil, fmt.Errorf("simulators: %w", err)
	}
	for _, t := range cfg.Terminals.List {
		if err := a.addTerminal(t); err != nil {
			return nil, fmt.Errorf("simulators: terminals.list: %w", err)
		}
	}
	a.traffic.fleet, a.traffic.generator.Fleet = a.fleet, a.fleet
	router, err := a.routes()
	if err != nil {
		return nil, fmt.Errorf("simulators: %w", err)
	}
	a.server, err = httpapi.NewServer(httpapi.ServerConfig{Name: "simulators' control API", Addr: cfg.Listen, Handler: router, Log: log})
	return a, err
}

func (a *App) newBank() error {
	zpk, err := a.cfg.Bank.ZPK.bytes()
	if err != nil {
		return fmt.Errorf("bank.zpk: %w", err)
	}
	zak, err := a.cfg.Bank.ZAK.bytes()
	if err != nil {
		return fmt.Errorf("bank.zak: %w", err)
	}
	a.bank, err = bank.New(bank.Config{
		Addr: a.cfg.Bank.Addr, ZPK: zpk, ZAK: zak, IssuerCode: a.cfg.Bank.IssuerCode, StateFile: a.cfg.Bank.StateFile, Log: a.log,
	})
	return err
}

// Start opens all listeners, the control API last: whoever finds it ready finds everything ready. After an error call Stop.
func (a *App) Start(ctx context.Context) error {
	for _, d := range a.devices {
		if err := d.sim.Start(ctx); err != nil {
			return fmt.Errorf("simulators: hsm %s: %w", d.cfg.Name, err)
		}
		a.life.Add("hsm "+d.cfg.Name, stopTime, d.sim.Stop)
	}
	if err := a.bank.Start(ctx); err != nil {
		return fmt.Errorf("simulators: %w", err)
	}
	a.life.Add("bank", stopTime, a.bank.Stop)
	if err := a.server.Start(ctx); err != nil {
		return err
	}
	a.life.Add("control API", stopTime, a.server.Stop)
	a.life.Go("control API watch", stopTime, a.server.Wait)
	// Stopped before the API, so that requests that wait for a transaction end in time.
	a.life.Add("terminals", stopTime, a.fleet.Close)
	a.life.Add("traffic", trafficStop, func(context.Context) error { a.traffic.stop(); return nil })
	if a.cfg.Traffic.RatePerSecond > 0 {
		if err := a.traffic.start(a.cfg.Traffic); err != nil {
			return fmt.Errorf("simulators: traffic: %w", err)
		}
	}
	return nil
}

// Wait returns nil when ctx ends, or the error of a part that ended by itself.
func (a *App) Wait(ctx context.Context) error { return a.life.Wait(ctx) }

// Stop ends everything in reverse order and saves the bank's book. It may be called after a failed Start and more than once.
func (a *App) Stop(ctx context.Context) error {
	a.ready.Drain()
	a.stopOnce.Do(func() { close(a.stopping) })
	return a.life.Stop(ctx)
}

// Addr is the address of the control API with the port that was taken; nil before Start.
func (a *App) Addr() net.Addr { return a.server.Addr() }

// BankAddr is the bank's address with the port that was taken.
func (a *App) BankAddr() string { return a.bank.Addr() }

// HSMAddr is the address of a device's port, named as in the configuration; nil before Start and for an unknown one.
func (a *App) HSMAddr(device, port string) net.Addr {
	d, err := a.device(device)
	if err != nil {
		return nil
	}
	return d.sim.Addr(port)
}

// device is one simulated HSM with its configuration.
type device struct {
	cfg     HSM
	natural hsm.Faults // how the device is when nobody has broken it
	sim     *hsm.Device
	change  sync.Mutex // one change of faults at a time: break adds to what is set
}

func newDevice(cfg HSM, log *slog.Logger) (*device, error) {
	natural := hsm.Faults{LatencyMS: cfg.LatencyMS, JitterMS: cfg.JitterMS, CommandsPerSecond: cfg.CommandsPerSecond}
	out := hsm.Config{
		Set: cfg.Set, Serial: cfg.Serial, Firmware: cfg.Firmware, LMKSeed: cfg.LMKSeed, BlockLMKSeed: cfg.BlockLMKSeed, DefaultLMK: cfg.DefaultLMK,
		OldLMKs: cfg.OldLMKs, HeaderLength: cfg.HeaderLength, LengthRule: cfg.LengthRule,
		MaxConnections: cfg.MaxConnections, HistorySize: cfg.HistorySize, RatedPerSecond: cmp.Or(cfg.RatedPerSecond, cfg.CommandsPerSecond),
		Faults: natural, Logger: log.With("hsm", cfg.Name),
	}
	cfg.Ports = slices.Clone(cfg.Ports) // the caller's stay as they are
	for i, p := range cfg.Ports {
		if p.Name == "" {
			cfg.Ports[i].Name = p.Group
		}
		commands := groups[p.Group]
		if commands == nil {
			return nil, errors.New("unknown group of commands")
		}
		out.Ports = append(out.Ports, hsm.Port{Name: cfg.Ports[i].Name, Addr: p.Addr, Allow: commands()})
	}
	sim, err := hsm.New(out)
	if err != nil {
		return nil, err
	}
	return &device{cfg: cfg, natural: natural, sim: sim}, nil
}

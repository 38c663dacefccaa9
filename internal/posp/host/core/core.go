// Package core is the bank's core system as a downstream host: one signed-on connection in the dialect of docs/dialect-core.md,
// on which transactions and reversals are exchanged.
//
// What decides about money is the outcome of an exchange. It is NotSent only when no byte has left us, Answered only when an
// answer came in time that is whole, carries the right MAC and speaks of the very request that was sent, and Unknown in
// every other case. MACs are made and verified in the HSM.
package core

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/internal/link"
	"github.com/keyward/keyward/internal/posp/host"
	"github.com/keyward/keyward/iso/core"
)

// HSM is what this host needs of the hardware.
type HSM interface{ command.MACer }

// Host is one core bank. Use it once: New, Start, Stop.
type Host struct {
	cfg     Config
	hsm     HSM
	log     *slog.Logger
	metrics *metrics
	client  *link.Client[key]
	codes   map[string]string // what a terminal is told for each of the bank's
	trace   atomic.Uint32     // of our own 0800s

	mu      sync.Mutex
	stopped bool
	busy    int           // exchanges under way
	idle    chan struct{} // closed when stopped and busy is 0
}

var _ host.Host = (*Host)(nil)

// errStopped is why nothing is sent after Stop.
var errStopped = errors.New("stopped")

// New checks the configuration. Nothing is connected before Start.
func New(cfg Config, hsm HSM) (*Host, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	if hsm == nil {
		return nil, fmt.Errorf("host %s: no HSM given", cfg.Name)
	}
	m, err := newMetrics(cfg.Registerer, cfg.Name)
	if err != nil {
		return nil, fmt.Errorf("host %s: %w", cfg.Name, err)
	}
	codes, err := codesOf(cfg.Codes)
	if err != nil {
		m.unregister()
		return nil, fmt.Errorf("host %s: %w", cfg.Name, err)
	}
	h := &Host{cfg: cfg, hsm: hsm, codes: codes, log: cfg.Log.With("component", "host", "host", cfg.Name), metrics: m, idle: make(chan struct{})}
	h.client, err = link.NewClient(link.ClientConfig[key]{
		Name: cfg.Name, Addr: cfg.Addr, MaxFrame: core.MaxFrame, Key: keyOfFrame,
		// The key holds trace and retrieval reference, which are derived from the terminal's request: the same key always means
		// the same request, so an answer to an earlier try of a reversal may end a later one.
		RepeatKeys: true,
		OnConnect:  func(ctx context.Context, s *link.Session[key]) error { return h.signOn(ctx, s) },
		OnState:    func(connected bool, _ error) { m.setConnected(connected) },
		OnStray:    h.stray,
		KeepAlive: link.KeepAlive[key]{
			Every: cfg.EchoEvery, Timeout: cfg.EchoTimeout,
			Ask: func(ctx context.Context, s *link.Session[key]) error { return h.echo(ctx, s) },
		},
		Backoff:        link.Backoff{Min: cfg.BackoffMin, Max: cfg.BackoffMax},
		ConnectTimeout: cfg.ConnectTimeout, Log: cfg.Log, Registerer: cfg.Registerer,
	})
	if err != nil {
		m.unregister()
		return nil, err
	}
	return h, nil
}

// Start begins to connect in the background and returns at once; Ready tells when the bank can be used.
func (h *Host) Start(ctx context.Context) error { return h.client.Start(ctx) }

// Stop refuses new exchanges, waits until ctx ends for those under way, signs off if connected, and closes the connection. It may
// be called before Start and more than once.
func (h *Host) Stop(ctx context.Context) error {
	defer h.metrics.unregister()
	h.mu.Lock()
	first := !h.stopped
	h.stopped = true
	if first && h.busy == 0 {
		close(h.idle)
	}
	h.mu.Unlock()
	if first {
		select {
		case <-h.idle:
			h.signOff(ctx)
		case <-ctx.Done(): // the link ends them as unknown
		}
	}
	return h.client.Stop(ctx)
}

// Name implements host.Host.
func (h *Host) Name() string { return h.cfg.Name }

// Zone implements host.Host.
func (h *Host) Zone() host.Zone {
	return host.Zone{PIN: h.cfg.ZPK, Twins: h.cfg.ZPKTwins, Format: h.cfg.PINFormat}
}

// Ready implements host.Host: nil when connected and signed on.
func (h *Host) Ready() error {
	h.mu.Lock()
	stopped := h.stopped
	h.mu.Unlock()
	if stopped {
		return fmt.Errorf("host %s: %w", h.cfg.Name, errStopped)
	}
	if h.client.Connected() {
		return nil
	}
	now, cancel := context.WithCancel(context.Background())
	cancel() // does not wait: only the reason is asked for
	return h.client.Wait(now)
}

// enter counts an exchange that begins; leave ends it. No exchange begins after Stop.
func (h *Host) enter() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.stopped {
		return errStopped
	}
	h.busy++
	return nil
}

func (h *Host) leave() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.busy--
	if h.stopped && h.busy == 0 {
		close(h.idle)
	}
}

// stray counts and logs an answer that came too late, or twice, or that belongs to nothing we sent. It is never used.
func (h *Host) stray(frame []byte) {
	h.metrics.strays.Inc()
	mti := "unreadable"
	if m, err := codec.Decode(frame); err == nil {
		mti = m.MTI()
	}
	h.log.Warn("answer belongs to no waiting request, not used", "mti", mti)
}

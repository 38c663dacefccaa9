// Package pool makes one downstream of several lines to it (P10): primary lines are used in turn, secondary ones while no primary is ready,
// and what is under way at once is bounded. A transaction changes to another line only when not a byte of it has left us.
package pool

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyward/keyward/internal/posp/host"
	"github.com/keyward/keyward/internal/txn"
)

// DefaultInFlight bounds the exchanges under way where the configuration gives no bound: what two lines carry (256 each). A bank that
// has not answered that many is in trouble, and more would only wait until their terminals hang up.
const DefaultInFlight = 512

// Line is one connection to the downstream, with a life of its own: a host.Host of some dialect. Back-off and jitter of a lost one are its own.
type Line interface {
	host.Host
	Start(ctx context.Context) error
	Stop(ctx context.Context) error
}

// Config says what belongs to a pool. Name and at least one primary line are required. All lines lead to the same books and have the same
// zone keys.
type Config struct {
	Name               string
	Primary, Secondary []Line
	// MaxInFlight bounds the exchanges under way (0: DefaultInFlight). Reversals are not counted: they must get through.
	MaxInFlight int
	Registerer  prometheus.Registerer // nil: none
}

// Pool is safe for concurrent use. Use it once: New, Start, Stop.
type Pool struct {
	cfg      Config
	next     atomic.Uint64
	inFlight atomic.Int64
	refused  prometheus.Counter
	list     []prometheus.Collector
	reg      prometheus.Registerer
}

var _ host.Host = (*Pool)(nil)

// New checks the configuration; nothing is connected before Start.
func New(cfg Config) (*Pool, error) {
	switch {
	case cfg.Name == "":
		return nil, errors.New("host pool: name is missing")
	case len(cfg.Primary) == 0:
		return nil, fmt.Errorf("host %s: it has no primary line", cfg.Name)
	case cfg.MaxInFlight < 0:
		return nil, fmt.Errorf("host %s: the bound of exchanges under way is below zero", cfg.Name)
	case cfg.MaxInFlight == 0:
		cfg.MaxInFlight = DefaultInFlight
	}
	p := &Pool{cfg: cfg}
	return p, p.register()
}

func (p *Pool) register() error {
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value)
	}
	p.refused = prometheus.NewCounter(prometheus.CounterOpts{Name: "keyward_host_full_total", Help: "Exchanges refused because too many were under way."})
	if p.cfg.Registerer == nil {
		return nil
	}
	p.reg = prometheus.WrapRegistererWith(prometheus.Labels{"host": p.cfg.Name}, p.cfg.Registerer)
	for _, c := range []prometheus.Collector{
		p.refused,
		gauge("keyward_host_in_flight", "Exchanges under way, reversals left out.", func() float64 { return float64(p.inFlight.Load()) }),
		gauge("keyward_host_primary_lines_ready", "Primary lines that are connected and signed on.", func() float64 { return float64(len(ready(p.cfg.Primary))) }),
		gauge("keyward_host_secondary_lines_ready", "Secondary lines that are connected and signed on.", func() float64 { return float64(len(ready(p.cfg.Secondary))) }),
	} {
		if err := p.reg.Register(c); err != nil {
			p.unregister()
			return fmt.Errorf("host %s: metrics (is the name used twice?): %w", p.cfg.Name, err)
		}
		p.list = append(p.list, c)
	}
	return nil
}

func (p *Pool) unregister() {
	for _, c := range p.list {
		p.reg.Unregister(c)
	}
}

// lines are all, primary ones first.
func (p *Pool) lines() []Line {
	return append(append([]Line{}, p.cfg.Primary...), p.cfg.Secondary...)
}

// Start begins to connect every line in the background. When one cannot begin, those before it are stopped.
func (p *Pool) Start(ctx context.Context) error {
	for i, l := range p.lines() {
		if err := l.Start(ctx); err != nil {
			for _, begun := range p.lines()[:i] {
				err = errors.Join(err, begun.Stop(ctx))
			}
			p.unregister()
			return err
		}
	}
	return nil
}

// Stop stops all lines at once, each within ctx.
func (p *Pool) Stop(ctx context.Context) error {
	defer p.unregister()
	lines := p.lines()
	ended := make(chan error, len(lines))
	for _, l := range lines {
		go func() { ended <- l.Stop(ctx) }()
	}
	var errs []error
	for range lines {
		errs = append(errs, <-ended)
	}
	return errors.Join(errs...)
}

// Name implements host.Host.
func (p *Pool) Name() string { return p.cfg.Name }

// Zone implements host.Host: that of every line.
func (p *Pool) Zone() host.Zone { return p.cfg.Primary[0].Zone() }

// Ready implements host.Host: nil while one line is ready; else the reason of the first.
func (p *Pool) Ready() error {
	var first error
	for _, l := range p.lines() {
		err := l.Ready()
		if err == nil {
			return nil
		}
		if first == nil {
			first = err
		}
	}
	return first
}

func ready(lines []Line) []Line {
	var out []Line
	for _, l := range lines {
		if l.Ready() == nil {
			out = append(out, l)
		}
	}
	return out
}

// order is in which order lines are tried: ready primary ones, beginning with the next in turn, then ready secondary ones likewise.
func (p *Pool) order() []Line {
	turn := p.next.Add(1) - 1
	var out []Line
	for _, group := range [][]Line{ready(p.cfg.Primary), ready(p.cfg.Secondary)} {
		for i := range group {
			out = append(out, group[(turn+uint64(i))%uint64(len(group))])
		}
	}
	return out
}

// Exchange implements host.Host.
func (p *Pool) Exchange(ctx context.Context, req host.Request) host.Result {
	defer p.inFlight.Add(-1)
	if p.inFlight.Add(1) > int64(p.cfg.MaxInFlight) {
		p.refused.Inc()
		return host.Result{Outcome: txn.NotSent, Err: fmt.Errorf("host %s: %d exchanges are under way, no more are allowed", p.cfg.Name, p.cfg.MaxInFlight)}
	}
	return p.try(ctx, func(l Line) host.Result { return l.Exchange(ctx, req) })
}

// Reverse implements host.Host.
func (p *Pool) Reverse(ctx context.Context, rev host.Reversal) host.Result {
	return p.try(ctx, func(l Line) host.Result { return l.Reverse(ctx, rev) })
}

// try goes on to the next line only when nothing was sent, because the line ended: a fault of the message, or of the HSM, would be the same on
// every line.
func (p *Pool) try(ctx context.Context, do func(Line) host.Result) host.Result {
	var result host.Result
	lines := p.order()
	if len(lines) == 0 {
		return host.Result{Outcome: txn.NotSent, Err: p.Ready()}
	}
	for _, l := range lines {
		result = do(l)
		if result.Outcome != txn.NotSent || ctx.Err() != nil || l.Ready() == nil {
			return result
		}
	}
	return result
}

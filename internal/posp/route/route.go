// Package route chooses the host of a transaction by rules that are data (row P10): first digits of the card, kind, amount, merchant,
// time and a share for trials. A Table decides as a pure function and can say why. A Book keeps the versions of the rules, which all
// instances share through PostgreSQL: a change is in force everywhere at once, and what is in force stays so while the database is away.
package route

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
)

const (
	// channel is the name that the trigger of route_versions notifies.
	channel = "keyward_route"
	// queryTimeout bounds one statement.
	queryTimeout = 5 * time.Second
	// depth is how many versions a start looks back for one that this instance can follow.
	depth = 50
	// MaxPage bounds a page of versions.
	MaxPage = 500
)

// ErrAway says that the database could not be asked. The rules in force stay in force.
var ErrAway = errors.New("the database is away")

// Refusal is a change that is not made; Next is what to do instead. Conflict tells that somebody else was faster.
type Refusal struct {
	Conflict   bool
	Text, Next string
}

// Error implements error.
func (r *Refusal) Error() string { return r.Text }

// Config says whose book it is. Pool, Instance and Hosts are required.
type Config struct {
	Pool       *pgxpool.Pool // of the service's role; it stays the caller's
	Instance   string        // stable name of this instance
	Hosts      []string      // names of the configured hosts, in their order: the default
	Log        *slog.Logger
	Registerer prometheus.Registerer
	Now        func() time.Time // nil: time.Now
}

// Version is one version of the rules.
type Version struct {
	Version  int64     `json:"version"` // from 1
	Document string    `json:"document"`
	Restores *int64    `json:"restores,omitempty"` // the version that an undo brought back
	SavedBy  string    `json:"saved_by"`
	Instance string    `json:"instance"`
	Reason   string    `json:"reason,omitempty"`
	SavedAt  time.Time `json:"saved_at"`
}

// Status is what an operator sees of the rules of this instance.
type Status struct {
	Instance string   `json:"instance"`
	Hosts    []string `json:"hosts"`    // of the configuration, in their order
	Version  Version  `json:"in_force"` // number 0: no rules were ever saved, the hosts of the configuration in their order
	Stored   int64    `json:"stored"`   // newest version in the database, as far as is known here
	// DatabaseAway says that newer versions cannot be seen or made at present.
	DatabaseAway bool      `json:"database_away"`
	CheckedAt    time.Time `json:"checked_at"`
	Problem      string    `json:"problem,omitempty"` // why the newest version is not in force here
}

// Book is safe for concurrent use. Use it once: New, Start, Stop.
type Book struct {
	cfg     Config
	metrics *metrics
	table   atomic.Pointer[Table] // in force
	cancel  context.CancelFunc
	done    sync.WaitGroup
	// changing is held while a version is looked at, saved or brought into force; waiting for it ends with ctx.
	changing chan struct{}

	mu     sync.Mutex
	status Status
}

// New prepares a book; the default is in force until Start.
func New(cfg Config) (*Book, error) {
	if cfg.Pool == nil || cfg.Instance == "" || len(cfg.Hosts) == 0 {
		return nil, errors.New("routing: pool, instance and hosts are needed")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	cfg.Log = cfg.Log.With("component", "routing")
	m, err := newMetrics(cfg.Registerer)
	if err != nil {
		return nil, err
	}
	b := &Book{cfg: cfg, metrics: m, changing: make(chan struct{}, 1), status: Status{Instance: cfg.Instance, Hosts: cfg.Hosts}}
	b.table.Store(&Table{fallback: cfg.Hosts})
	return b, nil
}

// Start brings the newest version into force that this instance can follow, and goes on following.
func (b *Book) Start(ctx context.Context) error {
	list, err := b.Versions(ctx, depth)
	if err != nil {
		return fmt.Errorf("routing: %w", err)
	}
	var problem error
	for _, v := range list {
		if err = b.enforce(v); err == nil {
			break
		}
		if problem == nil {
			problem = err
		}
	}
	if problem != nil {
		b.failed(ctx, list[0].Version, problem)
	}
	ctx, b.cancel = context.WithCancel(context.WithoutCancel(ctx))
	b.done.Go(func() { b.follow(ctx) })
	return nil
}

// Stop ends the following, until ctx ends. It may be called before Start.
func (b *Book) Stop(ctx context.Context) error {
	if b.cancel != nil {
		b.cancel()
	}
	defer b.metrics.unregister()
	ended := make(chan struct{})
	go func() { b.done.Wait(); close(ended) }()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("routing: stop: %w", context.Cause(ctx))
	}
}

// Table is the rules in force. It is never nil.
func (b *Book) Table() *Table { return b.table.Load() }

// Status says what is in force here.
func (b *Book) Status() Status {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.status
}

// take waits for the right to change what is in force.
func (b *Book) take(ctx context.Context) (release func(), err error) {
	select {
	case b.changing <- struct{}{}:
		return func() { <-b.changing }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("routing: another change is under way: %w", context.Cause(ctx))
	}
}

// enforce brings a version into force, or says why it cannot.
func (b *Book) enforce(v Version) error {
	table, err := Parse(v.Document, b.cfg.Hosts)
	if err != nil {
		return fmt.Errorf("version %d of the routing, saved by %s on %s, cannot be followed here: %w", v.Version, v.SavedBy, v.Instance, err)
	}
	table.Version = v.Version
	b.table.Store(table)
	b.metrics.version.Set(float64(v.Version))
	b.metrics.problem.Set(0)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.status.Version, b.status.Problem = v, ""
	b.status.Stored = max(b.status.Stored, v.Version)
	return nil
}

// failed notes why the newest version is not in force; it tells once.
func (b *Book) failed(ctx context.Context, stored int64, err error) {
	b.metrics.problem.Set(1)
	b.mu.Lock()
	told := b.status.Problem == err.Error()
	b.status.Problem = err.Error()
	b.status.Stored = max(b.status.Stored, stored)
	inForce := b.status.Version.Version
	b.mu.Unlock()
	if !told {
		b.cfg.Log.ErrorContext(ctx, "alarm: routing: a saved version is not in force here; configure its hosts on this instance, or undo it",
			"version", stored, "in_force", inForce, "error", err)
	}
}

// metrics are what monitoring sees.
type metrics struct {
	version, away, problem prometheus.Gauge
	reg                    prometheus.Registerer
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	m := &metrics{
		version: gauge("keyward_route_version", "Version of the routing rules in force; 0: the hosts of the configuration in their order."),
		away:    gauge("keyward_route_database_away", "1 while newer routing rules cannot be seen."),
		problem: gauge("keyward_route_problem", "1 while the newest routing rules are not in force on this instance."),
		reg:     reg,
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range m.all() {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("routing: metrics: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.version, m.away, m.problem}
}

func (m *metrics) unregister() {
	if m.reg == nil {
		return
	}
	for _, c := range m.all() {
		m.reg.Unregister(c)
	}
}

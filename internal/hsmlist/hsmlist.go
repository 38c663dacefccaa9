// Package hsmlist keeps what the instances of one HSM group share through PostgreSQL (rows C2, C6, C10): the member list in versions,
// notices of a device that one of them has fenced, and the history of switches. Every instance goes on without the database: the list
// that it has stays in force, the history waits in memory, and a copy of the last list in a file serves a start.
package hsmlist

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyward/keyward/hsmclient/member"
	"github.com/keyward/keyward/internal/pgpool"
)

const (
	// poolSize is one connection that listens, one that reads and saves, one that writes history.
	poolSize = 3
	// queryTimeout bounds one statement.
	queryTimeout = 5 * time.Second
	// loadTimeout bounds the look at the database at start: the local copy serves then, and what is newer follows.
	loadTimeout = 4 * time.Second
	// applyTimeout bounds bringing the cluster to a list: removed members are drained.
	applyTimeout = 60 * time.Second
	// backoffMin and backoffMax are the pauses while the database is away.
	backoffMin = 200 * time.Millisecond
	backoffMax = 5 * time.Second
)

// ErrAway says that the database could not be asked. What is in force stays in force.
var ErrAway = errors.New("the database is away")

// Cluster is what the list needs of the HSM cluster.
type Cluster interface {
	Specs() []member.Spec
	Apply(ctx context.Context, act member.Act, specs []member.Spec) error
	ProbeSoon(name, reason string)
}

// Config says whose list it is. Group, Instance and URL are required.
type Config struct {
	Group    string // online or issuing
	Instance string // stable name of this instance
	URL      string // connection string of the service's role; no error repeats it
	// LocalCopy is the file with the last list; empty: none is kept.
	LocalCopy string
	// Retention bounds the age of history and notices; zero keeps everything.
	Retention time.Duration
	// Check refuses a member that this service must not have; nil refuses none. It guards lists that others have written.
	Check      func(member.Spec) error
	Log        *slog.Logger
	Registerer prometheus.Registerer
	Now        func() time.Time // nil: time.Now
}

// Origin is where the list in force came from.
type Origin string

// The origins.
const (
	Stored        Origin = "stored list"
	Copy          Origin = "local copy"
	Configuration Origin = "configuration"
)

// Version is one version of a list.
type Version struct {
	Group    string        `json:"group"`
	Version  int64         `json:"version"` // from 1
	Members  []member.Spec `json:"members"`
	SavedBy  string        `json:"saved_by"`
	Instance string        `json:"instance"` // where it was saved
	Reason   string        `json:"reason,omitempty"`
	SavedAt  time.Time     `json:"saved_at"`
}

// Status is the state of the list on this instance.
type Status struct {
	Group    string `json:"group"`
	Instance string `json:"instance"`
	Origin   Origin `json:"origin"`
	Version  int64  `json:"version"` // in force here; 0: no list was ever saved
	Stored   int64  `json:"stored"`  // the newest that was seen in the database
	// Unsaved says that the members differ from the version in force: the difference ends with the next start, or the next list.
	Unsaved      bool      `json:"unsaved"`
	DatabaseAway bool      `json:"database_away"`
	CheckedAt    time.Time `json:"checked_at,omitzero"` // when the database was last asked
	Problem      string    `json:"problem,omitempty"`   // why the newest list is not in force, or the local copy not written
}

// List is the shared list of one group on one instance. Use it once: New, Load, Start, Stop.
type List struct {
	cfg     Config
	pool    *pgxpool.Pool
	metrics *metrics
	history *history
	cancel  context.CancelFunc
	done    sync.WaitGroup
	// changing holds one token: a list is saved or applied by one at a time.
	changing chan struct{}

	mu        sync.Mutex // guards all below
	cluster   Cluster    // set by Start
	status    Status
	baseline  []byte // the members in force, as JSON
	lastFence int64  // -1 until the database was first asked
	// unreadable says that the newest list cannot be read; status.Problem has the cause.
	unreadable bool
}

// New prepares a list; nothing is connected before Load.
func New(cfg Config) (*List, error) {
	if cfg.Group == "" || cfg.Instance == "" || cfg.URL == "" {
		return nil, errors.New("hsm list: group, instance and connection string are required")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Check == nil {
		cfg.Check = func(member.Spec) error { return nil }
	}
	cfg.Log = cfg.Log.With("component", "hsmlist", "hsm_group", cfg.Group)
	pool, err := pgpool.Lazy(cfg.URL, poolSize)
	if err != nil {
		return nil, fmt.Errorf("hsm list: %w", err)
	}
	l := &List{
		cfg: cfg, pool: pool, changing: make(chan struct{}, 1), lastFence: -1,
		status: Status{Group: cfg.Group, Instance: cfg.Instance, Origin: Configuration},
	}
	if l.metrics, err = newMetrics(cfg.Registerer, cfg.Group); err != nil {
		pool.Close()
		return nil, err
	}
	l.history = newHistory(cfg, pool, l.metrics)
	return l, nil
}

// Start follows the list of the group for a cluster that runs with what Load returned, and writes the history.
func (l *List) Start(ctx context.Context, cluster Cluster) {
	ctx, l.cancel = context.WithCancel(context.WithoutCancel(ctx))
	specs, _ := encode(cluster.Specs()) // a cluster's own specs can be encoded
	l.mu.Lock()
	l.cluster, l.baseline = cluster, specs
	l.mu.Unlock()
	l.done.Go(func() { l.follow(ctx) })
	l.done.Go(func() { l.history.run(ctx) })
}

// Stop ends the following and writes what is left of the history, until ctx ends. It may be called before Start.
func (l *List) Stop(ctx context.Context) error {
	if l.cancel != nil {
		l.cancel()
	}
	ended := make(chan struct{})
	go func() { l.done.Wait(); close(ended) }()
	var err error
	select {
	case <-ended:
		l.history.flush(ctx)
	case <-ctx.Done():
		err = fmt.Errorf("hsm list: stop: %w", context.Cause(ctx))
	}
	closed := make(chan struct{})
	go func() { l.pool.Close(); close(closed) }()
	select {
	case <-closed:
	case <-ctx.Done(): // a connection that hangs is left behind
	}
	l.metrics.unregister(l.cfg.Registerer)
	return err
}

// OnSwitch takes an entry of the cluster's history; give it to the cluster. It never waits.
func (l *List) OnSwitch(s member.Switch) { l.history.add(s) }

// Status says which list is in force and whether there is something to save.
func (l *List) Status() Status {
	l.mu.Lock()
	s, cluster, baseline := l.status, l.cluster, l.baseline
	l.mu.Unlock()
	if cluster != nil {
		now, err := encode(cluster.Specs())
		s.Unsaved = err == nil && string(now) != string(baseline)
	}
	return s
}

// take waits for the right to change the list.
func (l *List) take(ctx context.Context) (release func(), err error) {
	select {
	case l.changing <- struct{}{}:
		return func() { <-l.changing }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("hsm list: another change is under way: %w", context.Cause(ctx))
	}
}

// inForce notes that a version rules now.
func (l *List) inForce(v Version, origin Origin, specs []member.Spec) {
	text, _ := encode(specs) // was decoded or encoded before
	problem := ""
	if err := l.writeCopy(v); err != nil {
		problem = err.Error()
		l.cfg.Log.Error("hsm list: the local copy is not written", "error", err)
	}
	l.metrics.version.Set(float64(v.Version))
	l.mu.Lock()
	defer l.mu.Unlock()
	l.status.Version, l.status.Origin, l.status.Problem, l.baseline = v.Version, origin, problem, text
	l.status.Stored = max(l.status.Stored, v.Version)
}

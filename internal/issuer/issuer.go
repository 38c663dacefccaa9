// Package issuer writes keys into PSAM cards (P1 to P4). It never talks to an HSM and holds no key: it asks the registry for a signed
// order, has the keys derived and the scripts made by the key service through posp, and carries the scripts to the card. The page
// to read first is flow.go.
package issuer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyward/keyward/internal/httpapi"
	"github.com/keyward/keyward/internal/pgpool"
	"github.com/keyward/keyward/internal/service"
)

const (
	stopTime = 3 * time.Second // of each part
	// drainTime lets runs under way end: a card takes seconds. What takes longer is cancelled and can be run again.
	drainTime = 15 * time.Second
	// startWait bounds the wait for the database at start.
	startWait = 45 * time.Second
	// runTimeout bounds one run: a dozen calls that each answer in well under a second, or after a time-out or two.
	runTimeout = 50 * time.Second
	// turnTimeout bounds the wait for a free place. Together with runTimeout it stays below the write time-out of the listener (90 s).
	turnTimeout = 30 * time.Second
	// maxRuns bounds the runs at once: a row of readers on one desk. Further requests wait for their turn.
	maxRuns = 8
)

// Options are the parts that the wiring chooses.
type Options struct {
	Config   Config
	Reader   Reader
	Log      *slog.Logger
	Registry *prometheus.Registry
}

// App is one issuer. Use it once: New, Start, Stop.
type App struct {
	opt      Options
	life     *service.Lifecycle
	ready    *service.Ready
	results  *prometheus.CounterVec // label result: personalised, refused, failed
	runs     runs                   // set by Start
	posp     *peer
	registry *peer
	server   *httpapi.Server
	turn     chan struct{} // one place for each run

	working context.Context //nolint:containedctx // It is the life of the runs, which outlive the requests that began them; it ends when they must be given up.
	giveUp  context.CancelFunc
	running sync.WaitGroup
}

// New prepares an app; nothing runs before Start.
func New(opt Options) (*App, error) {
	if opt.Reader == nil || opt.Log == nil || opt.Registry == nil {
		return nil, errors.New("issuer: reader, log and metrics registry are required")
	}
	a := &App{opt: opt, life: service.NewLifecycle(opt.Log), ready: &service.Ready{}, turn: make(chan struct{}, maxRuns)}
	a.results = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "keyward_issuer_runs_total", Help: "Cards that were asked for, by result."}, []string{"result"})
	if err := opt.Registry.Register(a.results); err != nil {
		return nil, fmt.Errorf("metrics of the issuer: %w", err)
	}
	var err, err2 error
	a.posp, err = newPeer("posp", opt.Config.POSP)
	a.registry, err2 = newPeer("registry", opt.Config.Registry)
	if err := errors.Join(err, err2); err != nil {
		return nil, err
	}
	a.working, a.giveUp = context.WithCancel(context.Background())
	return a, nil
}

// Start opens the database, then listens.
func (a *App) Start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
	cfg := a.opt.Config
	pool, err := pgpool.FromConfig(ctx, cfg.Database)
	if err != nil {
		return err
	}
	a.life.Add("database connections", stopTime, func(context.Context) error { pool.Close(); return nil })
	a.runs = runs{pool}
	a.ready.Add("database", pool.Ping)
	a.life.Add("connections to other services", stopTime, func(context.Context) error {
		a.posp.http.CloseIdleConnections()
		a.registry.http.CloseIdleConnections()
		return nil
	})
	a.life.Add("runs", stopTime, a.stopRuns)

	router, err := a.routes()
	if err != nil {
		return err
	}
	server := httpapi.ServerConfig{Name: "issuer API", Addr: cfg.Listen.Addr, Handler: router, Log: a.opt.Log}
	if t := cfg.Listen.TLS; t != nil {
		if server.TLS, err = httpapi.ServerTLS(t.Cert, string(t.Key), t.CA); err != nil {
			return err
		}
	}
	if a.server, err = httpapi.NewServer(server); err != nil {
		return err
	}
	if err := a.server.Start(ctx); err != nil {
		return err
	}
	a.life.Add("issuer API", drainTime, a.server.Stop)
	a.life.Go("issuer API listener", stopTime, a.server.Wait)
	return nil
}

// stopRuns gives up what did not end while the listener drained; such runs are recorded as failed and can be run again.
func (a *App) stopRuns(ctx context.Context) error {
	a.giveUp()
	ended := make(chan struct{})
	go func() {
		a.running.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("runs did not end: %w", context.Cause(ctx))
	}
}

// run waits for a turn and runs one card. The client's hanging up does not stop it: half a card helps nobody.
func (a *App) run(ctx context.Context, req request) (Issued, error) {
	waitCtx, stopWaiting := context.WithTimeout(ctx, turnTimeout)
	defer stopWaiting()
	select {
	case a.turn <- struct{}{}:
	case <-waitCtx.Done():
		return Issued{}, fmt.Errorf("wait for one of %d places: %w", maxRuns, waitCtx.Err())
	case <-a.working.Done():
		return Issued{}, errors.New("the issuer is stopping")
	}
	defer func() { <-a.turn }()
	a.running.Add(1)
	defer a.running.Done()
	runCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), runTimeout)
	defer cancel()
	defer context.AfterFunc(a.working, cancel)()
	return a.issue(runCtx, req)
}

// Addr is the address listened on, nil before Start.
func (a *App) Addr() net.Addr {
	if a.server == nil {
		return nil
	}
	return a.server.Addr()
}

// Stop lets runs under way end and stops the parts in reverse order.
func (a *App) Stop(ctx context.Context) error {
	a.ready.Drain()
	defer a.giveUp()
	return a.life.Stop(ctx)
}

// Wait returns when ctx ends, or with the error of a part that the service cannot go on without.
func (a *App) Wait(ctx context.Context) error { return a.life.Wait(ctx) }

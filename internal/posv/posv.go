// Package posv is the registry's service: the HTTP API over merchants, terminals, cards, bindings, orders and audit, and the
// console. The rules are in internal/registry and internal/posv/orders; the pages in internal/posv/console.
package posv

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyward/keyward/internal/hsmops"
	"github.com/keyward/keyward/internal/httpapi"
	"github.com/keyward/keyward/internal/order"
	"github.com/keyward/keyward/internal/pgpool"
	"github.com/keyward/keyward/internal/posv/console"
	"github.com/keyward/keyward/internal/posv/orders"
	"github.com/keyward/keyward/internal/registry"
	"github.com/keyward/keyward/internal/service"
)

const (
	// stopTime bounds the stop of each part; together they stay below what supervisors allow (30 s).
	stopTime = 10 * time.Second
	// startWait bounds the wait for the database at start.
	startWait = 45 * time.Second
	// callTimeout bounds the work on one request, so that a database that hangs does not hold requests for ever.
	callTimeout = 15 * time.Second
	// housekeepingEvery is how often old idempotency keys are removed.
	housekeepingEvery = time.Hour
)

// Options are what the wiring (cmd/posv) chooses.
type Options struct {
	Config   Config
	Log      *slog.Logger         // nil: nowhere
	Registry *prometheus.Registry // of the metrics
	Now      func() time.Time     // nil: time.Now; for the console's relative times
}

// App is one posv. Use it once: New, Start, Stop.
type App struct {
	opt     Options
	life    *service.Lifecycle
	ready   *service.Ready
	metrics *metrics
	pool    *pgxpool.Pool
	devices *registry.Store
	orders  *orders.Store
	console *console.Console
	guard   guard
	keys    *keyStore
	server  *httpapi.Server
	posps   map[string]*hsmops.Client // by name
}

// New prepares an app; nothing runs before Start.
func New(opt Options) (*App, error) {
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	m, err := newMetrics(opt.Registry)
	if err != nil {
		return nil, err
	}
	return &App{opt: opt, life: service.NewLifecycle(opt.Log), ready: &service.Ready{}, metrics: m}, nil
}

// Start brings the parts up in the order in which they need each other. It stays one function because each step needs values of
// earlier ones.
func (a *App) Start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
	cfg := a.opt.Config

	// Secrets first: what is missing is said before anything runs.
	signing, err := cfg.OrderKeyFile.Read()
	if err != nil {
		return fmt.Errorf("order_key_file: %w", err)
	}
	defer signing.Wipe()
	key, err := order.ParsePrivateKey(signing)
	if err != nil {
		return fmt.Errorf("order_key_file: %w", err)
	}
	if a.guard, err = newGuard(cfg); err != nil {
		return err
	}
	location, err := time.LoadLocation(cfg.Timezone)
	if err != nil {
		return fmt.Errorf("timezone: %w", err)
	}

	// The database, as posv's role.
	if a.pool, err = pgpool.FromConfig(ctx, cfg.Database); err != nil {
		return err
	}
	a.life.Add("database connections", stopTime, func(context.Context) error { a.pool.Close(); return nil })
	a.ready.Add("database", a.pool.Ping)
	a.devices, a.orders, a.keys = registry.New(a.pool), orders.New(a.pool, key), &keyStore{pool: a.pool}
	a.life.Go("housekeeping", stopTime, a.housekeep)

	if err := a.openPOSPs(); err != nil {
		return err
	}

	// The listener last: whoever is let in finds everything in place.
	if a.console, err = console.New(console.Options{Registry: a.devices, Location: location, Now: a.opt.Now, Log: a.opt.Log}); err != nil {
		return err
	}
	return a.listen(ctx)
}

func (a *App) listen(ctx context.Context) error {
	router, err := a.routes()
	if err != nil {
		return err
	}
	l := a.opt.Config.API
	cfg := httpapi.ServerConfig{Name: "registry API", Addr: l.Addr, Handler: router, Log: a.opt.Log}
	if l.TLS != nil {
		if cfg.TLS, err = httpapi.ServerTLS(l.TLS.Cert, string(l.TLS.Key), l.TLS.CA); err != nil {
			return fmt.Errorf("registry API: %w", err)
		}
	}
	if a.server, err = httpapi.NewServer(cfg); err != nil {
		return err
	}
	if err := a.server.Start(ctx); err != nil {
		return err
	}
	a.life.Add("registry API", stopTime, a.server.Stop)
	a.life.Go("listener watch", stopTime, a.server.Wait)
	return nil
}

// Stop ends the requests under way and stops the parts in reverse order.
func (a *App) Stop(ctx context.Context) error {
	a.ready.Drain()
	return a.life.Stop(ctx)
}

// Wait returns when ctx ends, or with the error of a part that the service cannot go on without.
func (a *App) Wait(ctx context.Context) error { return a.life.Wait(ctx) }

// Addr is the address listened on, nil before Start.
func (a *App) Addr() net.Addr {
	if a.server == nil {
		return nil
	}
	return a.server.Addr()
}

func (a *App) housekeep(ctx context.Context) error {
	tick := time.NewTicker(housekeepingEvery)
	defer tick.Stop()
	for {
		if err := a.keys.purge(ctx); err != nil && !errors.Is(err, context.Canceled) {
			a.opt.Log.WarnContext(ctx, "housekeeping failed, will be tried again", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
